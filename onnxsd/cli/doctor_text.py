"""How a diagnosis reads: the machine, what stops it, the commands to copy, and the verdict last."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from onnxsd.cli.doctor_machine import facts_of
from onnxsd.cli.doctor_paper import Paper
from onnxsd.cli.doctor_plan import commands_of, shell_of
from onnxsd.doctor import ByHand, Diagnosis, Finding, Recommendation, Rejected, Severity
from onnxsd.errors import NotReadyError

_EVIDENCE_LINES = 3
_EVIDENCE_LENGTH = 240  # characters of one line
_REJECTED_REASONS = 4
_WHOLE = 3  # findings that are told whole
# The probe forbids the fallback, so this line says nothing about the machine.
_OUR_OWN = "fallback to CPU EP has been explicitly disabled"
# What onnxruntime writes before its words: time, severity and source file, and the place where it was thrown.
_LOG_PREFIX = re.compile(r"^(?:\d{4}-\d\d-\d\d \S+ )?\[[A-Z]:onnxruntime:[^\]]*\]\s*(?:/\S+:\d+ )?")


def print_diagnosis(
    diagnosis: Diagnosis, *, strict: bool, here: bool = True, only: str | None = None
) -> None:
    """Print the machine, what was found on it, what to run, and the verdict.

    Args:
        here: whether the machine is this one, which `--apply` could change.
        only: the one check that was made; then nothing is said of what was not looked at.
    """
    paper = Paper()
    for name, value in facts_of(diagnosis.machine):
        paper.prose(f"{name.ljust(8)} {value}", hang=9)
    _print_findings(paper, _ranked(diagnosis.findings))
    for reason, checks in _unmade(diagnosis.findings):
        paper.line()
        _print_unmade(paper, reason, checks)
    if diagnosis.recommendation is not None and only is None:
        paper.line()
        _print_recommendation(paper, diagnosis.recommendation)
    _print_plan(paper, diagnosis, here=here)
    paper.line()
    if only is None:
        print_verdict(paper, diagnosis, strict=strict)
    else:
        paper.line(f"{only}: {', '.join(_counts(diagnosis.findings)) or 'nothing that matters'}", bold=True)


def _print_findings(paper: Paper, findings: list[Finding]) -> None:
    """The first ones whole, the others by their headline; what to do by hand is said once."""
    said: set[str] = set()
    for at, finding in enumerate(findings):
        if at <= _WHOLE:
            paper.line()
        paper.marked(finding.severity.value, finding.summary, tag=f"[{finding.id}]")
        if at < _WHOLE:
            _print_reason(paper, finding)
        _print_steps(paper, finding, said)


def _print_reason(paper: Paper, finding: Finding) -> None:
    paper.prose(finding.because, indent=2)
    told = [line for line in finding.evidence if _OUR_OWN not in line] or finding.evidence
    lines = list(dict.fromkeys(told))  # eight GPUs may say the same
    for line in lines[:_EVIDENCE_LINES]:
        paper.prose(_folded(line), indent=4, hang=2, dim=True)
    if len(lines) > _EVIDENCE_LINES:
        paper.prose(f"and {len(lines) - _EVIDENCE_LINES} more (--json)", indent=4, dim=True)


def _print_steps(paper: Paper, finding: Finding, said: set[str]) -> None:
    by_hand = [remedy for remedy in finding.remedies if isinstance(remedy, ByHand)]
    for remedy in by_hand:
        for step in remedy.steps:
            if step not in said:
                paper.marked("step", step, indent=2)
        for command in remedy.commands:
            if command not in said:
                paper.command(command, indent=4)
        said.update(remedy.steps, remedy.commands)


def print_verdict(paper: Paper, diagnosis: Diagnosis, *, strict: bool) -> None:
    """Print in one line whether the machine is ready, and how much was found."""
    told = ", ".join(_counts(diagnosis.findings))
    goal = diagnosis.goal.value
    if diagnosis.exit_code(strict=strict):
        paper.line(f"not ready to {goal}: {told}", colour="red", bold=True)
    elif any(finding.severity is Severity.UNKNOWN for finding in diagnosis.findings):
        paper.line(f"ready to {goal}, as far as could be seen ({told})", colour="yellow", bold=True)
    else:
        paper.line(f"ready to {goal}" + (f" ({told})" if told else ""), colour="green", bold=True)


def _counts(findings: Iterable[Finding]) -> Iterable[str]:
    severities = [finding.severity for finding in findings]
    for severity, one, many in (
        (Severity.ERROR, "error", "errors"),
        (Severity.WARNING, "warning", "warnings"),
        (Severity.UNKNOWN, "check not made", "checks not made"),
    ):
        count = severities.count(severity)
        if count:
            yield f"{count} {one if count == 1 else many}"


def _ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then remarks; in each as the checks stand, causes before what follows."""
    order = (Severity.ERROR, Severity.WARNING, Severity.INFO)
    known = [finding for finding in findings if finding.severity in order]
    return sorted(known, key=lambda one: order.index(one.severity))


