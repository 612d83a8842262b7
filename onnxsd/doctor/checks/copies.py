"""Checks of libraries that lie in several places: which copy the loader takes, and whether they mix."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import PurePath, PurePosixPath

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.checks.libraries import missing_libraries
from onnxsd.doctor.finding import ByHand, Finding, Severity
from onnxsd.doctor.proof import failed_on_cuda, gravity, runs_on_cuda
from onnxsd.machine import Library, Origin, Provider
from onnxsd.records import Dotted

_MAJOR_IN_PATH = re.compile(r"(?:cuda-|[/\\]v)(\d+)(?:\.\d+)?(?=[/\\]|$)", re.IGNORECASE)
_OUTSIDE = (Origin.TOOLKIT, Origin.LD_CACHE, Origin.SYSTEM, Origin.CONDA)


@check("library-path-shadows", needs=("libraries", "variables"))
def library_path_shadows(case: Case) -> Iterator[Finding]:
    """LD_LIBRARY_PATH puts other CUDA libraries before those of the environment.

    The loader looks there first, also for the libraries that cuBLAS and cuDNN open by themselves, so one
    process mixes two versions: undefined symbols, CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH, wrong results.

    Sources: ld.so(8); microsoft/onnxruntime#8594; pytorch/pytorch#174320.
    """
    found = list(_pairs(case, (Origin.LD_LIBRARY_PATH,), Origin.PIP))
    if not found:
        return
    names = ", ".join(first.soname for first, _ in found)
    folders = tuple(dict.fromkeys(str(PurePath(first.path).parent) for first, _ in found))
    yield Finding(
        severity=_of_the_shadow(case),
        summary=f"LD_LIBRARY_PATH puts other versions before the environment's: {names}",
        because="libraries of two versions then meet in one process",
        evidence=tuple(f"{first.path}: {first.version}, not {other.version}" for first, other in found),
        remedies=(
            ByHand(
                steps=(f"take {', '.join(folders)} out of LD_LIBRARY_PATH",),
                commands=(_path_without(folders, case.machine.variable("LD_LIBRARY_PATH") or ""),),
            ),
        ),
    )


@check("libraries-in-two-places", needs=("libraries",))
def libraries_in_two_places(case: Case) -> Iterator[Finding]:
    """cuDNN lies in the environment and in the system, in two versions.

    cuDNN opens its parts (libcudnn_graph, libcudnn_engines_…) by name when they are needed. A part that one
    copy lacks is taken from the other: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH.

    Sources: pytorch/pytorch#188892, #185512; koharu-rs/koharu#694.
    """
    for outside, packaged in _pairs(case, _OUTSIDE, Origin.PIP):
        if packaged.component != "cudnn":  # a toolkit beside the packages is no fault: its parts do not mix
            continue
        yield Finding(
            severity=_where_it_ran(case),
            summary=f"cuDNN lies in two places: {packaged.version} in the environment, {outside.version} in "
            "the system",
            because="cuDNN loads its parts by name, and may take some from the other copy",
            evidence=(packaged.path, outside.path),
            remedies=(ByHand(steps=("remove the system's cuDNN, or install the same version of both",)),),
        )


@check("torch-loads-other-library", needs=("libraries",))
def torch_loads_other_library(case: Case) -> Iterator[Finding]:
    """torch brings a cuDNN of its own, of another version than the environment's.

    The first that is loaded into a process serves both: what works depends on whether torch or onnxruntime
    is imported first. On Windows torch keeps its libraries in torch/lib; with a cuDNN of the same version
    beside it either order works.

    Sources: microsoft/onnxruntime#24266, #23643, #21684; deepinsight/insightface#2295.
    """
    for bundled, packaged in _pairs(case, (Origin.BUNDLED,), Origin.PIP):
        if packaged.component != "cudnn":
            continue
        wanted = f"{packaged.owner}=={bundled.version}" if packaged.owner else "the version that torch brings"
        yield Finding(
            severity=_where_it_ran(case),
            summary=f"torch brings cuDNN {bundled.version}, and the environment has {packaged.version}",
            because="the first that a process loads serves both torch and onnxruntime",
            evidence=(bundled.path, packaged.path),
            remedies=(ByHand(steps=(f"bring both to one version: {wanted}",)),),
        )


@check("session-loads-other-library", needs=("libraries",))
def session_loads_other_library(case: Case) -> Iterator[Finding]:
    """The session on the GPU took a CUDA library from outside the environment, which has one of its own.

    The probe notes what its process had loaded in the end: this is no guess from paths. A release without
    `preload_dlls` (before 1.21) leaves the choice to the loader, which looks into LD_LIBRARY_PATH and its
    cache and not among packages.

    Sources: the probe itself; onnxruntime documentation, CUDA execution provider (preload_dlls).
    """
    probe = case.machine.probe(Provider.CUDA)
    for path in probe.loaded if probe else ():
        packaged = next((one for one in case.machine.libraries if _is_packaged(one, path)), None)
        if packaged is None or _of_a_package(path):
            continue
        yield Finding(
            severity=gravity(case),
            summary=f"the session took {packaged.soname} from {path}, not from {packaged.owner}",
            because="its version is not the one that the environment was resolved for",
            evidence=(packaged.path,),
            remedies=(ByHand(steps=("unset LD_LIBRARY_PATH, or take a release from 1.21 on",)),),
        )


@check("cuda-path-other-major", needs=("variables", "distributions"))
def cuda_path_other_major(case: Case) -> Iterator[Finding]:
    """CUDA_PATH names a toolkit of another CUDA major than the installed onnxruntime-gpu.

    On Windows onnxruntime looks for its libraries there, and complains that CUDA_PATH is set but CUDA wasn't
    able to be loaded. The packages of the extras `cuda` and `cudnn` serve without any toolkit, and where they
    are there the variable does no harm.

    Sources: microsoft/onnxruntime#13576, #21740, #21272, #21049.
    """
    release = case.gpu_release
    if not missing_libraries(case) or runs_on_cuda(case):  # what that toolkit lacks is found elsewhere
        return
    for name in ("CUDA_PATH", "CUDA_HOME"):
        path = case.machine.variable(name)
        found = _MAJOR_IN_PATH.search(path) if path else None
        if release is None or found is None or int(found.group(1)) == release.cuda_major:
            continue
        yield Finding(
            severity=Severity.WARNING,
            summary=f"{name} names CUDA {found.group(1)}; onnxruntime-gpu {release.version} is built for "
            f"CUDA {release.cuda_major}",
            because="that toolkit's libraries do not serve this build",
            evidence=(f"{name}={path}",),
            remedies=(case.reinstall(beside=True),),
        )


def _path_without(folders: tuple[str, ...], value: str) -> str:
    """The command that keeps the other entries: the driver's libraries may lie under one of them."""
    gone = {PurePosixPath(folder) for folder in folders}
    entries = [entry for entry in value.split(":") if entry]
    kept = [entry for entry in entries if PurePosixPath(entry) not in gone]
    if not kept or kept == entries:
        return "unset LD_LIBRARY_PATH"
    return f"export LD_LIBRARY_PATH={shlex.quote(':'.join(kept))}"


