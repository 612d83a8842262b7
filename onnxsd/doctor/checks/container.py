"""Checks of what a container, or Windows' Linux, was given of the GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import ByHand, Finding, Severity
from onnxsd.doctor.proof import gravity, runs_on_cuda
from onnxsd.machine import Machine

_START = "docker run --gpus all IMAGE"
_NO_DEVICES = ("", "void", "none")
_WSL_LIBRARIES = PurePosixPath("/usr/lib/wsl")


@check("container-without-gpu", needs=("device_nodes", "kernel_driver"))
def container_without_gpu(case: Case) -> Iterator[Finding]:
    """This container was started without the host's GPU.

    A container sees an NVIDIA GPU only when it was asked for: `docker run --gpus all`, or
    `--device nvidia.com/gpu=all` with CDI (podman). Docker needs NVIDIA's container toolkit for it, else it
    says that it could not select a device driver.

    Sources: NVIDIA/nvidia-docker#1034, #1637; immich-app/immich#14808.
    """
    machine = case.machine
    if machine.container is None or machine.device_nodes or machine.gpus:
        return
    if any("tegra" in one.path for one in machine.libraries_of("cuda")):  # a Jetson has other nodes
        return
    if not (machine.kernel_driver or machine.nvidia_pci or case.gpu_runtime):  # nothing speaks of a GPU
        return
    host = f"the host runs NVIDIA driver {machine.kernel_driver}, but " if machine.kernel_driver else ""
    yield Finding(
        severity=case.stops_generate if case.gpu_runtime else Severity.WARNING,
        summary=f"this {machine.container.kind} container was started without a GPU",
        because=f"{host}there is no /dev/nvidia* in here",
        remedies=(
            ByHand(
                steps=(
                    "start it with its GPUs; the host needs nvidia-container-toolkit",
                    "with podman: --device nvidia.com/gpu=all",
                ),
                commands=(_START,),
            ),
        ),
    )


@check("container-capabilities", needs=("variables",))
def container_capabilities(case: Case) -> Iterator[Finding]:
    """NVIDIA_DRIVER_CAPABILITIES leaves out what CUDA needs.

    The container toolkit mounts the driver's libraries by capability: `compute` brings libcuda, `utility`
    brings NVML and nvidia-smi. Where the variable is not set it is `compute,utility`; an image for graphics
    or video sets others.

    Source: docs.nvidia.com/datacenter/cloud-native/container-toolkit, driver capabilities.
    """
    value = capabilities_without_compute(case.machine)
    if value is None or runs_on_cuda(case):
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"NVIDIA_DRIVER_CAPABILITIES={value} leaves libcuda out of this container",
        because="only the capability `compute` brings it",
        remedies=(
            ByHand(
                steps=("start the container with both capabilities",),
                commands=("docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility IMAGE",),
            ),
        ),
    )


@check("container-devices-void", needs=("variables", "device_nodes"))
def container_devices_void(case: Case) -> Iterator[Finding]:
    """NVIDIA_VISIBLE_DEVICES asks for no GPU.

    With `void`, or an empty value, the container toolkit does nothing; with `none` it brings the libraries
    and no device. Kubernetes sets `void` on purpose where it hands devices over in another way, so this is
    silent where device nodes are there.

    Source: docs.nvidia.com/datacenter/cloud-native/container-toolkit, GPU enumeration.
    """
    value = case.machine.variable("NVIDIA_VISIBLE_DEVICES")
    if case.machine.container is None or case.machine.device_nodes:
        return
    if value is None or value.strip() not in _NO_DEVICES:
        return
    yield Finding(
        severity=case.stops_generate if case.gpu_runtime else Severity.WARNING,
        summary=f"NVIDIA_VISIBLE_DEVICES={value!r} asks for no GPU",
        because="the container toolkit gives the container what this variable names",
        remedies=(
            ByHand(
                steps=("start the container with NVIDIA_VISIBLE_DEVICES=all, or with --gpus",),
                commands=(_START,),
            ),
        ),
    )


@check("wsl-driver", needs=("libraries",))
def wsl_driver(case: Case) -> Iterator[Finding]:
    """In WSL, libcuda does not come from Windows' driver.

    WSL 2 has no kernel module: Windows' driver puts its libcuda into /usr/lib/wsl/lib. A Linux driver that
    was installed inside replaces it with one that looks for a module, and CUDA finds no device. Nothing of
    the driver may be installed inside; the toolkit's package `cuda` brings one, `cuda-toolkit` does not.

    Sources: docs.nvidia.com/cuda/wsl-user-guide; microsoft/WSL#8587, #7336, #6014; rapidsai/cuml#6218.
    """
    if not case.machine.wsl or case.machine.container is not None or runs_on_cuda(case):
        return
    places = [one.path for one in case.machine.libraries_of("cuda")]
    if places and PurePosixPath(places[0]).is_relative_to(_WSL_LIBRARIES):
        return
    if places:
        summary = f"in WSL libcuda is taken from {places[0]}, not from Windows' driver"
        step = "remove the Linux driver (apt purge 'libnvidia-compute-*' 'nvidia-driver-*')"
    else:
        summary = "in WSL there is no libcuda: Windows' driver has not brought it"
        step = "install NVIDIA's driver on Windows, then run `wsl --shutdown` there"
    yield Finding(
        severity=gravity(case),
        summary=summary,
        because=f"Windows' driver lies in {_WSL_LIBRARIES}/lib, and only it reaches the GPU",
        evidence=tuple(places),
        remedies=(ByHand(steps=(step,)),),
    )


def capabilities_without_compute(machine: Machine) -> str | None:
    """The container's NVIDIA_DRIVER_CAPABILITIES, where they leave libcuda out."""
    value = machine.variable("NVIDIA_DRIVER_CAPABILITIES")
    if machine.container is None or not value:
        return None
    given = {part.strip() for part in value.split(",")}
    return None if given & {"all", "compute"} else value


CHECKS = (container_without_gpu, container_capabilities, container_devices_void, wsl_driver)
