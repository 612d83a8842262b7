"""What `onnxsd doctor` was asked for, and which answer that gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxsd.cli.doctor_json import print_json
from onnxsd.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from onnxsd.doctor import Diagnosis
    from onnxsd.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options as they were given."""

    goal: str
    as_json: bool
    strict: bool
    facts: Path | None
    save_facts: Path | None
    settings: tuple[str, ...]
    python: str | None
    no_probe: bool
    check_id: str | None
    list_checks: bool
    explain: str | None
    symptom: str | None
    apply: bool
    yes: bool
    shell: str | None
    wheel_list: bool
    dockerfile: bool

    @property
    def plan_as(self) -> tuple[str, ...]:
        """The options that ask for the plan alone."""
        wanted = {"--shell": self.shell, "--wheel-list": self.wheel_list, "--dockerfile": self.dockerfile}
        return tuple(name for name, value in wanted.items() if value)


def answer(asked: Asked) -> int:
    """Print what was asked for; the exit code."""
    _refuse_contradictions(asked)
    if asked.list_checks or asked.explain:
        return _describe(asked)
    if asked.symptom is not None:
        from onnxsd.cli.doctor_symptom import show_symptom

        return show_symptom(asked.symptom, as_json=asked.as_json)
    diagnosis = look(asked)
    if asked.save_facts:
        _save(diagnosis.machine, asked.save_facts)
    return _show(asked, diagnosis)


def look(asked: Asked) -> Diagnosis:
    """The diagnosis of the machine that was asked for."""
    from onnxsd import doctor, matrix

    checks = (doctor.check_called(asked.check_id),) if asked.check_id else doctor.CHECKS
    return doctor.diagnose(_machine(asked), matrix.load(), matrix.Goal(asked.goal), checks=checks)


def _show(asked: Asked, diagnosis: Diagnosis) -> int:
    if asked.plan_as:
        from onnxsd.cli.doctor_plan import print_plan

        return print_plan(asked, diagnosis)
    changed: dict[str, Any] = {}
    if asked.apply:
        from onnxsd.cli.doctor_apply import apply_plan

        if not asked.as_json:
            _print(asked, diagnosis)
        diagnosis, changed["applied"] = apply_plan(diagnosis, lambda: look(asked), ask=not asked.yes)
    if asked.as_json:
        print_json({**diagnosis.to_json(strict=asked.strict), **changed})
    else:
        _print(asked, diagnosis)
    return diagnosis.exit_code(strict=asked.strict)


def _print(asked: Asked, diagnosis: Diagnosis) -> None:
    from onnxsd.cli.doctor_text import print_diagnosis

    here = not (asked.facts or asked.settings or asked.python)
    print_diagnosis(diagnosis, strict=asked.strict, here=here, only=asked.check_id)


def _describe(asked: Asked) -> int:
    from onnxsd import doctor
    from onnxsd.cli.doctor_checks import print_checks, print_page

    if asked.explain:
        print_page(doctor.check_called(asked.explain), as_json=asked.as_json)
    else:
        print_checks(doctor.CHECKS, as_json=asked.as_json)
    return 0


def _machine(asked: Asked) -> Machine:
    from onnxsd import machine

    if asked.facts:
        seen = machine.load(asked.facts)
    else:
        seen = machine.snapshot(probe=not (asked.no_probe or asked.settings), python=asked.python)
    return machine.with_settings(seen, asked.settings) if asked.settings else seen


def _save(seen: Machine, path: Path) -> None:
    from onnxsd import machine

    try:
        machine.save(seen, path)
    except OSError as error:
        raise ResourceError(
            f"cannot write the facts to {path}: {error.strerror or error}", hint="name another file"
        ) from error
    click.echo(f"wrote the facts to {path}", err=True)


def _refuse_contradictions(asked: Asked) -> None:
    if asked.facts and asked.python:
        raise UsageError(
            "--facts judges a saved machine and --python one that is here", hint="give one of them"
        )
    if asked.yes and not asked.apply:
        raise UsageError("--yes answers what --apply asks", hint="give --apply too")
    if asked.apply and (asked.facts or asked.settings):
        raise UsageError(
            "--apply changes this machine, and --facts or --set judge another",
            hint="leave one out; --shell bash prints the commands for the other machine",
        )
    plans = (*asked.plan_as, *(("--apply",) if asked.apply else ()))
    if len(plans) > 1:
        raise UsageError(f"{' and '.join(plans)} each answer in their own way", hint="give one of them")
    _refuse_a_machine_for_what_needs_none(asked)


def _refuse_a_machine_for_what_needs_none(asked: Asked) -> None:
    """Options that would be passed over in silence."""
    answers = {"--list-checks": asked.list_checks, "--explain": asked.explain, "--symptom": asked.symptom}
    about_machines = {
        "--facts": asked.facts,
        "--save-facts": asked.save_facts,
        "--set": asked.settings,
        "--python": asked.python,
        "--check": asked.check_id,
        "--apply": asked.apply,
        **dict.fromkeys(asked.plan_as, True),
    }
    given = [name for name, value in answers.items() if value or value == ""]
    others = [name for name, value in about_machines.items() if value]
    if given and len(given) + len(others) > 1:
        raise UsageError(
            f"{given[0]} looks at no machine and answers alone, without {', '.join([*given[1:], *others])}",
            hint="run the doctor once for each",
        )
