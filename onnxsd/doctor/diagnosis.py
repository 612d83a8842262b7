"""From facts to findings."""

from __future__ import annotations

from onnxsd.doctor.case import Case, Check
from onnxsd.doctor.checks import CHECKS
from onnxsd.doctor.finding import Diagnosis, Severity
from onnxsd.doctor.instead import instead
from onnxsd.doctor.recommend import preparations, recommend
from onnxsd.errors import UsageError
from onnxsd.machine import Machine
from onnxsd.matrix import Goal, Matrix

_ORDER = tuple(Severity)


def diagnose(
    machine: Machine, matrix: Matrix, goal: Goal, *, checks: tuple[Check, ...] = CHECKS
) -> Diagnosis:
    """What the checks find on a machine, errors first, and the GPU release to install."""
    best = recommend(machine, matrix, goal)
    case = Case(machine=machine, matrix=matrix, goal=goal, recommendation=best)
    findings = [finding for check in checks for finding in check.run(case)]
    return Diagnosis(
        machine=machine,
        goal=goal,
        findings=tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.severity))),
        recommendation=best,
        preparations=preparations(machine, matrix),
        instead=() if best is not None and best.suffices else instead(machine, matrix),
    )


def check_called(check_id: str) -> Check:
    """The check with this id.

    Raises:
        UsageError: there is none; it names those that are spelt much like it.
    """
    found = next((check for check in CHECKS if check.id == check_id), None)
    if found is None:
        from difflib import get_close_matches  # here: nearly nobody needs it

        near = get_close_matches(check_id, [check.id for check in CHECKS])
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(
            f"there is no check called {check_id}", hint=f"{meant}`onnxsd doctor --list-checks` lists them"
        )
    return found
