"""Checks of NVIDIA's packages and torch: whether the runtime's libraries are there, and of its CUDA major."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from onnxsd.doctor.beside import installed_torch_cuda
from onnxsd.doctor.case import Case, check, names_of
from onnxsd.doctor.finding import Finding, Pip, Severity
from onnxsd.doctor.proof import gravity
from onnxsd.machine import Distribution
from onnxsd.matrix import LibraryPackage, Matrix, Release

_CUDA_11 = 11  # `ort-cuda11-build` reports those


@check("cudnn-two-majors", needs=("distributions",))
def cudnn_two_majors(case: Case) -> Iterator[Finding]:
    """cuDNN for CUDA 12 and for CUDA 13 are both installed, and overwrite each other.

    `nvidia-cudnn-cu12` and `nvidia-cudnn-cu13` install the same files (nvidia/cudnn/lib/libcudnn*.so.9).
    The last one wins, and the other's users load a cuDNN that was built for another CUDA. Resolvers produce
    this state when torch is for one CUDA major and onnxruntime-gpu for the other.

    Sources: file lists of nvidia-cudnn-cu12 9.10.2.21 and nvidia-cudnn-cu13 9.28.0.42; rows `clashes` of
    compat_matrix.yaml.
    """
    for row in case.matrix.clashes:
        both = tuple(one for one in case.machine.distributions if one.name in row.packages)
        if len(both) > 1:
            removed = tuple(one.name for one in (*both, *case.runtimes))
            again = case.reinstall()
            again = replace(again, uninstall=removed, overwrite=()) if isinstance(again, Pip) else again
            yield Finding(
                severity=Severity.ERROR,
                summary=f"two packages overwrite each other in {row.folder}: {names_of(both)}",
                because=row.because,
                remedies=(
                    replace(again, uninstall=removed, overwrite=()) if isinstance(again, Pip) else again,
                ),
            )


@check("nvidia-packages-incomplete", needs=("distributions",))
def nvidia_packages_incomplete(case: Case) -> Iterator[Finding]:
    """Some of the packages that bring CUDA's libraries are installed, and some that are needed are not.

    `onnxruntime-gpu[cuda]` alone brings no cuBLAS and no cuDNN, `[cudnn]` alone brings no cudart and no
    cuRAND, and torch 2.15 no longer brings cuRAND: only `[cuda,cudnn]` is complete. onnxruntime names one
    missing library at a time and goes on with the CPU.

    Sources: METADATA of the onnxruntime-gpu and torch wheels; resolutions of each extra; row
    `library_packages` of compat_matrix.yaml; vegidio/open-photo-ai#47.
    """
    release = case.gpu_release
    if release is None:
        return
    wanted = _wanted(case, release)
    present = {row.package for row in wanted if case.machine.distribution(row.package)}
    missing = [row for row in wanted if row.package not in present and not _found_elsewhere(case, row)]
    if not present or not missing:
        return
    packages = tuple(dict.fromkeys(row.package for row in missing))
    yield Finding(
        severity=Severity.WARNING,
        summary=f"onnxruntime-gpu {release.version} has only some of its CUDA packages, without "
        + " and ".join(packages),
        because="only the extras `cuda` and `cudnn` together bring all of them",
        evidence=tuple(f"{row.package} brings {', '.join(_names(case, row)[:1])}" for row in missing),
        remedies=(Pip(install=_completed(case.matrix, release, packages)),),
    )


@check("nvidia-packages-other-major", needs=("distributions",))
def nvidia_packages_of_another_major(case: Case) -> Iterator[Finding]:
    """NVIDIA's packages are here, but all of them for another CUDA major than onnxruntime-gpu.

    onnxruntime-gpu is a build for CUDA 11 up to 1.18, for CUDA 12 from 1.19 to 1.26, and for CUDA 13 from
    1.27 on; it looks for the libraries of that major by name (libcublasLt.so.12), and those of another do
    not serve. An upgrade of either side alone leaves them apart.

    Sources: NEEDED entries of the provider in each release; microsoft/onnxruntime#26238;
    infiniflow/ragflow#14565.
    """
    release = case.gpu_release
    row = _cublas(case, release.cuda_major) if release else None
    if release is None or row is None or release.cuda_major == _CUDA_11:
        return
    others = _of_other_majors(case, release.cuda_major)
    if others and not case.machine.distribution(row.package) and not _found_elsewhere(case, row):
        yield Finding(
            severity=gravity(case),
            summary=f"onnxruntime-gpu {release.version} is built for CUDA {release.cuda_major}, and the CUDA "
            "packages here are for another",
            because=f"it looks for {', '.join(_names(case, row))}, which none of them brings",
            evidence=tuple(f"{one.name} {one.version}" for one in others),
            remedies=(case.reinstall(),),
        )


@check("torch-cuda-major", needs=("distributions",))
def torch_of_another_major(case: Case) -> Iterator[Finding]:
    """torch and onnxruntime-gpu are built for different CUDA majors.

    torch is for CUDA 12 up to 2.10 and for CUDA 13 from 2.11 on, onnxruntime-gpu from 1.27 on. Apart they
    need two sets of CUDA libraries, but there can be only one cuDNN in an environment, so one of the two
    loads the other's: it falls back to the CPU, or fails at the first convolution.

    Sources: METADATA of torch's wheels (rows `torch_builds` of compat_matrix.yaml); resolutions of
    `optimum[onnxruntime-gpu] diffusers`.
    """
    torch, release = case.machine.distribution("torch"), case.gpu_release
    if torch is None or release is None:
        return
    cuda = installed_torch_cuda(case.machine, case.matrix)
    if cuda is None or cuda.parts[0] == release.cuda_major:
        return
    yield Finding(
        severity=Severity.WARNING,
        summary=f"torch {torch.version} is built for CUDA {cuda}, onnxruntime-gpu {release.version} for "
        f"CUDA {release.cuda_major}",
        because="they share one folder for cuDNN, which serves only one of them",
        remedies=(case.reinstall(),),
    )


def _wanted(case: Case, release: Release) -> list[LibraryPackage]:
    """Who brings each library that the release loads to make pictures: cuDNN too, which convolutions need.

    Nothing where the wheel's binaries were not read.
    """
    wheel = release.wheel_for(case.machine.platform)
    if wheel is None or wheel.needed is None:
        return []
    needed = set(wheel.needed)
    rows = [row for row in case.matrix.library_packages if row.cuda_major == release.cuda_major]
    return [row for row in rows if row.component == "cudnn" or needed & {*row.linux, *row.windows}]


def _found_elsewhere(case: Case, row: LibraryPackage) -> bool:
    """Whether the loader finds the library without the package: from a toolkit, conda or the system."""
    names = {*row.linux, *row.windows}
    return any(found.soname in names for found in case.machine.libraries_of(row.component))


def _cublas(case: Case, major: int) -> LibraryPackage | None:
    """The row of the library that each major names apart: cuRAND's and cuDNN's names are the same in two."""
    rows = (row for row in case.matrix.library_packages if row.cuda_major == major)
    return next((row for row in rows if row.component == "cublasLt"), None)


def _names(case: Case, row: LibraryPackage) -> tuple[str, ...]:
    return row.windows if case.machine.platform.startswith("windows") else row.linux


def _of_other_majors(case: Case, major: int) -> tuple[Distribution, ...]:
    packages = {row.package for row in case.matrix.library_packages if row.cuda_major != major}
    return tuple(one for one in case.machine.distributions if one.name in packages)


def _completed(matrix: Matrix, release: Release, packages: tuple[str, ...]) -> tuple[str, ...]:
    """The release with its extras, which pin versions that fit; without extras, the packages by name."""
    if release.extras and release.extras_fault is None:
        return (matrix.requirement(release),)
    return tuple(item for item in release.companions if item.startswith(packages)) or packages


CHECKS = (
    cudnn_two_majors,
    nvidia_packages_incomplete,
    nvidia_packages_of_another_major,
    torch_of_another_major,
)
