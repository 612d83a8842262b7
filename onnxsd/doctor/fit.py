"""Whether a machine can install and load a release of onnxruntime-gpu, and if not, what would change that."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, parse_tag

from onnxsd.doctor.driver_fit import driver_runs, offered_cuda, oldest_driver, takes_compat_package
from onnxsd.doctor.gpu_code import Coverage, code_capability, codes_text, coverage, describe
from onnxsd.machine import Machine, OperatingSystem
from onnxsd.matrix import Matrix, Release, Wheel
from onnxsd.records import Dotted

__all__ = [
    "NO_EXECUTABLE_STACK",
    "Coverage",
    "Kind",
    "Obstacle",
    "best_tag",
    "code_capability",
    "coverage",
    "describe",
    "executable_stack_refused",
    "matching_tag",
    "obstacles",
    "of_a_kind_with_wheels",
    "takes_cpu_wheels",
]

# PT_GNU_STACK with X: refused from glibc 2.41 on (microsoft/onnxruntime#24911; glibc 2.41 NEWS).
NO_EXECUTABLE_STACK = Dotted.parse("2.41")


class Kind(enum.Enum):
    """What of the machine, or of the release, stands in the way."""

    PLATFORM = "platform"
    LIBC = "libc"
    PYTHON = "python"
    DRIVER = "driver"
    GPU = "gpu"
    EXTRAS = "extras"


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


def of_a_kind_with_wheels(machine: Machine) -> bool:
    """Whether there are wheels of any onnxruntime for this kind of Python and of C library."""
    return machine.python.implementation == "cpython" and machine.python.bits == 64 and machine.musl is None


def takes_cpu_wheels(machine: Machine, matrix: Matrix) -> bool:
    """Whether there is a wheel of the CPU package for this Python on this platform.

    Pythons that onnxsd itself does not serve (before 3.10) are not among those that the matrix names.
    """
    row = matrix.runtime(matrix.cpu_package)
    known = row is None or row.serves(platform=machine.platform, abi=machine.python.abi)
    return known and of_a_kind_with_wheels(machine)


def best_tag(wheel: Wheel, machine: Machine) -> Tag | None:
    """The tag of one of the wheels that stands first among those that this Python takes."""
    ranks = _ranks_for(machine)
    return min((tag for tag in _tags_of(wheel) if tag in ranks), key=lambda tag: ranks[tag], default=None)


def matching_tag(wheel: Wheel, machine: Machine) -> str | None:
    """The best of the wheel's platform tags that the machine accepts."""
    return next((tag for tag in machine.platform_tags if tag in wheel.tags), None)


def _ranks_for(machine: Machine) -> dict[Tag, int]:
    release = machine.python.version.release
    version = (release[0], release[1] if len(release) > 1 else 0)
    return _ranks(machine.python.implementation, version, machine.python.abi, machine.platform_tags)


@lru_cache(maxsize=256)
def _ranks(
    implementation: str, version: tuple[int, int], abi: str, platforms: tuple[str, ...]
) -> dict[Tag, int]:
    """The tags that pip would take, by their place: the interpreter's own, then those for any Python."""
    own = cpython_tags(version, [abi], platforms) if implementation == "cpython" else ()
    taken = (*own, *compatible_tags(version, f"cp{version[0]}{version[1]}", platforms))
    return {tag: rank for rank, tag in enumerate(taken)}


@lru_cache(maxsize=1024)
def _tags_of(wheel: Wheel) -> frozenset[Tag]:
    """The tags of all wheels of a group, one for each Python ABI."""
    platforms = ".".join(wheel.tags)
    return frozenset().union(*(parse_tag(f"{abi.rstrip('mt')}-{abi}-{platforms}") for abi in wheel.abis))


def _no_platform(release: Release, machine: Machine) -> Obstacle:
    built = ", ".join(sorted({wheel.platform for wheel in release.wheels}))
    return Obstacle(
        kind=Kind.PLATFORM,
        reason=f"it has no wheel for {machine.platform}",
        would_need=f"a machine that is one of {built}",
    )


