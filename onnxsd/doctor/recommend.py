"""The newest onnxruntime-gpu that a machine can load, how to install it, and why nothing newer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from onnxsd.doctor import beside
from onnxsd.doctor.actions import DEFAULT_INDEX, Action, Index, NewVenv, Target, UpgradePip, steps_of
from onnxsd.doctor.choice import Choice, Rejected, choose
from onnxsd.doctor.driver_fit import newest_cuda_major
from onnxsd.doctor.fit import Kind, Obstacle, best_tag, obstacles
from onnxsd.doctor.gpu_code import Coverage, coverage, describe
from onnxsd.doctor.remedy import Pip
from onnxsd.doctor.shells import Shell, line
from onnxsd.doctor.ways import Container, Way, container_for, ways_out
from onnxsd.machine import Machine, OperatingSystem
from onnxsd.matrix import Feed, Goal, Matrix, Release

__all__ = [
    "Recommendation",
    "Rejected",
    "in_the_way_of_all",
    "preparations",
    "recommend",
    "serving",
    "too_old_for",
]

VENV = ".venv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What to install for the GPU, whether that serves the goal, and what was passed over."""

    package: str
    version: Version
    extras: tuple[str, ...]
    index: Index
    wheel_tag: str
    suffices: bool
    requirement: str  # what pip is asked for: `onnxruntime-gpu[cuda,cudnn]==1.31.1`
    companions: tuple[str, ...]
    remarks: tuple[str, ...]  # what to know of this release on this machine
    preparations: tuple[Action, ...]  # before anything is installed: a virtual environment, a newer pip
    remedy: Pip
    rejected: tuple[Rejected, ...]
    ways: tuple[Way, ...] = ()  # what would give a newer release; looked for where this one does not suffice
    container: Container | None = None  # where the operating system stands in the way

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that install it, in order, for pip and bash."""
        steps = steps_of((*self.preparations, *self.remedy.actions), Target())
        return tuple(line(step.argv, Shell.BASH) for step in steps)

    def to_json(self) -> dict[str, Any]:
        """The recommendation as plain values."""
        return {
            "package": self.package,
            "version": str(self.version),
            "extras": list(self.extras),
            "index": {"name": self.index.name, "url": self.index.url},
            "wheel_tag": self.wheel_tag,
            "suffices": self.suffices,
            "commands": list(self.commands),
            "companions": {
                Requirement(item).name: str(Requirement(item).specifier) for item in self.companions
            },
            "remarks": list(self.remarks),
            "rejected": [one.to_json() for one in self.rejected],
            "ways": [one.to_json() for one in self.ways],
            "container": self.container.to_json() if self.container else None,
        }


def recommend(
    machine: Machine, matrix: Matrix, goal: Goal, *, feeds: bool = True, ways: bool = True
) -> Recommendation | None:
    """The newest GPU release that fits; None where no NVIDIA GPU is seen, or where none fits.

    Args:
        feeds: look on feeds too, where the default index has nothing that serves.
        ways: look for what would give a newer release, where this one does not suffice.
    """
    if not machine.gpus and machine.driver is None:
        return None
    choice = choose(machine, matrix, goal, feeds=feeds)
    if choice is None:
        return None
    found = _recommendation(choice, machine, matrix, goal)
    if found.suffices or not ways:
        return found
    in_the_way = {one.kind for row in choice.rejected for one in row.obstacles}
    inside = container_for(machine, matrix, goal)
    return replace(
        found,
        ways=ways_out(machine, matrix, goal, inside, newer_than=found.version),
        container=inside if in_the_way & {Kind.LIBC, Kind.PYTHON} else None,
    )


def serving(machine: Machine, matrix: Matrix, goal: Goal) -> tuple[Rejected, ...]:
    """Each release that serves the goal and that some machine can install, with what is in its way here."""
    return tuple(
        Rejected(version=release.version, obstacles=obstacles(release, machine, matrix))
        for release in matrix.releases
        if matrix.meets_floor(release, goal) and release.extras_fault is None
    )


def in_the_way_of_all(machine: Machine, matrix: Matrix, goal: Goal, kind: Kind) -> Obstacle | None:
    """The obstacle of this kind that asks for least, if every release that serves has one."""
    rows = serving(machine, matrix, goal)
    found = [next((one for one in row.obstacles if one.kind is kind), None) for row in rows]
    return found[-1] if found and all(found) else None  # the oldest release asks for least


def too_old_for(machine: Machine, matrix: Matrix) -> Version | None:
    """The pip that knows this machine's best wheels, if the installed one does not."""
    if machine.pip is None:
        return None
    rows = [
        row for row in matrix.pip_tags if any(tag.startswith(row.prefix) for tag in machine.platform_tags)
    ]
    wanted = max((row.pip for row in rows), default=None)
    return wanted if wanted is not None and machine.pip < wanted else None


