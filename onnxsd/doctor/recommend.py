"""The newest onnxruntime-gpu that a machine can install and load, and why nothing newer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from onnxsd.doctor.fit import Kind, Obstacle, matching_tag, obstacles
from onnxsd.machine import Machine
from onnxsd.matrix import Goal, Matrix, Release
from onnxsd.records import Dotted


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A newer release and everything that stands in its way."""

    version: Version
    obstacles: tuple[Obstacle, ...]

    def to_json(self) -> dict[str, str]:
        """The rejection as plain values."""
        return {
            "version": str(self.version),
            "reason": "; ".join(found.reason for found in self.obstacles),
            "would_need": "; ".join(found.would_need for found in self.obstacles),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What to install for the GPU, whether that serves the goal, and what was passed over."""

    package: str
    version: Version
    extras: tuple[str, ...]
    wheel_tag: str
    suffices: bool
    companions: tuple[str, ...]
    uninstall: tuple[str, ...]  # packages that own the same import name
    upgrade_pip: bool
    rejected: tuple[Rejected, ...]

    @property
    def requirement(self) -> str:
        """What pip is asked for: `onnxruntime-gpu[cuda,cudnn]==1.31.1`."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{self.package}{extras}=={self.version}"

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that install it, in order."""
        wanted = ("onnxsd[run]", self.requirement, *self.companions)
        lines = ["python -m pip install --upgrade pip"] if self.upgrade_pip else []
        if self.uninstall:
            lines.append("python -m pip uninstall -y " + " ".join(self.uninstall))
        lines.append("python -m pip install " + " ".join(quoted(item) for item in wanted))
        return tuple(lines)

    def to_json(self) -> dict[str, Any]:
        """The recommendation as plain values."""
        return {
            "package": self.package,
            "version": str(self.version),
            "extras": list(self.extras),
            "index": {"name": "pypi", "url": None},
            "wheel_tag": self.wheel_tag,
            "suffices": self.suffices,
            "commands": list(self.commands),
            "companions": {
                Requirement(item).name: str(Requirement(item).specifier) for item in self.companions
            },
            "rejected": [one.to_json() for one in self.rejected],
        }


def recommend(machine: Machine, matrix: Matrix, goal: Goal) -> Recommendation | None:
    """The newest GPU release that fits; None where no NVIDIA GPU is seen, or where none fits."""
    if not machine.gpus and machine.driver is None:
        return None
    rejected: list[Rejected] = []
    for release in matrix.releases:
        found = obstacles(release, machine, matrix)
        if not found:
            return _recommendation(release, machine, matrix, goal, tuple(rejected))
        rejected.append(Rejected(version=release.version, obstacles=found))
    return None


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


def quoted(requirement: str) -> str:
    """A requirement as a shell takes it: quoted where it holds more than a name."""
    return requirement if requirement.replace("-", "").replace("_", "").isalnum() else f"'{requirement}'"


def _recommendation(
    release: Release, machine: Machine, matrix: Matrix, goal: Goal, rejected: tuple[Rejected, ...]
) -> Recommendation:
    wheel = release.wheel_for(machine.platform)
    tag = matching_tag(wheel, machine) if wheel else None
    owners = machine.owners_of("onnxruntime")
    return Recommendation(
        package=matrix.package,
        version=release.version,
        extras=release.extras,
        wheel_tag=f"{machine.python.abi}-{machine.python.abi}-{tag}",
        suffices=matrix.meets_floor(release, goal),
        companions=_companions(release, machine, matrix),
        uninstall=tuple(one.name for one in owners)
        if {one.name for one in owners} - {matrix.package}
        else (),
        upgrade_pip=too_old_for(machine, matrix) is not None,
        rejected=rejected,
    )


def _companions(release: Release, machine: Machine, matrix: Matrix) -> tuple[str, ...]:
    """What goes beside the release: the CUDA libraries where no extra brings them, limits for old GPUs."""
    oldest = min((gpu.compute_capability for gpu in machine.gpus), default=None)
    limits = (
        row.requirement
        for row in matrix.gpu_companions
        if oldest and row.cuda_major == release.cuda_major and Dotted(oldest, "") < row.below
    )
    return (*release.companions, *limits)
