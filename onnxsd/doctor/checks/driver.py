"""Checks of the NVIDIA driver: is it new enough, loaded, whole, and of one version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.checks.container import capabilities_without_compute
from onnxsd.doctor.driver_fit import driver_runs, offered_cuda, oldest_driver, takes_compat_package
from onnxsd.doctor.finding import ByHand, Finding, Pip, Severity
from onnxsd.doctor.gpu_code import Coverage, coverage, describe
from onnxsd.doctor.native_log import cuda_failure
from onnxsd.doctor.proof import gravity, runs_on_cuda, said
from onnxsd.machine import Library, Machine, OperatingSystem

_PTX_FAILURES = (36, 222)  # CUDA errors of a driver that is older than what it is asked to compile or call
_UVM = "/dev/nvidia-uvm"


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
    if driver_runs(release.cuda_major, case.machine, case.matrix):
        return
    wanted = oldest_driver(release.cuda_major, case.machine, case.matrix)
    offered = offered_cuda(case.machine, case.matrix)
    yield Finding(
        severity=case.stops_generate,
        summary=f"onnxruntime-gpu {release.version} is built for CUDA {release.cuda_major}, "
        f"which driver {driver} does not run",
        because=f"CUDA {release.cuda_major} needs driver {wanted} or newer"
        + (f"; this one offers CUDA {offered}" if offered else ""),
        remedies=_build_or_driver(case, f"update the NVIDIA driver to {wanted} or newer"),
    )


@check("driver-too-old-for-ptx", needs=("driver", "gpus", "distributions"))
def driver_too_old_for_ptx(case: Case) -> Iterator[Finding]:
    """The wheel has only PTX for this GPU, and the driver is older than the toolkit that made it.

    A driver of the right CUDA major runs machine code of every minor version, but it compiles PTX only of
    toolkits up to its own (CUDA error 222: unsupported toolchain), and lacks entry points of later ones
    (CUDA error 36).

    Sources: docs.nvidia.com/deploy/cuda-compatibility, limits of minor-version compatibility;
    microsoft/onnxruntime#22767; microsoft/onnxruntime-genai#1195.
    """
    release, offered = case.gpu_release, offered_cuda(case.machine, case.matrix)
    wheel = release.wheel_for(case.machine.platform) if release else None
    failed = cuda_failure(said(case))
    by_its_words = failed is not None and failed.number in _PTX_FAILURES
    if release is None or wheel is None:
        return
    compiled = [gpu for gpu in case.machine.gpus if coverage(wheel, gpu) is Coverage.COMPILED_AT_START]
    too_new = compiled and release.cuda and offered and offered < release.cuda
    if not by_its_words and not too_new:
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"driver {case.machine.driver} cannot compile the PTX of onnxruntime-gpu {release.version}",
        because=f"the PTX is of CUDA {release.cuda or release.cuda_major}, "
        + (f"and this driver compiles up to CUDA {offered}" if offered else "which this driver refuses"),
        evidence=tuple(f"only PTX for {describe(gpu)}" for gpu in compiled)
        + ((f"CUDA error {failed.number}: {failed.words}",) if failed and by_its_words else ()),
        remedies=_build_or_driver(case, "update the NVIDIA driver"),
    )


@check("driver-library-mismatch", needs=("kernel_driver", "driver_library"))
def driver_library_mismatch(case: Case) -> Iterator[Finding]:
    """The loaded kernel module and the driver's libraries are of different versions.

    An update replaced the libraries while the old module stayed loaded, or a container was started before
    the host's driver was updated. NVML then reports a driver/library version mismatch and CUDA fails with
    error 803 or 804; nvidia-smi fails in the same way.

    Sources: NVIDIA/ubuntu-packaging-nvidia-driver#3; mozilla/translations#1167; intel/llvm#17614.
    """
    loaded, library = case.machine.kernel_driver, case.machine.driver_library
    if loaded is None or library is None or _is_compat(_libcuda(case.machine)):
        return
    if len(library.parts) < 2 or loaded.parts == library.parts:  # libcuda.so.1 alone names no version
        return
    inside = case.machine.container is not None
    again = "start the container anew" if inside else "restart the machine, so that the new module is loaded"
    yield Finding(
        severity=gravity(case),
        summary=f"the NVIDIA kernel module is {loaded}, and the driver's library {library}",
        because="both must be of one version; the driver was updated and the old module is still loaded",
        evidence=tuple(one.path for one in case.machine.libraries_of("cuda")),
        remedies=(ByHand(steps=(again,)),),
    )


@check("driver-not-installed", needs=("kernel_driver", "libraries", "nvidia_pci"))
def driver_not_installed(case: Case) -> Iterator[Finding]:
    """An NVIDIA GPU is in the machine, and no NVIDIA driver.

    The open driver nouveau shows pictures and runs no CUDA. A driver of branch 580 or newer runs every
    build; the CUDA toolkit is not needed.

    Sources: PCI identities in sysfs; NVIDIA driver installation guide; rows `drivers` of compat_matrix.yaml.
    """
    machine = case.machine
    if not machine.nvidia_pci or machine.kernel_driver is not None or machine.gpus:
        return
    if _libcuda(machine) is not None or machine.container is not None or machine.wsl:
        return
    newest = max(case.matrix.drivers, key=lambda row: row.major)
    yield Finding(
        severity=_where_a_gpu_is_wanted(case),
        summary="an NVIDIA GPU is in this machine, and no NVIDIA driver",
        because="CUDA works through NVIDIA's own driver alone",
        evidence=tuple(f"PCI device {one}" for one in machine.nvidia_pci),
        remedies=(ByHand(steps=(f"install NVIDIA's driver {newest.linux} or newer, and restart",)),),
    )


@check("driver-not-loaded", needs=("kernel_driver", "libraries"))
def driver_not_loaded(case: Case) -> Iterator[Finding]:
    """The NVIDIA driver's library is installed, but its kernel module is not loaded.

    After an update of the kernel the module was not built for it (DKMS), or Secure Boot refused an unsigned
    one. nvidia-smi then says that it could not communicate with the NVIDIA driver.

    Sources: NVIDIA/nvidia-docker#988; NVIDIA driver installation guide, post-installation.
    """
    machine, library = case.machine, _libcuda(case.machine)
    elsewhere = machine.wsl or machine.container is not None or machine.os is not OperatingSystem.LINUX
    if library is None or machine.kernel_driver is not None or machine.gpus or elsewhere:
        return
    if "tegra" in PurePath(library.path).parts:  # a Jetson's driver is part of its kernel
        return
    yield Finding(
        severity=_where_a_gpu_is_wanted(case),
        summary="the NVIDIA driver is installed, but its kernel module is not loaded",
        because="/proc/driver/nvidia/version is not there, so no program reaches the GPU",
        evidence=(library.path,),
        remedies=(
            ByHand(
                steps=(
                    "load the module and read why it refuses",
                    "reinstall the driver for this kernel, or sign its module where Secure Boot is on",
                ),
                commands=("sudo modprobe nvidia", "sudo dmesg | grep -i nvidia"),
            ),
        ),
    )


@check("driver-library-missing", needs=("kernel_driver", "libraries", "device_nodes"))
def driver_library_missing(case: Case) -> Iterator[Finding]:
    """The NVIDIA kernel module is loaded, but its library libcuda.so.1 is not found.

    From 1.27 on onnxruntime's CUDA provider links libcuda itself, and CUDA opens it in any release. A
    server's driver package may come without it, and a container gets it only with the capability `compute`.

    Sources: ELF of the wheels (NEEDED libcuda.so.1 from 1.27.0); NVIDIA/nvidia-container-toolkit, driver
    capabilities.
    """
    machine = case.machine
    if machine.kernel_driver is None or runs_on_cuda(case):
        return
    if _libcuda(machine) is not None or machine.driver_library is not None:
        return
    if machine.container is not None and not machine.device_nodes:  # `container-without-gpu` reports this
        return
    if capabilities_without_compute(machine):  # `container-capabilities` reports this
        return
    inside = machine.container is not None
    steps = (
        "start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        if inside
        else f"install the compute library of driver {machine.kernel_driver} (libnvidia-compute, "
        "nvidia-driver-cuda-libs or the like)"
    )
    yield Finding(
        severity=case.stops_generate,
        summary=f"NVIDIA's kernel module {machine.kernel_driver} is loaded, but libcuda.so.1 is not found",
        because="CUDA reaches the driver through that library",
        evidence=machine.device_nodes,
        remedies=(ByHand(steps=(steps,)),),
    )


@check("cuda-compat-library", needs=("libraries",))
def cuda_compat_library(case: Case) -> Iterator[Finding]:
    """The loader finds a libcuda for forward compatibility before the driver's own.

    NVIDIA's images bring one in /usr/local/cuda/compat, so that an older driver runs a newer CUDA. It works
    on data-centre GPUs alone; on others CUDA fails with error 804 (forward compatibility was attempted on
    non supported HW), and beside a newer driver with 803.

    Sources: docs.nvidia.com/deploy/cuda-compatibility, forward compatibility; microsoft/onnxruntime#21435;
    NVIDIA/nvidia-docker#1515.
    """
    library = _libcuda(case.machine)
    if library is None or not _is_compat(library) or runs_on_cuda(case):
        return
    if not cuda_failure(said(case)) and takes_compat_package(case.machine):  # it may well be right here
        return
    yield Finding(
        severity=case.stops_generate if cuda_failure(said(case)) else Severity.WARNING,
        summary=f"libcuda is taken from {library.path}, not from the driver",
        because="a compatibility library serves only data-centre GPUs beside an older driver",
        evidence=tuple(one.path for one in case.machine.libraries_of("cuda")),
        remedies=(
            ByHand(
                steps=(
                    f"take {PurePath(library.path).parent} out of LD_LIBRARY_PATH and of /etc/ld.so.conf.d",
                )
            ),
        ),
    )


@check("uvm-missing", needs=("device_nodes",))
def uvm_missing(case: Case) -> Iterator[Finding]:
    """The device node /dev/nvidia-uvm is missing.

    CUDA maps memory through it; without it every program fails with error 999 or 304, although nvidia-smi
    works. It is lost after a suspend, and in containers that were given single devices by hand. On a fresh
    host the first CUDA program makes it, so this is a remark until one has failed.

    Sources: microsoft/onnxruntime#14211; pytorch/pytorch#88639; ultralytics/ultralytics#7716.
    """
    nodes = case.machine.device_nodes
    if case.machine.wsl or not any(node.startswith("/dev/nvidia") for node in nodes):
        return
    if _UVM in nodes or runs_on_cuda(case):
        return
    yield Finding(
        severity=case.stops_generate if cuda_failure(said(case)) else Severity.INFO,
        summary=f"{_UVM} is missing",
        because="CUDA reaches the GPU's memory through it",
        evidence=nodes,
        remedies=(
            ByHand(
                steps=(
                    "load the module again, or give the node to the container (--device /dev/nvidia-uvm)",
                ),
                commands=("sudo rmmod nvidia_uvm", "sudo modprobe nvidia_uvm", "nvidia-modprobe -u -c=0"),
            ),
        ),
    )


def _build_or_driver(case: Case, step: str) -> tuple[Pip | ByHand, ...]:
    """A build that this driver runs, where there is one, or a driver that runs this build."""
    builds = case.other_build()
    return (*builds, ByHand(steps=(f"or {step}" if builds else step,)))


def _where_a_gpu_is_wanted(case: Case) -> Severity:
    """An error where a runtime for GPUs is installed; else a warning, since the CPU works."""
    return case.stops_generate if case.gpu_runtime else Severity.WARNING


def _libcuda(machine: Machine) -> Library | None:
    return next(iter(machine.libraries_of("cuda")), None)


def _is_compat(library: Library | None) -> bool:
    return library is not None and "compat" in PurePath(library.path).parts


CHECKS = (
    driver_too_old,
    driver_too_old_for_ptx,
    driver_library_mismatch,
    driver_not_installed,
    driver_not_loaded,
    driver_library_missing,
    cuda_compat_library,
    uvm_missing,
)
