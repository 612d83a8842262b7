"""The rows of the matrix. Each says where it was read and when; none is judged here."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from onnxsd.records import Dotted


class Goal(enum.Enum):
    """What a machine is to be ready for."""

    GENERATE = "generate"
    EXPORT = "export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The oldest release of a runtime that serves a goal; `cuda_major` None stands for any build."""

    goal: Goal
    package: str
    cuda_major: int | None
    version: Version
    because: str
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaMajor:
    """The oldest driver on which a build for this CUDA major runs."""

    major: int
    linux: Dotted
    windows: Dotted
    source: str
    checked: datetime.date
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """The CUDA version that a branch of drivers offers."""

    branch: Dotted
    cuda: Dotted
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class PipTag:
    """The oldest pip that knows wheels whose platform tag starts so."""

    prefix: str
    pip: Version
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A package that `onnxsd[run]` brings, and the oldest version that serves."""

    name: str
    minimum: Version
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCompanion:
    """A requirement to add where a GPU's compute capability is below a limit."""

    cuda_major: int
    below: Dotted
    requirement: str
    because: str
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Libc:
    """Systems that come with a version of glibc."""

    glibc: Dotted
    systems: tuple[str, ...]
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A release's wheels for one platform: who can install them, and the GPUs that they hold code for."""

    platform: str
    tags: tuple[str, ...]
    abis: tuple[str, ...]
    sass: tuple[str, ...] | None  # machine code: 86 runs on 8.6 and 8.9, 90a on 9.0 alone; None: not read
    ptx: tuple[str, ...] | None  # compiled at the first start
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release of onnxruntime-gpu on the default index."""

    version: Version
    released: datetime.date
    requires_python: SpecifierSet | None
    cuda_major: int
    cuda: Dotted | None  # the toolkit it was built with
    cudnn_major: int
    cudnn_required: bool
    extras: tuple[str, ...]  # those that bring the CUDA libraries
    companions: tuple[str, ...]  # what to install beside it where no extra does
    extras_fault: str | None = None  # why pip cannot install the extras
    wheels: tuple[Wheel, ...]
    source: str
    checked: datetime.date

    def wheel_for(self, platform: str) -> Wheel | None:
        """The wheels for a platform, by the matrix's name for it (`linux_x86_64`)."""
        return next((wheel for wheel in self.wheels if wheel.platform == platform), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """All that is known, releases newest first."""

    schema: int
    package: str
    cpu_package: str
    floors: tuple[Floor, ...]
    requirements: tuple[Requirement, ...]
    drivers: tuple[CudaMajor, ...]
    branches: tuple[Branch, ...]
    pip_tags: tuple[PipTag, ...]
    gpu_companions: tuple[GpuCompanion, ...]
    systems: tuple[Libc, ...]
    releases: tuple[Release, ...]

    def release(self, version: Version) -> Release | None:
        """The row of one release."""
        return next((row for row in self.releases if row.version == version), None)

    def floor(self, goal: Goal, package: str, cuda_major: int | None = None) -> Floor | None:
        """The floor that a build of `package` has to meet; None where no build for that CUDA serves."""
        rows = (row for row in self.floors if row.goal is goal and row.package == package)
        return next((row for row in rows if row.cuda_major in (None, cuda_major)), None)

    def meets_floor(self, release: Release, goal: Goal) -> bool:
        """Whether a GPU release serves the goal."""
        floor = self.floor(goal, self.package, release.cuda_major)
        return floor is not None and release.version >= floor.version

    def minimum_driver(self, cuda_major: int, *, windows: bool) -> Dotted:
        """The oldest driver for a CUDA major; every major of a release has a row (`faults_of` holds it)."""
        row = next(row for row in self.drivers if row.major == cuda_major)
        return row.windows if windows else row.linux

    def cuda_of(self, driver: Dotted) -> Dotted | None:
        """The CUDA version that a driver offers; None for one older than every branch on record."""
        known = [row for row in self.branches if row.branch.parts[0] <= driver.parts[0]]
        return max(known, key=lambda row: row.branch).cuda if known else None

    def systems_with(self, glibc: Dotted) -> tuple[str, ...]:
        """Systems whose glibc is the first on record at least this new."""
        newer = [row for row in self.systems if row.glibc >= glibc]
        return min(newer, key=lambda row: row.glibc).systems if newer else ()