def _libc(wheel: Wheel, machine: Machine, matrix: Matrix) -> Iterator[Obstacle]:
    if machine.reason_unreadable("platform_tags"):
        return
    if matching_tag(wheel, machine):
        yield from _executable_stack(wheel, machine)
        return
    wanted = min((glibc for glibc in map(_glibc_of, wheel.tags) if glibc), default=None)
    here = f"glibc {machine.glibc}" if machine.glibc else f"musl {machine.musl or 'or another C library'}"
    if machine.os is not OperatingSystem.LINUX:
        here = f"tags {', '.join(machine.platform_tags) or 'that are not known'}"
    yield Obstacle(
        kind=Kind.LIBC,
        reason=f"its wheels are {', '.join(wheel.tags)}, and this system has {here}",
        would_need=_system_with(wanted, matrix) if wanted else f"a system that takes {wheel.tags[0]}",
    )


def executable_stack_refused(wheel: Wheel, machine: Machine) -> bool:
    """Whether the system's C library does not load the wheel's module, for the stack that it asks for."""
    glibc = machine.glibc
    return bool(wheel.executable_stack) and glibc is not None and glibc >= NO_EXECUTABLE_STACK


def _executable_stack(wheel: Wheel, machine: Machine) -> Iterator[Obstacle]:
    if executable_stack_refused(wheel, machine):
        yield Obstacle(
            kind=Kind.LIBC,
            reason=f"its module asks for an executable stack, which glibc {machine.glibc} refuses",
            would_need=f"a system with glibc older than {NO_EXECUTABLE_STACK}",
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
    python = machine.python
    have = ", ".join(wheel.abis)
    if python.bits == 32:
        yield Obstacle(
            kind=Kind.PYTHON,
            reason="its wheels are for 64-bit Pythons, and this one has 32 bits",
            would_need="a 64-bit Python on a 64-bit system",
        )
        return
    known_tags = matching_tag(wheel, machine) is not None
    fits = best_tag(wheel, machine) is not None if known_tags else python.abi in wheel.abis
    if not fits:
        kind = "" if python.implementation == "cpython" else f"{python.implementation} "
        yield Obstacle(
            kind=Kind.PYTHON,
            reason=f"it has wheels for {have}, and this {kind}Python {python.version} is {python.abi}",
            would_need=f"a Python whose ABI is one of {have}",
        )
    elif python.version not in (release.requires_python or SpecifierSet()):
        yield Obstacle(
            kind=Kind.PYTHON,
            reason=f"it asks for Python {release.requires_python}, and this one is {python.version}",
            would_need=f"a Python that is {release.requires_python}",
        )


def _extras(release: Release) -> Iterator[Obstacle]:
    if release.extras_fault:
        yield Obstacle(
            kind=Kind.EXTRAS,
            reason=release.extras_fault,
            would_need="another release: no machine can install it",
        )


def _driver(release: Release, machine: Machine, matrix: Matrix) -> Iterator[Obstacle]:
    if driver_runs(release.cuda_major, machine, matrix):
        return
    wanted = oldest_driver(release.cuda_major, machine, matrix)
    minor = release.cuda.parts[1] if release.cuda and len(release.cuda.parts) > 1 else 0
    compat = f", or NVIDIA's package cuda-compat-{release.cuda_major}-{minor}, which data-centre GPUs take"
    yield Obstacle(
        kind=Kind.DRIVER,
        reason=f"it is built for CUDA {release.cuda_major}, and driver {machine.driver} is below {wanted}",
        would_need=f"NVIDIA driver {wanted} or newer" + (compat if takes_compat_package(machine) else ""),
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
            reason=f"it has no code for {describe(gpu)}: it has {codes_text(wheel)}",
            would_need="a GPU that its code covers",
        )
    elif Coverage.MACHINE_CODE not in found and Coverage.UNREAD not in found:
        yield from _driver_for_ptx(release, machine, matrix)


def _driver_for_ptx(release: Release, machine: Machine, matrix: Matrix) -> Iterator[Obstacle]:
    """PTX is compiled by the driver, which has to be as new as the toolkit that made it (CUDA error 222)."""
    offered = offered_cuda(machine, matrix)
    if release.cuda is None or offered is None or offered >= release.cuda:
        return
    yield Obstacle(
        kind=Kind.DRIVER,
        reason=f"it has only PTX of CUDA {release.cuda} for this GPU, and driver {machine.driver} compiles "
        f"up to CUDA {offered}",
        would_need=f"an NVIDIA driver that offers CUDA {release.cuda}",
    )
