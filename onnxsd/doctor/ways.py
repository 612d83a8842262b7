"""What would give a machine a newer release, found by judging the machine as it would be then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from onnxsd.doctor.choice import Choice, choose
from onnxsd.doctor.driver_fit import newest_cuda_major, oldest_driver
from onnxsd.machine import Machine, OperatingSystem, with_settings
from onnxsd.matrix import Goal, Image, Matrix
from onnxsd.records import Dotted


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A change, and the release that fits after it."""

    change: str
    version: Version
    cuda_major: int
    suffices: bool

    def to_json(self) -> dict[str, Any]:
        """The way as plain values."""
        return {
            "change": self.change,
            "version": str(self.version),
            "cuda_major": self.cuda_major,
            "suffices": self.suffices,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container image for this machine's driver and GPUs, and the release that fits inside it."""

    image: Image
    choice: Choice
    suffices: bool

    @property
    def version(self) -> Version:
        """The release that fits inside."""
        return self.choice.release.version

    @property
    def text(self) -> str:
        """The image, and what is in it."""
        one = self.image
        return f"the container image {one.name} ({one.system}, glibc {one.glibc}, Python {one.python})"

    def to_json(self) -> dict[str, Any]:
        """The container as plain values."""
        return {
            "image": self.image.name,
            "system": self.image.system,
            "glibc": str(self.image.glibc),
            "python": str(self.image.python),
            "version": str(self.version),
            "suffices": self.suffices,
        }


def ways_out(
    machine: Machine,
    matrix: Matrix,
    goal: Goal,
    inside: Container | None,
    *,
    newer_than: Version | None = None,
) -> tuple[Way, ...]:
    """Each change of one thing that gives a newer release, then the container, then it with a new driver.

    inside: what `container_for` found for the same machine and goal.
    """
    tries = (
        _newer_systems(machine, matrix),
        _other_pythons(machine, matrix),
        _newer_drivers(machine, matrix),
    )
    ways = [_best(one, machine, matrix, goal) for one in tries]
    if inside is not None:
        ways.append(_way(inside.text, inside.choice, matrix, goal))
        if not inside.suffices:
            ways.append(_best(_with_newer_driver(inside, machine, matrix), machine, matrix, goal))
    return tuple(one for one in ways if one is not None and (newer_than is None or one.version > newer_than))


def container_for(machine: Machine, matrix: Matrix, goal: Goal) -> Container | None:
    """The image in which the newest release fits on this machine's driver and GPUs; None off Linux.

    Of equal ones the first in the matrix: those without CUDA stand there first, since pip brings it.
    """
    if machine.os is not OperatingSystem.LINUX:
        return None
    runs = newest_cuda_major(machine, matrix)
    best: Container | None = None
    judged: set[tuple[Dotted, Dotted]] = set()
    for image in matrix.images:
        if image.cuda is not None and runs is not None and image.cuda.parts[0] > runs:
            continue  # such an image refuses to start on an older driver (NVIDIA_REQUIRE_CUDA)
        if (image.glibc, image.python) in judged:
            continue
        judged.add((image.glibc, image.python))
        choice = choose(with_settings(machine, inside_of(image)), matrix, goal, feeds=False)
        if choice is not None and (best is None or choice.release.version > best.version):
            best = Container(image=image, choice=choice, suffices=matrix.meets_floor(choice.release, goal))
    return best


def inside_of(image: Image) -> tuple[str, ...]:
    """What a container of an image changes of a machine, as `--set` says it."""
    return ("os=linux", f"glibc={image.glibc}", f"python={image.python}", "free_threaded=false")


def _with_newer_driver(
    container: Container, machine: Machine, matrix: Matrix
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for change, settings in _newer_drivers(machine, matrix):
        yield f"{container.text} and {change}", (*inside_of(container.image), *settings)


def _newer_systems(machine: Machine, matrix: Matrix) -> Iterator[tuple[str, tuple[str, ...]]]:
    if machine.os is not OperatingSystem.LINUX:
        return
    for row in sorted(matrix.systems, key=lambda row: row.glibc):
        if machine.glibc is None or row.glibc > machine.glibc:
            names = ", ".join(row.systems)
            # The Python stays: what another system would bring along is another change.
            settings = (f"glibc={row.glibc}", f"python={machine.python.version}")
            yield f"a system with glibc {row.glibc} or newer ({names})", settings


def _other_pythons(machine: Machine, matrix: Matrix) -> Iterator[tuple[str, tuple[str, ...]]]:
    if machine.python.free_threaded:
        here = f"{machine.python.version.major}.{machine.python.version.minor}"
        yield f"a Python {here} that is not free-threaded", (f"python={here}", "free_threaded=false")
    minors = {
        int(abi.rstrip("mt").removeprefix("cp3"))
        for release in matrix.releases
        for wheel in release.wheels
        for abi in wheel.abis
    }
    for minor in sorted(minors):
        yield f"Python 3.{minor}", (f"python=3.{minor}", "free_threaded=false")


def _newer_drivers(machine: Machine, matrix: Matrix) -> Iterator[tuple[str, tuple[str, ...]]]:
    for row in sorted(matrix.drivers, key=lambda row: row.major):
        wanted = oldest_driver(row.major, machine, matrix)
        if machine.driver is not None and wanted > machine.driver:
            yield f"NVIDIA driver {wanted} or newer", (f"driver={wanted}",)


def _best(
    tries: Iterator[tuple[str, tuple[str, ...]]], machine: Machine, matrix: Matrix, goal: Goal
) -> Way | None:
    """The first of the changes that reaches the newest release of all of them."""
    best: Way | None = None
    for change, settings in tries:
        choice = choose(with_settings(machine, settings), matrix, goal, feeds=False)
        if choice is not None and (best is None or choice.release.version > best.version):
            best = _way(change, choice, matrix, goal)
    return best


def _way(change: str, choice: Choice, matrix: Matrix, goal: Goal) -> Way:
    return Way(
        change=change,
        version=choice.release.version,
        cuda_major=choice.release.cuda_major,
        suffices=matrix.meets_floor(choice.release, goal),
    )
