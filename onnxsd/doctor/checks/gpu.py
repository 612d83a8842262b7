"""Checks of the GPU and its driver against the runtime that is installed."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import ByHand, Finding, Pip, Severity
from onnxsd.doctor.fit import Coverage, coverage, describe
from onnxsd.machine import OperatingSystem

_HIDING = ("", "-1", "NoDevFiles", "none", "void")


@check("driver-too-old", needs=("driver", "distributions"))
def driver_too_old(case: Case) -> Iterator[Finding]:
    """The installed onnxruntime-gpu is for a CUDA major that the driver does not run.

    CUDA 13 needs driver 580, CUDA 12 needs 525, CUDA 11 needs 450. With an older one the provider fails to
    load (CUDA error 35) and onnxruntime goes on with the CPU.

    Sources: docs.nvidia.com/deploy/cuda-compatibility; rows `drivers` of compat_matrix.yaml.
    """
    release, driver = case.gpu_release, case.machine.driver
    if release is None or driver is None:
        return
    wanted = case.matrix.minimum_driver(
        release.cuda_major, windows=case.machine.os is OperatingSystem.WINDOWS
    )
    if driver >= wanted:
        return
    offered = case.matrix.cuda_of(driver)
    yield Finding(
        severity=case.stops_generate,
        summary=f"onnxruntime-gpu {release.version} is built for CUDA {release.cuda_major}, "
        f"which driver {driver} does not run",
        because=f"CUDA {release.cuda_major} needs driver {wanted} or newer"
        + (f"; this one offers CUDA {offered}" if offered else ""),
        remedies=(case.reinstall(), ByHand(steps=(f"or update the NVIDIA driver to {wanted} or newer",))),
    )


@check("gpu-not-in-wheel", needs=("gpus", "distributions"))
def gpu_not_in_wheel(case: Case) -> Iterator[Finding]:
    """The installed onnxruntime-gpu holds no code for this GPU.

    A wheel holds machine code for some compute capabilities and perhaps PTX, which the driver compiles at
    the first start. With neither, the first operator fails: no kernel image is available for execution on
    the device. From 1.29 wheels hold no PTX at all, and none of them covers compute capability 10.x.

    Sources: fatbins of the wheels; microsoft/onnxruntime#26181, #27528.
    """
    release = case.gpu_release
    wheel = release.wheel_for(case.machine.platform) if release else None
    if release is None or wheel is None:
        return
    found = [(gpu, coverage(wheel, gpu)) for gpu in case.machine.gpus]
    one_serves = any(one is not Coverage.NONE for _, one in found)
    for gpu, one in found:
        if one is Coverage.NONE:
            yield Finding(
                severity=Severity.WARNING if one_serves else case.stops_generate,
                summary=f"onnxruntime-gpu {release.version} holds no code for {describe(gpu)}",
                because="its first operator on this GPU fails: no kernel image is available",
                evidence=(f"machine code: {wheel.sass}, PTX: {wheel.ptx} ({wheel.evidence})",),
                remedies=() if one_serves else (case.reinstall(),),
            )
        elif one is Coverage.COMPILED_AT_START:
            yield Finding(
                severity=Severity.INFO,
                summary=f"onnxruntime-gpu {release.version} holds only PTX for {describe(gpu)}",
                because="the driver compiles it at the first start, which takes minutes once",
            )


@check("gpu-hidden")
def gpu_hidden(case: Case) -> Iterator[Finding]:
    """CUDA_VISIBLE_DEVICES hides every GPU.

    An empty value, or -1, leaves CUDA with no device (error 100), although the driver shows the GPUs.

    Source: CUDA C++ Programming Guide, environment variables.
    """
    value = case.machine.variable("CUDA_VISIBLE_DEVICES")
    if value is None or value.strip() not in _HIDING or not case.machine.gpus:
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"CUDA_VISIBLE_DEVICES={value!r} hides every GPU from CUDA",
        because="with this value CUDA reports that there is no device",
        evidence=tuple(describe(gpu) for gpu in case.machine.gpus),
        remedies=(ByHand(steps=("unset CUDA_VISIBLE_DEVICES, or set it to 0",)),),
    )


@check("no-gpu", needs=("gpus",))
def no_gpu(case: Case) -> Iterator[Finding]:
    """No NVIDIA GPU is seen.

    Then there is no onnxruntime-gpu to recommend: images are made on the CPU with the `onnxruntime`
    package. In a container, a GPU is seen only when it was started with one (`docker run --gpus all`).

    Sources: NVML; immich-app/immich#14808.
    """
    if case.machine.gpus:
        return
    driver = case.machine.driver
    runs = "works with" if case.runtimes else "works with the package"
    yield Finding(
        severity=Severity.WARNING,
        summary=f"no NVIDIA GPU is seen; the CPU {runs} {case.matrix.cpu_package}, many times slower",
        because=f"NVIDIA driver {driver} shows no device" if driver else "no NVIDIA driver is installed",
        remedies=() if case.runtimes else (Pip(install=("onnxsd[cpu]",)),),
    )


CHECKS = (driver_too_old, gpu_not_in_wheel, gpu_hidden, no_gpu)
