"""The matrix: all rows, and the questions that a judgement asks of them. None is judged here."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import Version

from onnxsd.matrix.companions import Clash, Fit, LibraryPackage, ModelFormat, Runtime, TorchBuild
from onnxsd.matrix.drivers import Branch, CudaMajor, Toolkit
from onnxsd.matrix.feeds import Feed
from onnxsd.matrix.goals import Floor, Goal, Requirement
from onnxsd.matrix.gpus import CudaGpus, CudnnGpus, GpuCompanion, GpuFamily
from onnxsd.matrix.installers import PipFeature, PipTag
from onnxsd.matrix.releases import Release, Vanished
from onnxsd.matrix.systems import Image, Libc, OddSystem
from onnxsd.records import Dotted


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """All that is known: rows kept by hand first, then releases, newest first, as their wheels say."""

    schema: int
    package: str
    cpu_package: str
    floors: tuple[Floor, ...]
    requirements: tuple[Requirement, ...]
    drivers: tuple[CudaMajor, ...]
    branches: tuple[Branch, ...]
    toolkits: tuple[Toolkit, ...]
    gpu_families: tuple[GpuFamily, ...]
    cuda_gpus: tuple[CudaGpus, ...]
    cudnn_gpus: tuple[CudnnGpus, ...]
    gpu_companions: tuple[GpuCompanion, ...]
    pip_tags: tuple[PipTag, ...]
    pip_features: tuple[PipFeature, ...]
    systems: tuple[Libc, ...]
    odd_systems: tuple[OddSystem, ...]
    images: tuple[Image, ...]
    feeds: tuple[Feed, ...]
    torch_builds: tuple[TorchBuild, ...]
    fits: tuple[Fit, ...]
    clashes: tuple[Clash, ...]
    runtimes: tuple[Runtime, ...]
    library_packages: tuple[LibraryPackage, ...]
    model_formats: tuple[ModelFormat, ...]
    vanished: tuple[Vanished, ...]
    releases: tuple[Release, ...]

    def release(self, version: Version) -> Release | None:
        """The row of one release."""
        return next((row for row in self.releases if row.version == version), None)

    def requirement(self, release: Release) -> str:
        """What pip is asked for: `onnxruntime-gpu[cuda,cudnn]==1.31.1`."""
        extras = f"[{','.join(release.extras)}]" if release.extras else ""
        return f"{self.package}{extras}=={release.version}"

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

    def gpu_names(self, compute_capability: Dotted) -> tuple[str, ...]:
        """Names of GPUs of a compute capability; none where it is not on record."""
        rows = (row for row in self.gpu_families if row.compute_capability == compute_capability)
        return next((row.names for row in rows), ())

    def torch_build(self, version: Version) -> TorchBuild | None:
        """The default index's build of a torch release, else of the newest patch of the same minor one."""
        rows = [row for row in self.torch_builds if row.version.release[:2] == version.release[:2]]
        exact = (row for row in rows if row.version.release == version.release)
        return next(exact, max(rows, key=lambda row: row.version, default=None))

    def torch_cuda(self, version: Version) -> Dotted | None:
        """The CUDA version of an installed torch: its `+cu126`, else the default build's; None for `+cpu`.

        None too for a release that is not on record.
        """
        local = version.local or ""
        if local.startswith("cu") and local[2:].isdecimal():
            return Dotted.parse(f"{local[2:-1]}.{local[-1]}")  # cu126: 12.6; cu130: 13.0
        build = None if local else self.torch_build(version)
        return build.cuda if build else None

    def package_of(self, library: str, cuda_major: int | None = None) -> LibraryPackage | None:
        """Who brings a library, by the name that a loader asks for (`libcublasLt.so.12`, `cudnn64_9.dll`).

        Some names are the same for several CUDA majors (`libcurand.so.10`, `libcudnn.so.9`): without
        `cuda_major` the newest one's row stands for them.
        """
        rows = [
            row
            for row in self.library_packages
            if library in (*row.linux, *row.windows) and cuda_major in (None, row.cuda_major)
        ]
        return max(rows, key=lambda row: row.cuda_major, default=None)

    def runtime(self, package: str) -> Runtime | None:
        """The row of a package that owns the import name `onnxruntime`."""
        return next((row for row in self.runtimes if row.package == package), None)
