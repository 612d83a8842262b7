"""Checks of onnxsd's own kernels: would a picture be made with them here, and if not, why.

What they need of the runtime is no check of its own: every release that serves on a GPU (rows `floors` of
compat_matrix.yaml, `ort-below-floor`) has the C API that the native library calls.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.checks.libraries import missing_libraries
from onnxsd.doctor.driver_fit import driver_runs
from onnxsd.doctor.finding import ByHand, Finding, Pip, Severity
from onnxsd.doctor.gpu_code import describe
from onnxsd.doctor.proof import failed_on_cuda, runs_on_cuda
from onnxsd.machine import Gpu, Library, OperatingSystem, Origin
from onnxsd.machine.own_kernels import NVRTC_MAJORS, OLDEST_CAPABILITY
from onnxsd.matrix import CudaGpus, Goal, LibraryPackage
from onnxsd.records import Dotted

_INSTEAD = (
    "pictures are made with onnxruntime's operators: slower, and one seed gives pictures that differ slightly"
)
# NVRTC is asked of the loader, then of pip's packages: a toolkit's folder is not looked into by itself, nor
# those of torch and onnxruntime.
_NOT_LOOKED_INTO = (Origin.TOOLKIT, Origin.BUNDLED)
_COMPONENT = "nvrtc"


@check("own-kernels-not-built", needs=("own_kernels", "gpus"))
def not_built(case: Case) -> Iterator[Finding]:
    """onnxsd was installed without the native library that brings its own kernels to onnxruntime.

    The library is compiled when onnxsd is installed from source, where there is a C++ compiler; without one
    the installation goes on and says so in its log alone. Pictures are then made with the operators of
    onnxruntime, of which GroupNorm adds in an order that changes: the same seed gives pictures that differ
    slightly. `onnxsd generate --own-kernels` refuses to go on.

    Sources: onnxsd's setup.py; two runs of one session on an H200, compared bit by bit.
    """
    found = case.machine.own_kernels
    if not _concerned(case) or found is None or found.library:
        return
    yield Finding(
        severity=Severity.WARNING,
        summary="onnxsd was installed without its native library, so its own kernels are not used",
        because=_INSTEAD,
        remedies=(
            ByHand(
                steps=(
                    "install a C++ compiler (g++ or clang++; on Windows the Build Tools of Visual Studio), "
                    "or take a wheel of onnxsd that holds the library",
                    "then install onnxsd again, in a checkout with `pip install .`; ONNXSD_REQUIRE_NATIVE=1 "
                    "makes it an error that the library cannot be compiled",
                ),
                commands=("python -m pip install --force-reinstall --no-deps --no-cache-dir onnxsd",),
            ),
        ),
    )


@check("own-kernels-outdated", needs=("own_kernels", "gpus"))
def outdated(case: Case) -> Iterator[Finding]:
    """onnxsd's native library was built from other sources than those that are here.

    So it is in a checkout that was updated and not installed again. The library gives the kernels their
    arguments, and would give new ones those of the old, so it is refused, and pictures are made with the
    operators of onnxruntime. `onnxsd generate --own-kernels` refuses to go on.

    Source: onnxsd's setup.py, which marks the library with what it was built from.
    """
    found = case.machine.own_kernels
    if not _concerned(case) or found is None or not found.outdated:
        return
    yield Finding(
        severity=Severity.WARNING,
        summary="onnxsd's native library was built from other sources than those that are here, so its own "
        "kernels are not used",
        because=_INSTEAD,
        remedies=(
            ByHand(
                steps=("install onnxsd again; in a checkout:",),
                commands=("python -m pip install --no-deps --editable .",),
            ),
        ),
    )


@check("own-kernels-gpu", needs=("gpus",))
def gpu_too_old(case: Case) -> Iterator[Finding]:
    """A GPU is older than onnxsd's own kernels: compute capability 7.5 is the least.

    GTX 10, P100, Titan V and V100 make pictures with onnxruntime's operators. Nothing is to be mended: they
    are slower, and the same seed gives pictures that differ slightly.

    Source: onnxsd's kernels, which use 16-byte accesses and the float16 arithmetic of Turing.
    """
    older = [gpu for gpu in case.machine.gpus if gpu.compute_capability < OLDEST_CAPABILITY]
    if not _concerned(case) or not older:
        return
    newer = [gpu for gpu in case.machine.gpus if gpu not in older]
    yield Finding(
        severity=Severity.INFO,
        summary=f"onnxsd's own kernels do not run on {describe(older[0])}",
        because="they need compute capability {}.{}; ".format(*OLDEST_CAPABILITY) + _INSTEAD,
        evidence=tuple(dict.fromkeys(describe(gpu) for gpu in older)),
        remedies=(ByHand(steps=(f"make them on the {newer[0].name} (--device)",)),) if newer else (),
    )


@check("own-kernels-nvrtc", needs=("libraries", "distributions", "gpus"))
def nvrtc_missing(case: Case) -> Iterator[Finding]:
    """There is no NVRTC, NVIDIA's compiler as a library, with which onnxsd compiles its own kernels.

    They are compiled once for the GPU that is there, and kept. The extra `cuda` of onnxruntime-gpu brings
    NVRTC; where the libraries are named one by one it is easily left out, for most releases of onnxruntime do
    not ask the loader for it. That of the other CUDA major serves as well, where the driver runs that one. A
    toolkit's is found where LD_LIBRARY_PATH (on Windows PATH) or the loader's cache names its folder.

    Sources: METADATA and NEEDED entries of onnxruntime-gpu's wheels; NVIDIA's documentation of NVRTC;
    docs.nvidia.com/deploy/cuda-compatibility.
    """
    if not _compiles(case) or _nvrtc(case):
        return
    row = _package(case, _majors(case)[0])
    unused = case.machine.libraries_of(_COMPONENT)
    yield Finding(
        severity=Severity.WARNING,
        summary=f"NVRTC of CUDA {row.cuda_major} is missing, so onnxsd's own kernels cannot be compiled",
        because=_INSTEAD,
        evidence=tuple(f"does not serve: {one.path} (by {one.owner or one.origin.value})" for one in unused),
        remedies=(Pip(install=(f"{row.package}~={row.cuda_major}.0",)),),
    )


@check("own-kernels-nvrtc-too-old", needs=("libraries", "distributions", "gpus"))
def nvrtc_older_than_gpu(case: Case) -> Iterator[Finding]:
    """The NVRTC that is there is older than the GPU, and compiles nothing for it.

    NVRTC knows the GPUs of its own time: before 12.8 none of compute capability 10.0 and 12.0. A package that
    pins an old one (torch does, to its own CUDA) holds it back while onnxruntime itself runs.

    Sources: rows `cuda_gpus` of compat_matrix.yaml; NVIDIA's documentation of NVRTC (nvrtcGetSupportedArchs).
    """
    if not _compiles(case):
        return
    found = [(one, _rows_of(case, one)) for one in _nvrtc(case)]
    for gpu in dict.fromkeys(case.machine.gpus):
        if not found or any(row is None or _serves(row, gpu) for _, row in found):
            continue
        one = found[0][0]
        yield Finding(
            severity=Severity.WARNING,
            summary=f"NVRTC {one.version} compiles nothing for {describe(gpu)}, so onnxsd's own kernels are "
            "not used there",
            because=_INSTEAD,
            evidence=tuple(f"{one.path} ({one.version})" for one, _ in found),
            remedies=_newer(case, gpu),
        )


@check("own-kernels-cache", needs=("own_kernels", "gpus"))
def cache_not_writable(case: Case) -> Iterator[Finding]:
    """The folder in which onnxsd keeps its compiled kernels cannot be written to.

    They are then compiled at each start, which takes a few seconds, and used all the same. So it is with a
    read-only home folder, or in a container whose user has none.

    Source: onnxsd's cache of kernels; the XDG base directory specification (XDG_CACHE_HOME).
    """
    found = case.machine.own_kernels
    if not _concerned(case) or found is None or not found.library or found.cache_fault is None:
        return
    windows = case.machine.os is OperatingSystem.WINDOWS
    variable = "LOCALAPPDATA" if windows else "XDG_CACHE_HOME"
    yield Finding(
        severity=Severity.INFO,
        summary=f"compiled kernels cannot be kept in {found.cache_folder}",
        because="they are compiled anew at each start, which takes a few seconds",
        evidence=(found.cache_fault,),
        remedies=(ByHand(steps=(f"set {variable} to a folder that can be written to",)),),
    )


def _concerned(case: Case) -> bool:
    """Whether pictures are the goal, on a GPU; what stops them altogether is told by other checks."""
    if case.goal is not Goal.GENERATE or not case.machine.gpus or failed_on_cuda(case):
        return False
    return case.gpu_release is None or case.matrix.meets_floor(case.gpu_release, case.goal)


def _compiles(case: Case) -> bool:
    """Whether the installed runtime and GPU are such that NVRTC is asked for.

    Where CUDA libraries are missing, NVRTC comes with those.
    """
    capabilities = [gpu.compute_capability for gpu in case.machine.gpus]
    if not _concerned(case) or case.gpu_runtime is None or max(capabilities) < OLDEST_CAPABILITY:
        return False
    return runs_on_cuda(case) or not missing_libraries(case)


def _majors(case: Case) -> tuple[int, ...]:
    """CUDA's majors in the order in which NVRTC is looked for: that of the installed runtime first."""
    own = (case.gpu_release.cuda_major,) if case.gpu_release else ()
    return tuple(dict.fromkeys((*own, *NVRTC_MAJORS)))


