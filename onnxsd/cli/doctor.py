"""`onnxsd doctor`: look at a machine, or at a saved one, and say what stops it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from onnxsd.machine import Machine


@click.command("doctor")
@click.option(
    "--for",
    "goal",
    type=click.Choice(["generate", "export"]),
    default="generate",
    show_default=True,
    help="What the machine must be ready for.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the diagnosis as one JSON object.")
@click.option(
    "--facts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge a saved machine, not this one.",
)
@click.option(
    "--save-facts",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write what was seen to a file: the bug report.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a fact before judging, repeatable: os, arch, glibc, musl, python, free_threaded, pip, "
    "driver, gpu=NAME:CC, package=NAME==VERSION.",
)
@click.option("--no-probe", is_flag=True, help="Read only: start no process that imports onnxruntime.")
@click.option("--check", "check_id", metavar="ID", help="Run one check.")
@click.option("--strict", is_flag=True, help="Let warnings count as errors.")
@click.option("--list-checks", is_flag=True, help="List the checks.")
@click.option("--explain", metavar="ID", help="Say what a check means, why, and where that is known from.")
@click.pass_context
def command(
    ctx: click.Context,
    goal: str,
    as_json: bool,
    facts: Path | None,
    save_facts: Path | None,
    settings: tuple[str, ...],
    no_probe: bool,
    check_id: str | None,
    strict: bool,
    list_checks: bool,
    explain: str | None,
) -> None:
    """Say what stops this machine, and how to fix it.

    Exits with 0 when the machine is ready, with 1 when something stops it.
    """
    from onnxsd import doctor, matrix
    from onnxsd.cli.doctor_text import print_checks, print_diagnosis, print_json, print_page

    if list_checks:
        print_checks(doctor.CHECKS, as_json=as_json)
        return
    if explain:
        print_page(doctor.check_called(explain), as_json=as_json)
        return
    checks = (doctor.check_called(check_id),) if check_id else doctor.CHECKS
    seen = _machine(facts, settings, probe=not no_probe)
    if save_facts:
        _save(seen, save_facts)
    diagnosis = doctor.diagnose(seen, matrix.load(), matrix.Goal(goal), checks=checks)
    if as_json:
        print_json(diagnosis.to_json(strict=strict))
    else:
        print_diagnosis(diagnosis, strict=strict)
    ctx.exit(diagnosis.exit_code(strict=strict))


def _machine(facts: Path | None, settings: tuple[str, ...], *, probe: bool) -> Machine:
    from onnxsd import machine

    seen = machine.load(facts) if facts else machine.snapshot(probe=probe and not settings)
    return machine.with_settings(seen, settings) if settings else seen


def _save(seen: Machine, path: Path) -> None:
    from onnxsd import machine
    from onnxsd.errors import ResourceError

    try:
        machine.save(seen, path)
    except OSError as error:
        raise ResourceError(
            f"cannot write the facts to {path}: {error.strerror or error}", hint="name another file"
        ) from error
    click.echo(f"wrote the facts to {path}", err=True)