def _unmade(findings: Iterable[Finding]) -> list[tuple[str, list[str]]]:
    """The checks that could not be made, by the reason."""
    groups: dict[str, list[str]] = {}
    for finding in findings:
        if finding.severity is Severity.UNKNOWN:
            groups.setdefault(finding.because, []).append(finding.id)
    return list(groups.items())


def _print_unmade(paper: Paper, reason: str, checks: list[str]) -> None:
    count = "1 check" if len(checks) == 1 else f"{len(checks)} checks"
    paper.marked("unknown", f"{count} could not be made: {reason}")
    paper.prose(", ".join(checks), indent=2, dim=True)


def _print_recommendation(paper: Paper, best: Recommendation) -> None:
    if best.suffices:
        paper.marked("good", f"{best.requirement} fits this machine")
    else:
        paper.marked("warning", f"{best.requirement} is the newest that fits this machine, and is not enough")
    for remark in best.remarks:
        paper.prose(remark, indent=2)
    reasons = _reasons(best.rejected)
    for versions, reason in reasons[:_REJECTED_REASONS]:
        paper.prose(f"not {versions}: {reason}", indent=2, hang=2, dim=True)
    if len(reasons) > _REJECTED_REASONS:
        paper.prose(f"and {len(reasons) - _REJECTED_REASONS} more reasons (--json)", indent=2, dim=True)
    for way in best.ways:
        enough = "" if way.suffices else ", not enough either"
        paper.marked(
            "step", f"{way.change} would give {way.version} (CUDA {way.cuda_major}){enough}", indent=2
        )


def _print_plan(paper: Paper, diagnosis: Diagnosis, *, here: bool) -> None:
    try:
        lines = commands_of(diagnosis, shell_of(diagnosis))
    except NotReadyError as error:  # what two checks ask for cannot be together: a person decides
        paper.line()
        paper.marked("warning", f"no plan: {error}")
        return
    if not lines:
        return
    paper.line()
    runs = here and not diagnosis.machine.python.externally_managed  # which `--apply` refuses
    paper.line(f"{_purpose(diagnosis)}{' (`onnxsd doctor --apply` runs this)' if runs else ''}:", bold=True)
    for line in lines:
        if line.startswith("#"):
            paper.prose(line.lstrip("# "), indent=2, dim=True)
        else:
            paper.command(line)


def _purpose(diagnosis: Diagnosis) -> str:
    """What the commands are for: packages do not mend what stands in the way of every release."""
    best = diagnosis.recommendation
    cpu_only = bool(diagnosis.machine.gpus) and (best is None or not best.suffices)
    return "Until then, on the CPU" if cpu_only else "To mend it"


def _reasons(rejected: tuple[Rejected, ...]) -> list[tuple[str, str]]:
    """Each reason against newer releases, with those that it holds for: `1.28.0 to 1.31.1`."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(rejected):
        for obstacle in one.obstacles:
            places.setdefault(obstacle.reason, []).append(place)
    return [(_span(rejected, found), reason) for reason, found in places.items()]


def _span(rejected: tuple[Rejected, ...], places: list[int]) -> str:
    """Releases, newest first, as ranges of neighbours."""
    runs = itertools.groupby(enumerate(places), key=lambda pair: pair[1] - pair[0])
    spans = []
    for _, run in runs:
        here = [rejected[place].version for _, place in run]
        spans.append(str(here[0]) if len(here) == 1 else f"{here[-1]} to {here[0]}")
    return ", ".join(spans)


def _folded(line: str) -> str:
    bare = _LOG_PREFIX.sub("", line.strip())
    return bare if len(bare) <= _EVIDENCE_LENGTH else bare[:_EVIDENCE_LENGTH].rstrip() + " …"
