"""A plan as commands: to be run on this machine, or to be shown for a shell."""

from __future__ import annotations

from onnxsd.doctor.actions import Installer, Step, Target, steps_of
from onnxsd.doctor.plan.merge import Plan
from onnxsd.doctor.shells import Shell, line
from onnxsd.machine import Machine, OperatingSystem


def steps_for(plan: Plan, machine: Machine, installer: Installer | None = None) -> tuple[Step, ...]:
    """The commands that change this machine's environment; by pip, or by uv where there is no pip."""
    return steps_of(
        plan.actions,
        Target(
            installer=installer or installer_of(machine),
            python=machine.python.executable,
            windows=machine.os is OperatingSystem.WINDOWS,
        ),
    )


def render(plan: Plan, shell: Shell, installer: Installer = Installer.PIP) -> list[str]:
    """The commands as lines for a shell, each reason as a comment above its command."""
    lines = []
    for step in steps_of(plan.actions, Target(installer=installer, windows=plan.windows)):
        lines += [f"# {step.why}", line(step.argv, shell)]
    return lines


def installer_of(machine: Machine) -> Installer:
    """pip, unless there is none and uv is."""
    return Installer.UV if machine.pip is None and machine.uv is not None else Installer.PIP