def _of_the_shadow(case: Case) -> Severity:
    """A remark where the session is seen to have loaded the environment's copies, and none but them.

    The release may load them by their paths before it asks the loader (preload_dlls).
    """
    if failed_on_cuda(case):
        return case.stops_generate
    probe = case.machine.probe(Provider.CUDA)
    loaded = probe.loaded if probe and runs_on_cuda(case) else ()
    packaged = [path for path in loaded if any(_is_packaged(one, path) for one in case.machine.libraries)]
    return Severity.INFO if packaged and all(map(_of_a_package, packaged)) else Severity.WARNING


def _where_it_ran(case: Case) -> Severity:
    """A remark where a session ran on the GPU beside both copies."""
    return Severity.INFO if runs_on_cuda(case) else Severity.WARNING


def _is_packaged(one: Library, loaded: str) -> bool:
    """Whether this is the environment's copy of a library that was loaded, from wherever it came."""
    return one.origin is Origin.PIP and PurePath(loaded).name.startswith(one.soname)


def _of_a_package(path: str) -> bool:
    return bool({"site-packages", "dist-packages"} & set(PurePath(path).parts))


def _pairs(case: Case, origins: tuple[Origin, ...], other: Origin) -> Iterator[tuple[Library, Library]]:
    """A library of one of the origins and the same one of the other origin, where their versions differ."""
    for one in case.machine.libraries:
        if one.origin not in origins or one.component == "cuda":
            continue
        same = (two for two in case.machine.libraries if two.soname == one.soname and two.origin is other)
        two = next(same, None)
        if two is not None and _differ(one.version, two.version):
            yield one, two


def _differ(one: Dotted | None, other: Dotted | None) -> bool:
    """Whether two versions differ as far as both are known; a major alone says nothing."""
    if one is None or other is None or min(len(one.parts), len(other.parts)) < 2:
        return False
    known = min(len(one.parts), len(other.parts), 3)  # a fourth part is a build's, which files do not name
    return one.parts[:known] != other.parts[:known]


CHECKS = (
    library_path_shadows,
    session_loads_other_library,
    libraries_in_two_places,
    torch_loads_other_library,
    cuda_path_other_major,
)
