"""Whether a machine's NVIDIA driver runs a build for some CUDA version, and what else would make it run."""

from __future__ import annotations

import re

from onnxsd.machine import Gpu, Machine, OperatingSystem
from onnxsd.matrix import Matrix
from onnxsd.records import Dotted

# The forward-compatibility package works on data-centre GPUs and Jetson, and on few RTX cards; elsewhere CUDA
# answers with error 804. Source: docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html.
_DESKTOP = re.compile(r"geforce|titan|quadro|\brtx\b|\bgtx\b|\bmx\d{3}", re.IGNORECASE)


def oldest_driver(cuda_major: int, machine: Machine, matrix: Matrix) -> Dotted:
    """The oldest driver that runs every minor version of a CUDA major here.

    In WSL the driver is the one of Windows, and NVML gives that one's number.
    """
    windows = machine.os is OperatingSystem.WINDOWS or machine.wsl
    return matrix.minimum_driver(cuda_major, windows=windows)


def driver_runs(cuda_major: int, machine: Machine, matrix: Matrix) -> bool:
    """Whether the driver runs builds for a CUDA major; an unknown driver is not held against it."""
    wanted = oldest_driver(cuda_major, machine, matrix)
    return machine.driver is None or machine.driver >= wanted or _compat_library(machine, wanted)


def newest_cuda_major(machine: Machine, matrix: Matrix) -> int | None:
    """The newest CUDA major whose builds the driver runs; None for a driver that is unknown or too old."""
    majors = (row.major for row in matrix.drivers if driver_runs(row.major, machine, matrix))
    return max(majors, default=None) if machine.driver is not None else None


def offered_cuda(machine: Machine, matrix: Matrix) -> Dotted | None:
    """The CUDA version that the driver was made for: PTX of a newer toolkit it cannot compile."""
    if machine.driver is None:
        return None
    return matrix.cuda_of(machine.driver) or machine.driver_cuda


def takes_compat_package(machine: Machine) -> bool:
    """Whether NVIDIA's forward-compatibility package works here: Linux with data-centre GPUs alone."""
    linux = machine.os is OperatingSystem.LINUX and not machine.wsl
    return linux and bool(machine.gpus) and all(_in_a_data_centre(gpu) for gpu in machine.gpus)


def _in_a_data_centre(gpu: Gpu) -> bool:
    return _DESKTOP.search(gpu.name) is None


def _compat_library(machine: Machine, wanted: Dotted) -> bool:
    """Whether the loader would take a libcuda of the compatibility package that is new enough."""
    first = next(iter(machine.libraries_of("cuda")), None)
    if first is None or first.version is None or "compat" not in first.path.split("/"):
        return False
    return first.version >= wanted and takes_compat_package(machine)
