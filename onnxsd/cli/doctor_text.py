"""How a diagnosis reads on a terminal, and in a pipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from onnxsd.doctor import ByHand, Diagnosis, Finding, Recommendation, Severity

if TYPE_CHECKING:
    from onnxsd.doctor.case import Check
    from onnxsd.machine import Machine

_MARKS = {
    Severity.ERROR: ("✗", "x", "bold red"),
    Severity.WARNING: ("!", "!", "bold yellow"),
    Severity.UNKNOWN: ("?", "?", "bold magenta"),
    Severity.INFO: ("·", "-", "cyan"),
}
_GIB = 1 << 30
_SHOWN_REJECTIONS = 3


def print_json(plain: dict[str, Any]) -> None:
    """Print one JSON object and nothing else."""
    click.echo(json.dumps(plain, indent=2, ensure_ascii=False))


def print_checks(checks: Sequence[Check], *, as_json: bool) -> None:
    """Print each check's id and first line."""
    if as_json:
        print_json({"schema": 1, "checks": [{"id": check.id, "title": check.title} for check in checks]})
        return
    width = max(len(check.id) for check in checks)
    console = _console()
    for check in checks:
        _line(console, f"[bold]{check.id.ljust(width)}[/bold]  {escape(check.title)}")


def print_page(check: Check, *, as_json: bool) -> None:
    """Print what a check means."""
    if as_json:
        print_json({"schema": 1, "id": check.id, "title": check.title, "page": check.page})
        return
    console = _console()
    _line(console, f"[bold]{check.id}[/bold]\n")
    _line(console, escape(check.page))


def print_diagnosis(diagnosis: Diagnosis, *, strict: bool) -> None:
    """Print the machine, what was found on it, what to install, and the verdict."""
    console = _console()
    for name, value in _facts(diagnosis.machine):
        _line(console, f"[dim]{name.ljust(8)}[/dim] {escape(value)}")
    for finding in diagnosis.findings:
        console.print()
        _print_finding(console, finding)
    if diagnosis.recommendation is not None:
        console.print()
        _print_recommendation(console, diagnosis.recommendation)
    console.print()
    _print_verdict(console, diagnosis, strict=strict)


def _console() -> Console:
    """Coloured on a terminal, plain in a pipe, where no line is broken for a width that nobody has."""
    console = Console(highlight=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=10_000)


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)


def _facts(machine: Machine) -> Iterator[tuple[str, str]]:
    libc = f", glibc {machine.glibc}" if machine.glibc else f", musl {machine.musl}" if machine.musl else ""
    yield "system", f"{machine.os.value} {machine.arch.value}{libc}"
    python = machine.python
    place = f"{python.abi}, {python.environment.value}"
    yield "python", f"{python.version} ({place}), pip {machine.pip or 'absent'}"
    unreadable = machine.reason_unreadable("gpus")
    if unreadable:
        yield "gpu", f"could not be read: {unreadable}"
    elif not machine.gpus:
        yield "gpu", "no NVIDIA GPU"
    for gpu in machine.gpus:
        memory = f", {gpu.memory_bytes / _GIB:.0f} GiB" if gpu.memory_bytes else ""
        major, minor = gpu.compute_capability
        yield "gpu", f"{gpu.name} ({major}.{minor}{memory}), driver {machine.driver or 'unknown'}"
    runtimes = ", ".join(f"{one.name} {one.version}" for one in machine.owners_of("onnxruntime"))
    yield "runtime", runtimes or "not installed"
    for probe in machine.probes or ():
        yield "probe", f"{probe.provider.value}: {probe.outcome.value}"


def _print_finding(console: Console, finding: Finding) -> None:
    mark, plain_mark, style = _MARKS[finding.severity]
    sign = mark if console.encoding.startswith("utf") else plain_mark
    _line(
        console, f"[{style}]{sign} {escape(finding.summary)}[/{style}] [dim]{escape(f'[{finding.id}]')}[/dim]"
    )
    console.print(Padding(escape(finding.because), (0, 0, 0, 2), expand=False))
    for line in finding.evidence:
        console.print(Padding(f"[dim]{escape(line)}[/dim]", (0, 0, 0, 4), expand=False))
    for remedy in finding.remedies:
        if isinstance(remedy, ByHand):
            for step in remedy.steps:
                _line(console, f"  [green]{'→' if mark == sign else '->'}[/green] {escape(step)}")
        for command in remedy.commands:
            _line(console, f"    [bold green]$[/bold green] {escape(command)}")


def _print_recommendation(console: Console, best: Recommendation) -> None:
    verdict = "fits this machine" if best.suffices else "is the newest that fits, and is not enough"
    _line(console, f"[bold]{escape(best.requirement)}[/bold] {verdict} [dim]({best.wheel_tag})[/dim]")
    for one in best.rejected[:_SHOWN_REJECTIONS]:
        plain = one.to_json()
        console.print(
            Padding(f"[dim]not {one.version}: {escape(plain['reason'])}[/dim]", (0, 0, 0, 2), expand=False)
        )
    more = len(best.rejected) - _SHOWN_REJECTIONS
    if more > 0:
        _line(console, f"  [dim]nor {more} others (--json lists them)[/dim]")
    for command in best.commands:
        _line(console, f"    [bold green]$[/bold green] {escape(command)}")


def _print_verdict(console: Console, diagnosis: Diagnosis, *, strict: bool) -> None:
    count = {one: sum(found.severity is one for found in diagnosis.findings) for one in Severity}
    told = ", ".join(
        f"{number} {one.value}{'s' if number > 1 and one is not Severity.UNKNOWN else ''}"
        for one, number in count.items()
        if number and one is not Severity.INFO
    )
    goal = diagnosis.goal.value
    if diagnosis.exit_code(strict=strict):
        _line(console, f"[bold red]not ready to {goal}[/bold red]: {told}")
    else:
        _line(console, f"[bold green]ready to {goal}[/bold green]" + (f" ({told})" if told else ""))