def preparations(machine: Machine, matrix: Matrix) -> tuple[Action, ...]:
    """What comes before any package: a virtual environment, and a pip that knows today's wheels."""
    found: list[Action] = []
    if machine.python.externally_managed:
        found.append(
            NewVenv(folder=VENV, why="this Python belongs to the operating system (PEP 668): pip refuses it")
        )
    wanted = too_old_for(machine, matrix)
    if wanted is not None:
        why = f"pip {machine.pip} passes over today's wheels without a word; they need {wanted}"
        found.append(UpgradePip(why=why))
    return tuple(found)


def _recommendation(choice: Choice, machine: Machine, matrix: Matrix, goal: Goal) -> Recommendation:
    release = choice.release
    index = Index(name=choice.feed.name, url=choice.feed.url) if choice.feed else DEFAULT_INDEX
    companions = beside.companions(release, machine, matrix)
    return Recommendation(
        package=matrix.package,
        version=release.version,
        extras=release.extras,
        index=index,
        wheel_tag=_wheel_tag(release, machine),
        suffices=matrix.meets_floor(release, goal),
        requirement=matrix.requirement(release),
        companions=companions,
        remarks=tuple(_remarks(choice, machine, matrix)),
        preparations=preparations(machine, matrix),
        remedy=_remedy(release, companions, index, machine, matrix),
        rejected=choice.rejected,
    )


def _wheel_tag(release: Release, machine: Machine) -> str:
    wheel = release.wheel_for(machine.platform)
    tag = best_tag(wheel, machine) if wheel else None
    return str(tag) if tag else f"{machine.python.abi}-{machine.python.abi}-any"


def _remedy(
    release: Release, companions: tuple[str, ...], index: Index, machine: Machine, matrix: Matrix
) -> Pip:
    """In a new virtual environment nothing is there to be removed or written again."""
    wanted = matrix.requirement(release)
    fresh = machine.python.externally_managed
    # A feed does not hold what its wheels depend on.
    needs = companions if index.url is None else (*(release.requires or ()), *companions)
    return Pip(
        uninstall=() if fresh else beside.to_remove(release, machine, matrix),
        install=("onnxsd[run]", *needs) if index.url is not None else ("onnxsd[run]", wanted, *needs),
        from_index=(wanted,) if index.url is not None else (),
        index=index,
        overwrite=() if fresh else beside.to_write_again(release, machine, matrix),
    )


def _remarks(choice: Choice, machine: Machine, matrix: Matrix) -> Iterator[str]:
    release = choice.release
    newest = newest_cuda_major(machine, matrix)
    if newest is not None and newest > release.cuda_major:
        yield _other_major(release, newest, machine)
    yield from _compiled_at_start(release, machine)
    if choice.feed is not None:
        yield _of_feed(choice.feed)
    if not release.extras:
        yield _folders_to_add(release, machine, matrix)


def _other_major(release: Release, newest: int, machine: Machine) -> str:
    """Which CUDA the release is built for, where the driver, and so perhaps the libraries, are newer."""
    wheel = release.wheel_for(machine.platform)
    loads = ", ".join((wheel.needed if wheel else None) or ())
    there = sorted({one.soname for one in machine.libraries if one.component in ("cublasLt", "cudnn")})
    beside_it = f" (here are {', '.join(there)})" if there else ""
    return (
        f"{release.version} is a build for CUDA {release.cuda_major} and cuDNN {release.cudnn_major}"
        + (f": it loads {loads}" if loads else "")
        + f". Libraries of CUDA {newest}, which this driver also runs, do not serve it{beside_it}: without "
        f"those of CUDA {release.cuda_major} its CUDA provider does not load, and it falls back to the CPU "
        "without an error"
    )


def _compiled_at_start(release: Release, machine: Machine) -> Iterator[str]:
    wheel = release.wheel_for(machine.platform)
    for gpu in machine.gpus:
        if wheel is not None and coverage(wheel, gpu) is Coverage.COMPILED_AT_START:
            yield (
                f"it holds PTX and no machine code for {describe(gpu)}: the driver compiles it at the first "
                "start, which takes minutes, and keeps the result (CUDA_CACHE_MAXSIZE)"
            )


def _of_feed(feed: Feed) -> str:
    return f"it comes from the feed {feed.name} ({feed.note}), whose wheels were not read for this matrix"


def _folders_to_add(release: Release, machine: Machine, matrix: Matrix) -> str:
    windows = machine.os is OperatingSystem.WINDOWS
    rows = [row for row in matrix.library_packages if row.cuda_major == release.cuda_major]
    wanted = {Requirement(item).name for item in release.companions}
    folders = (row.windows_folder if windows else row.linux_folder for row in rows if row.package in wanted)
    variable = "PATH" if windows else "LD_LIBRARY_PATH"
    return (
        f"it has no extras for its CUDA libraries and does not look for pip's: put these folders of "
        f"site-packages on {variable} before Python starts: {', '.join(dict.fromkeys(folders))}"
    )