def _nvrtc(case: Case) -> tuple[Library, ...]:
    """The copies of the NVRTC that would be taken: of the first major that is there and that the driver
    runs."""
    there = [one for one in case.machine.libraries_of(_COMPONENT) if one.origin not in _NOT_LOOKED_INTO]
    for major in _majors(case):
        found = tuple(one for one in there if one.version and one.version.parts[0] == major)
        if found and driver_runs(major, case.machine, case.matrix):
            return found
    return ()


def _package(case: Case, cuda_major: int) -> LibraryPackage:
    """The package of NVRTC for a CUDA major."""
    rows = case.matrix.library_packages
    return next(row for row in rows if row.component == _COMPONENT and row.cuda_major == cuda_major)


def _rows_of(case: Case, one: Library) -> CudaGpus | None:
    """What a copy of NVRTC compiles for; None where its version is not known but for the major.

    On Windows a file's name says 12.0 for all of 12.x; a package's version is exact.
    """
    exact = one.owner is not None or case.machine.os is not OperatingSystem.WINDOWS
    if one.version is None or len(one.version.parts) < 2 or not exact:
        return None
    version = ".".join(str(part) for part in one.version.parts[:2])
    return next((row for row in case.matrix.cuda_gpus if row.cuda.contains(version)), None)


def _serves(row: CudaGpus, gpu: Gpu) -> bool:
    return row.newest is None or Dotted(gpu.compute_capability, "") <= row.newest


def _newer(case: Case, gpu: Gpu) -> tuple[Pip, ...]:
    """The remedy that installs an NVRTC of the runtime's CUDA major that knows a GPU."""
    major = _majors(case)[0]
    minors = [f"{major}.{minor}" for minor in range(10)]
    for row in case.matrix.cuda_gpus:
        if _serves(row, gpu) and any(row.cuda.contains(version) for version in minors):
            known = next(version for version in minors if row.cuda.contains(version))
            return (Pip(install=(f"{_package(case, major).package}~={known}",)),)
    return ()


CHECKS = (not_built, outdated, gpu_too_old, nvrtc_missing, nvrtc_older_than_gpu, cache_not_writable)
