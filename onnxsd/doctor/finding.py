"""What the doctor found and what to do about it, as values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from onnxsd.doctor.actions import Action
from onnxsd.doctor.instead import Instead
from onnxsd.doctor.recommend import Recommendation
from onnxsd.doctor.remedy import ByHand, Pip
from onnxsd.machine import Machine
from onnxsd.matrix import Goal
from onnxsd.records import encode

__all__ = ["SCHEMA", "ByHand", "Diagnosis", "Finding", "Pip", "Severity"]

SCHEMA = 1


class Severity(enum.Enum):
    """How much a finding matters; `unknown` is "could not check", never a pass."""

    ERROR = "error"
    WARNING = "warning"
    UNKNOWN = "unknown"
    INFO = "info"


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
    preparations: tuple[Action, ...] = ()  # what a plan begins with, if it changes anything
    instead: tuple[Instead, ...] = ()  # where no GPU release suffices

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
            **({"instead": [one.to_json() for one in self.instead]} if self.instead else {}),
            "exit_code": self.exit_code(strict=strict),
        }
