"""The NVIDIA driver and its GPUs, through NVML and the files that the kernel module shows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnxsd.machine.facts import Gpu
from onnxsd.records import Dotted

_KERNEL_MODULE = Path("/proc/driver/nvidia/version")


def driver_version() -> Dotted | None:
    """The driver's version; None where no NVIDIA driver is installed."""
    with _nvml() as nvml:
        if nvml is None:
            return _kernel_module_version()
        return Dotted.parse(_text(nvml.nvmlSystemGetDriverVersion()))


def gpus() -> tuple[Gpu, ...]:
    """Every GPU that the driver shows, whatever CUDA_VISIBLE_DEVICES hides."""
    with _nvml() as nvml:
        if nvml is None:
            if _kernel_module_version() is not None:
                raise OSError("the NVIDIA kernel module is loaded, but its NVML library was not found")
            return ()
        return tuple(_gpu(nvml, at) for at in range(nvml.nvmlDeviceGetCount()))


@contextmanager
def _nvml() -> Iterator[Any]:
    """NVML, ready for questions; None where its library is absent, so no driver is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unrelated `pynvml` package warns when it is imported
        import pynvml
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, at: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(at)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(device)
    try:
        memory_bytes = int(nvml.nvmlDeviceGetMemoryInfo(device).total)
    except nvml.NVMLError_NotSupported:
        memory_bytes = None  # a GPU that shares the machine's memory has none of its own
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(device)),
        memory_bytes=memory_bytes,
        compute_capability=(int(major), int(minor)),
    )


def _kernel_module_version() -> Dotted | None:
    if not _KERNEL_MODULE.exists():
        return None
    found = re.search(r"\b(\d{3,}(?:\.\d+)+)\b", _KERNEL_MODULE.read_text(encoding="utf-8"))
    return Dotted.parse(found.group(1)) if found else None


def _text(value: str | bytes) -> str:
    """NVML's older bindings answer in bytes."""
    return value.decode() if isinstance(value, bytes) else value
