"""Checks of the GPU: is there one, does the installed runtime hold code for it, is it ready."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.requirements import Requirement

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import ByHand, Finding, Pip, Severity
from onnxsd.doctor.gpu_code import Coverage, codes_text, coverage, describe
from onnxsd.doctor.instead import for_jetson, jetson_modules, runtimes_for
from onnxsd.doctor.native_log import cuda_failure
from onnxsd.doctor.proof import gravity, runs_on_cuda, said
from onnxsd.machine import Gpu
from onnxsd.matrix import Runtime
from onnxsd.records import Dotted

_FABRIC_NOT_READY = ("in-progress", "not-started")
_BUSY = 46  # cudaErrorDevicesUnavailable


@check("gpu-not-in-wheel", needs=("gpus", "distributions"))
def gpu_not_in_wheel(case: Case) -> Iterator[Finding]:
    """The installed onnxruntime-gpu holds no code for this GPU.

    A wheel holds machine code for some compute capabilities and perhaps PTX, which the driver compiles at
    the first start. With neither, the first operator fails: no kernel image is available for execution on
    the device. From 1.29 wheels hold no PTX at all, and none of them covers compute capability 10.x.

    Sources: fatbins of the wheels; microsoft/onnxruntime#26181, #27528.
    """
    release, found = case.gpu_release, _covered(case)
    wheel = release.wheel_for(case.machine.platform) if release else None
    if release is None or wheel is None:
        return
    one_serves = any(one is not Coverage.NONE for _, one in found)
    for gpu, one in found:
        if one is Coverage.NONE:
            yield Finding(
                severity=Severity.WARNING if one_serves else case.stops_generate,
                summary=f"onnxruntime-gpu {release.version} holds no code for {describe(gpu)}",
                because="its first operator on this GPU fails: no kernel image is available",
                evidence=(f"it has {codes_text(wheel)} ({wheel.evidence})",),
                remedies=() if one_serves else case.other_build(),
            )


@check("gpu-compiled-at-start")
def gpu_compiled_at_start(case: Case) -> Iterator[Finding]:
    """The installed onnxruntime-gpu has only PTX for this GPU, which the driver compiles at the first start.

    That takes minutes once, without a word, and again whenever the driver changes. The result is kept in
    ~/.nv/ComputeCache, or where CUDA_CACHE_PATH says: in a container that folder is lost with it.

    Sources: fatbins of the wheels; CUDA C++ Programming Guide, just-in-time compilation.
    """
    release = case.gpu_release
    for gpu, one in _covered(case):
        if release is not None and one is Coverage.COMPILED_AT_START:
            yield Finding(
                severity=Severity.INFO,
                summary=f"onnxruntime-gpu {release.version} holds only PTX for {describe(gpu)}",
                because="the driver compiles it at the first start, which takes minutes once",
            )


@check("gpus-mixed")
def gpus_mixed(case: Case) -> Iterator[Finding]:
    """The machine has GPUs of several kinds, and CUDA numbers them in another order than nvidia-smi.

    CUDA puts the fastest first, nvidia-smi goes by the PCI bus. `--device 1` may then be another GPU than the
    1 that nvidia-smi shows, with another memory, and perhaps one that the wheel holds no code for.

    Source: CUDA C++ Programming Guide, environment variables (CUDA_DEVICE_ORDER).
    """
    kinds = {(gpu.name, gpu.compute_capability) for gpu in case.machine.gpus}
    if len(kinds) < 2 or case.machine.variable("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return
    yield Finding(
        severity=Severity.INFO,
        summary=f"{len(kinds)} kinds of GPUs, and CUDA_DEVICE_ORDER is not PCI_BUS_ID",
        because="CUDA counts the fastest first, nvidia-smi by the bus: a number may mean two GPUs",
        evidence=tuple(describe(gpu) for gpu in case.machine.gpus),
        remedies=(ByHand(steps=("set CUDA_DEVICE_ORDER=PCI_BUS_ID",)),),
    )


@check("fabric-manager", needs=("gpus",))
def fabric_not_ready(case: Case) -> Iterator[Finding]:
    """The NVLink fabric of this GPU is not set up.

    On machines with NVSwitch (HGX, DGX) CUDA starts only when nvidia-fabricmanager has registered the GPUs;
    until then it fails with error 802 (system not yet initialized), although nvidia-smi lists them. Its
    version must be the driver's.

    Sources: NVML fabric state; pytorch/pytorch#35710; awslabs/amazon-eks-ami#2554; dstackai/dstack#2348.
    """
    waiting = [gpu for gpu in case.machine.gpus if gpu.fabric in _FABRIC_NOT_READY]
    if not waiting or runs_on_cuda(case):
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"the NVLink fabric is not ready on {len(waiting)} of {len(case.machine.gpus)} GPUs",
        because="CUDA waits for nvidia-fabricmanager, which does not run or has another version",
        evidence=tuple(f"{gpu.name}: fabric {gpu.fabric}" for gpu in waiting),
        remedies=(
            ByHand(
                steps=(f"on the host, start the fabric manager of driver {case.machine.driver}",),
                commands=(
                    "sudo systemctl enable --now nvidia-fabricmanager",
                    "systemctl status nvidia-fabricmanager",
                ),
            ),
        ),
    )


@check("gpu-busy")
def gpu_busy(case: Case) -> Iterator[Finding]:
    """CUDA says that every GPU is busy or unavailable.

    The GPU is in exclusive mode and another process holds it, or its MIG mode was switched and no instance
    was made (CUDA error 46).

    Source: microsoft/onnxruntime#14030.
    """
    failed = cuda_failure(said(case))
    if failed is None or failed.number != _BUSY:
        return
    yield Finding(
        severity=case.stops_generate,
        summary="the GPU is busy or unavailable",
        because=failed.meaning,
        evidence=(f"CUDA error {failed.number}: {failed.words}",),
        remedies=(
            ByHand(
                steps=("end the process that holds it, or let several share it",),
                commands=("nvidia-smi", "sudo nvidia-smi -c DEFAULT"),
            ),
        ),
    )


@check("cudnn-too-new-for-gpu", needs=("gpus", "distributions"))
def cudnn_too_new_for_gpu(case: Case) -> Iterator[Finding]:
    """The installed cuDNN no longer serves a GPU this old.

    cuDNN dropped GPUs sooner than CUDA 12 and onnxruntime did, and the extra `cudnn` brings the newest:
    sessions are made, and the first convolution fails.

    Sources: rows `gpu_companions` of compat_matrix.yaml; immich-app/immich#22982.
    """
    release = case.gpu_release
    oldest = min((gpu.compute_capability for gpu in case.machine.gpus), default=None)
    for row in case.matrix.gpu_companions:
        wanted = Requirement(row.requirement)
        found = case.machine.distribution(wanted.name)
        if release is None or oldest is None or found is None or row.cuda_major != release.cuda_major:
            continue
        if Dotted(oldest, "") >= row.below or found.version in wanted.specifier:
            continue
        yield Finding(
            severity=gravity(case),
            summary=f"{found.name} {found.version} is too new for a GPU of compute capability "
            f"{oldest[0]}.{oldest[1]}",
            because=row.because,
            evidence=(f"wanted: {row.requirement}",),
            remedies=(Pip(install=(row.requirement,)),),
        )


@check("jetson")
def jetson(case: Case) -> Iterator[Finding]:
    """This is a Jetson: the wheels of the default index hold no code for its GPU.

    From 1.29 on there are wheels for aarch64, made for servers (GH200, GB10). pip installs them on a Jetson
    with a new enough system, and the first operator fails. NVIDIA's own index has builds for JetPack.

    Sources: fatbins of the aarch64 wheels; microsoft/onnxruntime#20503, #24380;
    dusty-nv/jetson-containers#1283.
    """
    modules = jetson_modules(case.machine, case.matrix)
    if not modules or runs_on_cuda(case):
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"{describe(modules[0])} is a Jetson's GPU, which no wheel of the default index covers",
        because="their aarch64 wheels are built for servers",
        remedies=(
            ByHand(
                steps=("take the build for this JetPack from NVIDIA's index for Jetson",),
                commands=tuple(
                    command
                    for one in for_jetson(case.machine, case.matrix)
                    for command in one.remedy.commands
                ),
            ),
        ),
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
    driver, module = case.machine.driver, case.machine.kernel_driver
    if driver is not None:
        because = f"NVIDIA driver {driver} shows no device"
    elif module is not None:
        because = f"NVIDIA's kernel module {module} shows no device here"
    else:
        because = "no NVIDIA driver is seen"
    runs = "works with" if case.runtimes else "works with the package"
    yield Finding(
        severity=Severity.WARNING,
        summary=f"no NVIDIA GPU is seen; the CPU {runs} {case.matrix.cpu_package}, many times slower",
        because=because,
        remedies=() if case.runtimes or not case.takes_wheels else (Pip(install=("onnxsd[cpu]",)),),
    )


@check("other-gpu", needs=("other_gpus",))
def other_gpu(case: Case) -> Iterator[Finding]:
    """The machine's GPU is not NVIDIA's.

    onnxruntime-gpu serves NVIDIA alone: on an AMD or Intel GPU it fails with CUDA error 35, as if a driver
    were too old. Other packages of ONNX Runtime serve them; a folder exported with `--target portable` runs
    there, in a program that asks for their provider. onnxsd itself then uses the CPU.

    Sources: rows `runtimes` of compat_matrix.yaml; C0untFloyd/roop-unleashed#457, #524, #586.
    """
    if case.machine.gpus:
        return
    for gpu in case.machine.other_gpus:
        rows = runtimes_for(gpu.vendor, case.machine, case.matrix)
        if rows:
            yield Finding(
                severity=Severity.WARNING if case.gpu_runtime else Severity.INFO,
                summary=f"{gpu.name} is not NVIDIA's: {case.matrix.package} cannot use it",
                because="other packages can: " + ", ".join(_package_and_provider(row) for row in rows),
            )


def _covered(case: Case) -> list[tuple[Gpu, Coverage]]:
    """What the installed release's wheel holds for each GPU; nothing where that is not known."""
    wheel = case.gpu_release.wheel_for(case.machine.platform) if case.gpu_release else None
    return [(gpu, coverage(wheel, gpu)) for gpu in case.machine.gpus] if wheel else []


def _package_and_provider(row: Runtime) -> str:
    return f"{row.package} ({row.provider})" if row.provider else row.package


CHECKS = (
    gpu_not_in_wheel,
    gpu_compiled_at_start,
    gpus_mixed,
    fabric_not_ready,
    gpu_busy,
    cudnn_too_new_for_gpu,
    jetson,
    no_gpu,
    other_gpu,
)
