"""Checks of the CUDA libraries: is each one that the runtime loads there, and is it of the right major."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import Finding, Severity
from onnxsd.doctor.proof import runs_on_cuda
from onnxsd.machine import Library, OperatingSystem, Origin
from onnxsd.matrix import LibraryPackage, Release

_LOOKED_IN = (
    "looked in the environment's packages, LD_LIBRARY_PATH, the loader's cache and CUDA's own folders"
)
# What every release loads, as far as its wheels were read: asked of a wheel whose imports were not.
_ALWAYS_ON_WINDOWS = ("cublasLt", "cublas")
_ALWAYS_ON_LINUX = (*_ALWAYS_ON_WINDOWS, "cudart", "curand")
_OF_THE_SYSTEM = (Origin.TOOLKIT, Origin.LD_CACHE, Origin.LD_LIBRARY_PATH, Origin.SYSTEM, Origin.CONDA)


@check("library-missing", needs=("libraries", "distributions"))
def library_missing(case: Case) -> Iterator[Finding]:
    """A CUDA library that the installed onnxruntime-gpu loads is nowhere to be found.

    The loader names the first missing library alone, and onnxruntime then goes on with the CPU; here the
    whole list that the provider asks for is compared with what is there. The wheel brings none of them:
    they come with the extras `cuda` and `cudnn`. `cuda` alone brings no cuBLAS, and torch 2.15 no longer
    brings cuRAND.

    Sources: NEEDED entries of the wheels' CUDA provider; microsoft/onnxruntime#21684, #25609, #24719;
    vegidio/open-photo-ai#47.
    """
    missing = missing_libraries(case)
    if not missing or runs_on_cuda(case):
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"{len(missing)} of the CUDA libraries that {case.matrix.package} loads "
        + ("is" if len(missing) == 1 else "are")
        + f" missing: {', '.join(missing)}",
        because="without them the CUDA provider does not load, and onnxruntime goes on with the CPU",
        evidence=(*_bringers(missing, case), *_others_of(missing, case), _LOOKED_IN),
        remedies=(case.reinstall(beside=True),),
    )


@check("toolkit-other-major", needs=("libraries", "distributions"))
def toolkit_other_major(case: Case) -> Iterator[Finding]:
    """The CUDA that the system holds is of another major than the installed onnxruntime-gpu.

    A build for CUDA 13 loads libcublasLt.so.13 and nothing else, so a toolkit of CUDA 12 is of no use to it,
    nor the other way round. The toolkit need not change: the libraries of the right major come as packages
    and lie beside it.

    Sources: NEEDED entries of the wheels; infiniflow/ragflow#14565; pykeio/ort#548.
    """
    release = case.gpu_release
    if release is None or not missing_libraries(case) or runs_on_cuda(case):
        return
    if case.machine.variable("CUDA_PATH"):  # `cuda-path-other-major` reports a toolkit that is named so
        return
    found = [one for one in case.machine.libraries_of("cublasLt") if one.origin in _OF_THE_SYSTEM]
    majors = {one.version.parts[0] for one in found if one.version}
    if not majors or release.cuda_major in majors:
        return
    here = " and ".join(f"CUDA {major}" for major in sorted(majors))
    yield Finding(
        severity=Severity.INFO,
        summary=f"the system holds {here}; onnxruntime-gpu {release.version} is built for "
        f"CUDA {release.cuda_major}",
        because="a build loads the libraries of its own major alone; packages bring them, beside the toolkit",
        evidence=tuple(one.path for one in found),
        remedies=(case.reinstall(beside=True),),
    )


@check("cudnn-missing", needs=("libraries", "distributions"))
def cudnn_missing(case: Case) -> Iterator[Finding]:
    """There is no cuDNN.

    Up to 1.27 the CUDA provider does not load without it. From 1.28 on it loads, and the first convolution
    fails, so a session is made and no image. NVIDIA's container images without `cudnn` in their tag, and
    CUDA's toolkit, do not hold it.

    Sources: NEEDED entries of the wheels; microsoft/onnxruntime#25609; loeeeee/immich-in-lxc#32.
    """
    release = case.gpu_release
    if release is None or case.machine.libraries_of("cudnn") or runs_on_cuda(case):
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"cuDNN is missing: onnxruntime-gpu {release.version} needs cuDNN {release.cudnn_major}",
        because="the CUDA provider does not load without it"
        if release.cudnn_required
        else "the CUDA provider loads without it, and the first convolution fails",
        evidence=(_LOOKED_IN,),
        remedies=(case.reinstall(beside=True),),
    )


@check("cudnn-wrong-major", needs=("libraries", "distributions"))
def cudnn_wrong_major(case: Case) -> Iterator[Finding]:
    """The cuDNN that is there is of another major than the installed onnxruntime-gpu asks for.

    Releases up to 1.18 load libcudnn.so.8, later ones libcudnn.so.9, and neither takes the other.

    Sources: NEEDED entries of the wheels; microsoft/onnxruntime#19616, #25609.
    """
    release, found = case.gpu_release, case.machine.libraries_of("cudnn")
    majors = sorted({one.version.parts[0] for one in found if one.version})
    if release is None or not majors or release.cudnn_major in majors or runs_on_cuda(case):
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"onnxruntime-gpu {release.version} needs cuDNN {release.cudnn_major}, and here is cuDNN "
        + " and ".join(map(str, majors)),
        because=f"it loads libcudnn.so.{release.cudnn_major}, or cudnn64_{release.cudnn_major}.dll",
        evidence=tuple(_place(one) for one in found),
        remedies=(case.reinstall(beside=True),),
    )


@check("tensorrt-missing", needs=("libraries", "distributions"))
def tensorrt_other_major(case: Case) -> Iterator[Finding]:
    """The TensorRT that is there is not the one that the installed onnxruntime-gpu loads.

    The TensorRT provider of every release since 1.18 asks for TensorRT 10, and the newest packages hold 11.
    The provider then does not load and onnxruntime takes the next in its list. Without any TensorRT nothing
    is said: it is not needed.

    Sources: NEEDED entries of the wheels' TensorRT provider; microsoft/onnxruntime#18597, #17394, #12639.
    """
    release, found = case.gpu_release, case.machine.libraries_of("tensorrt")
    wheel = release.wheel_for(case.machine.platform) if release else None
    wanted = [name for name in (wheel.tensorrt_needed or () if wheel else ()) if "nvinfer" in name]
    missing = [name for name in wanted if name not in {one.soname for one in found}]
    if release is None or not found or not missing:
        return
    yield Finding(
        severity=Severity.INFO,
        summary=f"the TensorRT provider of onnxruntime-gpu {release.version} does not find "
        + ", ".join(missing),
        because="here is another TensorRT; the CUDA provider is not affected",
        evidence=tuple(_place(one) for one in found),
    )


def missing_libraries(case: Case) -> tuple[str, ...]:
    """What the installed release asks the loader for and is found nowhere; cuDNN and libcuda have checks of
    their own."""
    if case.gpu_release is None:
        return ()
    found = {one.soname for one in case.machine.libraries}
    return tuple(name for name in _asked_for(case.gpu_release, case) if name not in found)


def _asked_for(release: Release, case: Case) -> Iterator[str]:
    wheel = release.wheel_for(case.machine.platform)
    if wheel is not None and wheel.needed is not None:
        for name in wheel.needed:
            row = case.matrix.package_of(name)
            if row is not None and row.component != "cudnn":
                yield name
        return
    windows = case.machine.os is OperatingSystem.WINDOWS
    always = _ALWAYS_ON_WINDOWS if windows else _ALWAYS_ON_LINUX
    for row in case.matrix.library_packages:
        if row.cuda_major == release.cuda_major and row.component in always:
            yield from row.windows if windows else row.linux


def _bringers(missing: tuple[str, ...], case: Case) -> Iterator[str]:
    for name in missing:
        row = case.matrix.package_of(name)
        if row is not None:
            yield f"{name} comes with {row.package}"


def _others_of(missing: tuple[str, ...], case: Case) -> Iterator[str]:
    """Libraries of the same kind and another version, which do not serve."""
    rows: list[LibraryPackage | None] = [case.matrix.package_of(name) for name in missing]
    for component in dict.fromkeys(row.component for row in rows if row):
        yield from (f"does not serve: {_place(one)}" for one in case.machine.libraries_of(component))


def _place(one: Library) -> str:
    version = f" ({one.version})" if one.version else ""
    return f"{one.path}{version}, by {one.owner or one.origin.value}"


CHECKS = (library_missing, toolkit_other_major, cudnn_missing, cudnn_wrong_major, tensorrt_other_major)
