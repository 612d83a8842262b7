"""`onnxsd doctor --apply`: show the plan, ask, run it, look again, and say what changed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from onnxsd.cli.doctor_paper import Paper
from onnxsd.cli.doctor_plan import shell_of
from onnxsd.doctor.apply import Applied, Change, Ending, compare, refuse_where_the_system_owns, run
from onnxsd.doctor.plan import plan_of, steps_for
from onnxsd.doctor.shells import line
from onnxsd.doctor.symptoms import Says, matches
from onnxsd.errors import NotReadyError, ResourceError

if TYPE_CHECKING:
    from onnxsd.doctor import Diagnosis, Finding
    from onnxsd.doctor.actions import Step
    from onnxsd.doctor.shells import Shell


def apply_plan(
    before: Diagnosis, look_again: Callable[[], Diagnosis], *, ask: bool
) -> tuple[Diagnosis, dict[str, Any]]:
    """Run the plan, look again, and say on stderr what changed: the second diagnosis, and the change as JSON.

    Raises:
        NotReadyError: this Python is the system's, or a command failed.
        ResourceError: a command met a full disk, a missing network or a missing permission.
        click.Abort: nobody answered, or a command was interrupted.
    """
    paper = Paper(err=True)
    refuse_where_the_system_owns(before)
    steps = steps_for(plan_of(before), before.machine)
    if not steps:
        paper.prose("There is nothing here that pip could mend.")
        return before, _plain((), compare(before, before))
    shell = shell_of(before)
    _show(paper, steps, shell)
    if ask and not _agreed(paper):
        return before, _plain((), compare(before, before))
    applied = run(steps, announce=lambda at, step: _announce(paper, at, len(steps), step, shell))
    if applied.ending is not Ending.DONE:
        _stop(paper, applied, shell)
    paper.line("\nLooking again …" if paper.unicode else "\nLooking again ...")
    after = look_again()
    change = compare(before, after)
    _report(paper, change)
    return after, _plain(applied.done, change)


def _show(paper: Paper, steps: Sequence[Step], shell: Shell) -> None:
    paper.line("The plan:", bold=True)
    for step in steps:
        paper.prose(step.why, indent=2, dim=True)
        paper.command(line(step.argv, shell))


def _agreed(paper: Paper) -> bool:
    try:
        if sys.stdin is None:  # closed before Python started
            raise click.Abort
        agreed = click.confirm("Run this?", err=True)
    except click.Abort:
        paper.line("nothing was changed; --yes runs the plan without asking")
        raise
    if not agreed:
        paper.line("nothing was changed")
    return agreed


def _announce(paper: Paper, at: int, count: int, step: Step, shell: Shell) -> None:
    paper.line(f"\n[{at + 1}/{count}] {line(step.argv, shell)}", bold=True)


def _stop(paper: Paper, applied: Applied, shell: Shell) -> NoReturn:
    """Say how far it came, and end with what stopped it."""
    stopped = applied.stopped_at
    assert stopped is not None, "only a plan that was done has no such step"
    command = line(stopped.argv, shell)
    paper.line()
    for title, steps in (("done", applied.done), ("not begun", applied.left)):
        for step in steps:
            paper.line(f"{title}: {line(step.argv, shell)}")
    if applied.ending is Ending.INTERRUPTED:
        paper.line(f"interrupted: {command}", colour="red", bold=True)
        paper.prose("Packages may be missing now. `onnxsd doctor --apply` goes on from here.")
        raise click.Abort
    code = (
        f"ended with exit code {applied.code}" if applied.code is not None else f"cannot run: {applied.said}"
    )
    message, hint = f"{command} {code}", _advice(applied)
    if applied.ending is Ending.NO_RESOURCE:
        raise ResourceError(message, hint=hint)
    raise NotReadyError(message, hint=hint)


def _advice(applied: Applied) -> str:
    """What to do about a command that failed; by the catalogue of symptoms, where its words are there."""
    causes = [one.symptom for one in matches(applied.said) if one.symptom.says is Says.CAUSE]
    if causes:
        return f"{causes[0].cause} `onnxsd doctor --symptom -` takes its output and says what to do"
    if applied.ending is Ending.NO_RESOURCE:
        return "mend the disk, the network or the permission that its output names, then run this again"
    if applied.ending is Ending.NOT_FOUND:
        return "install pip: python -m ensurepip --upgrade"
    return "its output says why; run `onnxsd doctor` to see how it stands now"


def _report(paper: Paper, change: Change) -> None:
    for mark, title, findings in (
        ("good", "gone", change.gone),
        ("error", "new", change.new),
        ("warning", "left", change.stayed),
    ):
        for finding in findings:
            paper.marked(mark, f"{title}: {finding.summary}", tag=f"[{finding.id}]")


def _plain(done: Sequence[Step], change: Change) -> dict[str, Any]:
    def ids(findings: Sequence[Finding]) -> list[str]:
        return [finding.id for finding in findings]

    return {
        "steps": [{"why": step.why, "argv": list(step.argv)} for step in done],
        "gone": ids(change.gone),
        "new": ids(change.new),
        "left": ids(change.stayed),
    }
