"""The plan alone: for a shell, as wheels to carry to a machine without network, as a container recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from onnxsd.cli.doctor_json import print_json
from onnxsd.doctor.plan import Shell, dockerfile, installer_of, plan_of, render, wheel_list
from onnxsd.machine import OperatingSystem

if TYPE_CHECKING:
    from onnxsd.cli.doctor_answer import Asked
    from onnxsd.doctor import Diagnosis

_COMMENT = "#"


def shell_of(diagnosis: Diagnosis) -> Shell:
    """The shell that people on the machine have: PowerShell on Windows, else bash."""
    return Shell.POWERSHELL if diagnosis.machine.os is OperatingSystem.WINDOWS else Shell.BASH


def commands_of(diagnosis: Diagnosis, shell: Shell) -> list[str]:
    """The plan's lines for a shell: each command below a comment with its reason; none if nothing is to do.

    Raises:
        NotReadyError: two findings ask for what cannot be together.
    """
    return render(plan_of(diagnosis), shell, installer_of(diagnosis.machine))


def print_plan(asked: Asked, diagnosis: Diagnosis) -> int:
    """Print the plan as `--shell`, `--wheel-list` or `--dockerfile` asks for it; 0, for that was asked."""
    from onnxsd import matrix

    shell = Shell(asked.shell) if asked.shell else shell_of(diagnosis)
    plain: dict[str, Any]
    if asked.wheel_list:
        wheels = wheel_list(diagnosis, matrix.load(), installer_of(diagnosis.machine))
        lines, plain = wheels.lines(shell), wheels.to_json()
    elif asked.dockerfile:
        text = dockerfile(diagnosis, matrix.load())
        lines, plain = text.splitlines(), {"dockerfile": text}
    else:
        lines = commands_of(diagnosis, shell)
        commands = [line for line in lines if not line.startswith(_COMMENT)]
        plain = {"shell": shell.value, "commands": commands}
    if asked.as_json:
        print_json({"schema": 1, **plain})
    elif lines:
        click.echo("\n".join(lines))
    else:
        click.echo("nothing to install or remove here; `onnxsd doctor` says what else to do", err=True)
    return 0
