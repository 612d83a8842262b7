"""What to do about a diagnosis, as one plan: run here, shown for a shell, carried elsewhere."""

from __future__ import annotations

from onnxsd.doctor.actions import Installer, Step
from onnxsd.doctor.plan.commands import installer_of, render, steps_for
from onnxsd.doctor.plan.dockerfile import dockerfile
from onnxsd.doctor.plan.merge import Plan, plan_of
from onnxsd.doctor.plan.wheels import WheelList, wheel_list
from onnxsd.doctor.shells import Shell

__all__ = [
    "Installer",
    "Plan",
    "Shell",
    "Step",
    "WheelList",
    "dockerfile",
    "installer_of",
    "plan_of",
    "render",
    "steps_for",
    "wheel_list",
]
