"""Checks of the installed runtime's release: how old it is and why, and whether it can work here at all."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.version import Version

from onnxsd.doctor.beside import installed_torch_cuda
from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import ByHand, Finding, Pip, Severity
from onnxsd.doctor.fit import Kind, obstacles
from onnxsd.machine import Distribution
from onnxsd.matrix import Release

_SHOWN = 4
_CUDA_11 = 11


@check("ort-held-back", needs=("distributions", "platform_tags"))
def runtime_held_back(case: Case) -> Iterator[Finding]:
    """The installed onnxruntime-gpu is not the newest, because this system or this Python takes no newer one.

    pip says "Successfully installed" and nothing of the releases that it passed over. On glibc 2.26 it goes
    back to 1.16.3 of 2023, with Python 3.10 to 1.23.2. `pip install --upgrade` cannot change that: only
    another system (or a container with one) or another Python can.

    Sources: tags and Requires-Python of all onnxruntime-gpu wheels; microsoft/onnxruntime#21877;
    QwenAudio/CosyVoice#969; Akegarasu/lora-scripts#411.
    """
    release = case.gpu_release
    if release is None:
        return
    newer = [row for row in case.matrix.releases if row.version > release.version]
    held = [(row, obstacle) for row in newer for obstacle in obstacles(row, case.machine, case.matrix)]
    held = [(row, obstacle) for row, obstacle in held if obstacle.kind in (Kind.LIBC, Kind.PYTHON)]
    if not newer or not any(row is newer[0] for row, _ in held):
        return
    needs = tuple(dict.fromkeys(obstacle.would_need for row, obstacle in held if row is newer[0]))
    serves = case.matrix.meets_floor(release, case.goal)
    yield Finding(
        severity=Severity.INFO if serves else Severity.WARNING,
        summary=f"onnxruntime-gpu {release.version} is installed, and {newer[0].version} is the newest: pip "
        "passed it over without a word",
        because="; ".join(obstacle.reason for row, obstacle in held if row is newer[0]),
        evidence=tuple(f"{row.version}: {obstacle.reason}" for row, obstacle in held[:_SHOWN]),
        remedies=(ByHand(steps=needs),),
    )


@check("ort-cuda11-build", needs=("distributions",))
def runtime_for_cuda_11(case: Case) -> Iterator[Finding]:
    """The onnxruntime-gpu that is installed, or that pip would take here, is a build for CUDA 11.

    Releases up to 1.18.1 look for libcublasLt.so.11 and cuDNN 8. The libraries of CUDA 12 or 13, from a
    toolkit, from torch or from NVIDIA's packages, do not serve them: the provider fails to load and the CPU
    does the work. No extra of these releases brings the libraries, and `preload_dlls()` came with 1.21.

    Sources: NEEDED entries of the provider in each release; microsoft/onnxruntime#21684, #20745, #19616.
    """
    release = case.gpu_release or _would_be_installed(case)
    if release is None or release.cuda_major != _CUDA_11:
        return
    newer = _newer_cuda(case)
    yield Finding(
        severity=case.stops_generate if newer and case.gpu_release else Severity.WARNING,
        summary=f"onnxruntime-gpu {release.version} is a build for CUDA 11"
        + (f", beside libraries of {newer[0]}" if newer else ""),
        because=f"it loads libcublasLt.so.11 and cuDNN {release.cudnn_major}; those of a newer CUDA do not "
        "serve it",
        evidence=newer[:_SHOWN],
        remedies=(case.reinstall(),) if case.gpu_release else (),
    )


@check("ort-broken-release", needs=("distributions",))
def broken_release(case: Case) -> Iterator[Finding]:
    """The installed onnxruntime-gpu is a release that cannot get its libraries.

    The extra `[cuda]` of 1.27.0 asks for packages of which only stubs exist, so pip cannot install it, and
    the release without it does not even import where CUDA 13's runtime is not found: its Python module
    itself is linked with libcudart.so.13.

    Sources: METADATA and NEEDED entries of 1.27.0; microsoft/onnxruntime#29500.
    """
    release = case.gpu_release
    if release is not None and release.extras_fault is not None:
        yield Finding(
            severity=Severity.WARNING,
            summary=f"onnxruntime-gpu {release.version} cannot install its CUDA libraries",
            because=release.extras_fault,
            remedies=(case.reinstall(),),
        )


@check("ort-vanished-release", needs=("distributions",))
def vanished_release(case: Case) -> Iterator[Finding]:
    """The installed onnxruntime-gpu is no longer on the package index.

    The project deletes releases when it meets the index's size limit: 1.16.1, 1.16.2, 1.20.1, 1.23.1 and
    all up to 1.10 are gone. What is installed goes on working, but a requirement that pins it fails on the
    next machine: could not find a version that satisfies the requirement.

    Sources: the index's list of files against that of `onnxruntime`; microsoft/onnxruntime#20737;
    hacksider/Deep-Live-Cam#202, #386, #947.
    """
    found = case.gpu_runtime
    row = next((row for row in case.matrix.vanished if found and found.version in row.versions), None)
    if found is None or row is None:
        return
    yield Finding(
        severity=Severity.WARNING,
        summary=f"onnxruntime-gpu {found.version} is not on the package index"
        + (" any more" if row.was_there else ""),
        because="a requirement that pins it cannot be installed again",
        remedies=(Pip(install=(f"{found.name}=={row.instead}",)),),
    )


@check("ort-nightly", needs=("distributions",))
def nightly(case: Case) -> Iterator[Finding]:
    """The installed runtime is a nightly build, or a release candidate.

    It is of no release whose wheels were read, so its CUDA major and its GPU code are not checked; the
    probe still is. Nightly builds come from other indexes, which do not keep them.

    Sources: rows `feeds` of compat_matrix.yaml; microsoft/onnxruntime#27944.
    """
    for one in case.runtimes:
        if _is_nightly(one):
            yield Finding(
                severity=Severity.INFO,
                summary=f"{one.name} {one.version} is a build between releases",
                because="only the probe can say whether it works here; nothing else is known of it",
            )


@check("ort-release-unknown", needs=("distributions",))
def release_unknown(case: Case) -> Iterator[Finding]:
    """The installed onnxruntime-gpu is not a release that the matrix knows.

    It is newer than this onnxsd, or from another index, so its CUDA major and GPU code are not checked
    against this machine; the probe still is.

    Source: rows `releases` of compat_matrix.yaml.
    """
    found = case.gpu_runtime
    if found is None or case.gpu_release is not None or _is_nightly(found):
        return
    if any(found.version in row.versions for row in case.matrix.vanished):  # `ort-vanished-release` knows it
        return
    yield Finding(
        severity=Severity.INFO,
        summary=f"onnxruntime-gpu {found.version} is not in this onnxsd's matrix",
        because=f"the newest release there is {case.matrix.releases[0].version}",
    )


def _is_nightly(one: Distribution) -> bool:
    return one.version.is_prerelease or one.name.startswith("ort-nightly")


def _would_be_installed(case: Case) -> Release | None:
    best: Version | None = case.recommendation.version if case.recommendation else None
    return case.matrix.release(best) if best is not None and not case.runtimes else None


def _newer_cuda(case: Case) -> tuple[str, ...]:
    """What is here of CUDA 12 and 13: packages first, then torch, then libraries, each as text."""
    rows = [row for row in case.matrix.library_packages if row.cuda_major > _CUDA_11]
    packages = {row.package for row in rows}
    names = {name for row in rows if row.component in ("cudart", "cublasLt") for name in row.linux}
    found = [f"{one.name} {one.version}" for one in case.machine.distributions if one.name in packages]
    torch = case.machine.distribution("torch")
    cuda = installed_torch_cuda(case.machine, case.matrix)
    if torch is not None and cuda is not None and cuda.parts[0] > _CUDA_11:
        found.append(f"torch {torch.version} for CUDA {cuda}")
    return (*found, *(one.path for one in case.machine.libraries if one.soname in names))


CHECKS = (
    runtime_held_back,
    runtime_for_cuda_11,
    broken_release,
    vanished_release,
    nightly,
    release_unknown,
)
