"""`onnxsd doctor --symptom`: what an error text points to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from onnxsd.cli.doctor_json import print_json
from onnxsd.cli.doctor_paper import Paper
from onnxsd.errors import UsageError

if TYPE_CHECKING:
    from onnxsd.doctor.symptoms import Match

_OTHERS = 4  # named in a line each; more would bury the first
_STDIN = "-"
_COMMAND = "$ "


def show_symptom(text: str, *, as_json: bool) -> int:
    """Print the causes that a text (`-`: what comes on stdin) points to; 0 if there is one, else 1."""
    from onnxsd.doctor.symptoms import matches

    found = matches(_stdin() if text == _STDIN else text)
    if as_json:
        print_json({"schema": 1, "matches": [match.to_json() for match in found]})
    elif found:
        _print_matches(Paper(), found)
    else:
        _print_nothing(Paper())
    return 0 if found else 1


def _stdin() -> str:
    if sys.stdin is None:  # closed before Python started
        raise UsageError(
            "--symptom - reads stdin, which is closed", hint="pipe the text in, or give it as TEXT"
        )
    return sys.stdin.buffer.read().decode("utf-8", errors="replace")  # a log may hold anything


def _print_matches(paper: Paper, found: tuple[Match, ...]) -> None:
    first, *others = found
    for line in first.seen:
        paper.prose(line, indent=2, hang=2, dim=True)
    paper.line()
    mark = {"cause": "error", "failure": "warning", "harmless": "info"}[first.symptom.says.value]
    paper.marked(mark, first.symptom.cause, tag=f"[{first.symptom.id}]")
    for step in first.symptom.remedies:
        if step.startswith(_COMMAND):
            paper.command(step.removeprefix(_COMMAND), indent=4)
        else:
            paper.marked("step", step, indent=2)
    paper.prose(f"source: {first.symptom.source}", indent=2, hang=2, dim=True)
    if first.symptom.check:
        paper.line()
        paper.line("Whether it is so on this machine:")
        paper.command(f"onnxsd doctor --check {first.symptom.check}")
    if others:
        paper.line()
        paper.line("The text also shows:")
        for match in others[:_OTHERS]:
            paper.marked("info", match.symptom.cause, indent=2, tag=f"[{match.symptom.id}]")
        if len(others) > _OTHERS:
            paper.line(f"  and {len(others) - _OTHERS} more (--json)")


def _print_nothing(paper: Paper) -> None:
    paper.marked("unknown", "the catalogue has no symptom with these words")
    paper.prose("Give the whole text: the cause often stands many lines above the error.", indent=2)
    paper.prose("This looks at the machine itself, whatever the text says:", indent=2)
    paper.command("onnxsd doctor", indent=4)
    paper.prose("If that finds nothing either, report the text together with this file:", indent=2)
    paper.command("onnxsd doctor --save-facts facts.json", indent=4)
