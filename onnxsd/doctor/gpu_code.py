"""What a wheel holds for a GPU: machine code, PTX that the driver compiles, or nothing."""

from __future__ import annotations

import enum

from onnxsd.machine import Gpu
from onnxsd.matrix import Wheel


class Coverage(enum.Enum):
    """What a wheel holds for a GPU."""

    MACHINE_CODE = "machine-code"
    COMPILED_AT_START = "compiled-at-start"
    NONE = "none"
    UNREAD = "unread"


def coverage(wheel: Wheel, gpu: Gpu) -> Coverage:
    """What the wheel holds for this GPU.

    Machine code runs on its own major version with the same or a later minor one, PTX on everything later; an
    `a` after either binds it to exactly that capability (facts read from the fatbins of 1.26.0 and 1.31.1).
    """
    if wheel.sass is None or wheel.ptx is None:
        return Coverage.UNREAD
    here = gpu.compute_capability
    if any(_runs(code, here) and code_capability(code)[0] == here[0] for code in wheel.sass):
        return Coverage.MACHINE_CODE
    if any(_runs(code, here) for code in wheel.ptx):
        return Coverage.COMPILED_AT_START
    return Coverage.NONE


def code_capability(code: str) -> tuple[int, int]:
    """The compute capability that `86` or `120a` names: its last digit is the minor part."""
    digits = code.rstrip("a")
    return int(digits[:-1]), int(digits[-1])


def describe(gpu: Gpu) -> str:
    """`NVIDIA A10G (compute capability 8.6)`."""
    major, minor = gpu.compute_capability
    return f"{gpu.name} (compute capability {major}.{minor})"


def codes_text(wheel: Wheel) -> str:
    """`sm 75 80 86 and PTX 120`."""
    sass, ptx = wheel.sass or (), wheel.ptx or ()
    return "sm " + " ".join(sass) + (" and PTX " + " ".join(ptx) if ptx else ", no PTX")


def _runs(code: str, here: tuple[int, int]) -> bool:
    target = code_capability(code)
    return target == here if code.endswith("a") else target <= here
