"""What the doctor found and what to do about it, as values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from onnxsd.doctor.recommend import Recommendation, quoted
from onnxsd.machine import Machine
from onnxsd.matrix import Goal
from onnxsd.records import encode

SCHEMA = 1


class Severity(enum.Enum):
    """How much a finding matters; `unknown` is "could not check", never a pass."""

    ERROR = "error"
    WARNING = "warning"
    UNKNOWN = "unknown"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pip:
    """Packages to remove, and requirements to install after that."""

    uninstall: tuple[str, ...] = ()
    install: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands to run, in order."""
        lines = []
        if self.uninstall:
            lines.append("python -m pip uninstall -y " + " ".join(self.uninstall))
        if self.install:
            lines.append("python -m pip install " + " ".join(quoted(item) for item in self.install))
        return tuple(lines)

    def to_json(self) -> dict[str, Any]:
        """The remedy as plain values."""
        return {"kind": "pip", "commands": list(self.commands)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """What only a person can do: a driver, an operating system, another Python."""

    steps: tuple[str, ...]
    commands: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The remedy as plain values."""
        return {"kind": "by-hand", "steps": list(self.steps), "commands": list(self.commands)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a check saw; `id` is the check's, which `--explain` takes."""

    id: str = ""
    severity: Severity
    summary: str
    because: str
    evidence: tuple[str, ...] = ()
    remedies: tuple[Pip | ByHand, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The finding as plain values."""
        return {
            "id": self.id,
            "severity": self.severity.value,
            "summary": self.summary,
            "because": self.because,
            "evidence": list(self.evidence),
            "remedies": [remedy.to_json() for remedy in self.remedies],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything that was found on a machine for a goal."""

    machine: Machine
    goal: Goal
    findings: tuple[Finding, ...]
    recommendation: Recommendation | None

    def exit_code(self, *, strict: bool = False) -> int:
        """1 if anything stops the machine (`strict`: or is a warning), else 0."""
        stops = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
        return int(any(finding.severity in stops for finding in self.findings))

    def to_json(self, *, strict: bool = False) -> dict[str, Any]:
        """The diagnosis as plain values: what `--json` prints."""
        return {
            "schema": SCHEMA,
            "machine": encode(self.machine),
            "goal": self.goal.value,
            "findings": [finding.to_json() for finding in self.findings],
            "recommendation": self.recommendation.to_json() if self.recommendation else None,
            "exit_code": self.exit_code(strict=strict),
        }
