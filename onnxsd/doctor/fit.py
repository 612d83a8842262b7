"""Whether a machine can install and load a release of onnxruntime-gpu, and if not, what would change that."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from onnxsd.machine import Gpu, Machine, OperatingSystem
from onnxsd.matrix import Matrix, Release, Wheel
from onnxsd.records import Dotted


class Kind(enum.Enum):
    """What of the machine, or of the release, stands in the way."""

    PLATFORM = "platform"
    LIBC = "libc"
    PYTHON = "python"
    DRIVER = "driver"
    GPU = "gpu"
    EXTRAS = "extras"


class Coverage(enum.Enum):
    """What a wheel holds for a GPU."""

    MACHINE_CODE = "machine-code"
    COMPILED_AT_START = "compiled-at-start"
    NONE = "none"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """One reason why a release does not serve, and what would remove it."""

    kind: Kind
    reason: str
    would_need: str


def obstacles(release: Release, machine: Machine, matrix: Matrix) -> tuple[Obstacle, ...]:
    """Everything that keeps the machine from installing and loading the release; nothing if it can."""
    wheel = release.wheel_for(machine.platform)
    if wheel is None:
        return (_no_platform(release, machine),)
    return (
        *_libc(wheel, machine, matrix),
        *_python(release, wheel, machine),
        *_extras(release),
        *_driver(release, machine, matrix),
        *_gpu(release, wheel, machine, matrix),
    )


def matching_tag(wheel: Wheel, machine: Machine) -> str | None:
    """The best of the wheel's platform tags that the machine accepts."""
    return next((tag for tag in machine.platform_tags if tag in wheel.tags), None)


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


def _runs(code: str, here: tuple[int, int]) -> bool:
    target = code_capability(code)
    return target == here if code.endswith("a") else target <= here


def _no_platform(release: Release, machine: Machine) -> Obstacle:
    built = ", ".join(sorted({wheel.platform for wheel in release.wheels}))
    return Obstacle(
        kind=Kind.PLATFORM,
        reason=f"it has no wheel for {machine.platform}",
        would_need=f"one of {built}",
    )


def _libc(wheel: Wheel, machine: Machine, matrix: Matrix) -> Iterator[Obstacle]:
    if machine.reason_unreadable("platform_tags") or matching_tag(wheel, machine):
        return
    wanted = min((glibc for glibc in map(_glibc_of, wheel.tags) if glibc), default=None)
    here = f"glibc {machine.glibc}" if machine.glibc else f"musl {machine.musl or 'or another C library'}"
    yield Obstacle(
        kind=Kind.LIBC,
        reason=f"its wheels are {', '.join(wheel.tags)}, and this system has {here}",
        would_need=_system_with(wanted, matrix) if wanted else f"a system that takes {wheel.tags[0]}",
    )


def _system_with(glibc: Dotted, matrix: Matrix) -> str:
    systems = ", ".join(matrix.systems_with(glibc))
    return f"a system with glibc {glibc} or newer" + (f" ({systems})" if systems else "")


def _glibc_of(tag: str) -> Dotted | None:
    pieces = tag.split("_")
    if pieces[0] == "manylinux" and len(pieces) > 2:
        return Dotted.parse(".".join(pieces[1:3]))
    return None


def _python(release: Release, wheel: Wheel, machine: Machine) -> Iterator[Obstacle]:
    allowed = release.requires_python or SpecifierSet()
    if machine.python.abi in wheel.abis and machine.python.version in allowed:
        return
    have = ", ".join(wheel.abis)
    yield Obstacle(
        kind=Kind.PYTHON,
        reason=f"it has wheels for {have}, and this Python {machine.python.version} is {machine.python.abi}",
        would_need=f"a Python whose ABI is one of {have}",
    )


def _extras(release: Release) -> Iterator[Obstacle]:
    if release.extras_fault:
        yield Obstacle(
            kind=Kind.EXTRAS,
            reason=release.extras_fault,
            would_need="another release: no machine can install it",
        )


def _driver(release: Release, machine: Machine, matrix: Matrix) -> Iterator[Obstacle]:
    wanted = matrix.minimum_driver(release.cuda_major, windows=machine.os is OperatingSystem.WINDOWS)
    if machine.driver is None or machine.driver >= wanted:
        return
    yield Obstacle(
        kind=Kind.DRIVER,
        reason=f"it is built for CUDA {release.cuda_major}, and driver {machine.driver} is below {wanted}",
        would_need=f"NVIDIA driver {wanted} or newer",
    )


def _gpu(release: Release, wheel: Wheel, machine: Machine, matrix: Matrix) -> Iterator[Obstacle]:
    """A release serves when one of the GPUs can use it; `gpu-not-in-wheel` names the others."""
    if not machine.gpus:
        return
    found = [coverage(wheel, gpu) for gpu in machine.gpus]
    if all(one is Coverage.NONE for one in found):
        gpu = machine.gpus[0]
        yield Obstacle(
            kind=Kind.GPU,
            reason=f"it has no code for {describe(gpu)}: it has {_codes(wheel)}",
            would_need="a GPU that its code covers",
        )
    elif Coverage.MACHINE_CODE not in found and Coverage.UNREAD not in found:
        yield from _driver_for_ptx(release, machine, matrix)


def _driver_for_ptx(release: Release, machine: Machine, matrix: Matrix) -> Iterator[Obstacle]:
    """PTX is compiled by the driver, which has to be as new as the toolkit that made it (CUDA error 222)."""
    offered = matrix.cuda_of(machine.driver) if machine.driver else None
    if release.cuda is None or offered is None or offered >= release.cuda:
        return
    yield Obstacle(
        kind=Kind.DRIVER,
        reason=f"it has only PTX of CUDA {release.cuda} for this GPU, and driver {machine.driver} compiles "
        f"up to CUDA {offered}",
        would_need=f"an NVIDIA driver that offers CUDA {release.cuda}",
    )


def describe(gpu: Gpu) -> str:
    """`NVIDIA A10G (compute capability 8.6)`."""
    major, minor = gpu.compute_capability
    return f"{gpu.name} (compute capability {major}.{minor})"


def _codes(wheel: Wheel) -> str:
    sass, ptx = wheel.sass or (), wheel.ptx or ()
    return "sm " + " ".join(sass) + (" and PTX " + " ".join(ptx) if ptx else ", no PTX")
