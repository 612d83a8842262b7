"""The GPUs that CUDA counts in this process: what a device number means, and the driver behind them."""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from typing import Any

from onnxsd.errors import NotReadyError, ProviderFallbackError
from onnxsd.session.driver import LIBRARY

VARIABLE = "CUDA_VISIBLE_DEVICES"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_NAME_BYTES = 256
_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleGpu:
    """One GPU, as CUDA describes it."""

    name: str
    compute_capability: tuple[int, int]


@functools.cache
def visible_gpus() -> tuple[VisibleGpu, ...] | None:
    """The GPUs by device number, of those that CUDA_VISIBLE_DEVICES leaves and in its order.

    None where CUDA cannot be asked: there is no driver, or it does not start; a session says why.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    return ask(library)


def ask(library: Any) -> tuple[VisibleGpu, ...] | None:
    """What the driver's library (CUDA Driver API: Device Management) says of its devices."""
    status = library.cuInit(0)
    if status:
        return () if status == _NO_DEVICE else None
    count = ctypes.c_int()
    if library.cuDeviceGetCount(ctypes.byref(count)):
        return None
    return tuple(_gpu(library, ordinal) for ordinal in range(count.value))


def require_device(asked: str, device_id: int, gpus: tuple[VisibleGpu, ...] | None) -> None:
    """Refuse a device number that no GPU has; where there is no GPU at all, number 0 is left to a session."""
    if gpus is None or device_id < max(len(gpus), 1):
        return
    listed = ", ".join(f"{number}: {gpu.name}" for number, gpu in enumerate(gpus)) or "no GPU"
    raise ProviderFallbackError(
        f"asked for {asked} on GPU {device_id}, but CUDA sees {listed}{_hidden_by()}",
        hint=f"--device counts from 0 the GPUs that {VARIABLE} leaves, in its order; "
        "`onnxsd doctor` lists those that the driver has",
    )


def driver_version() -> str:
    """The NVIDIA driver's version, `580.95.05`."""
    from onnxsd.machine.nvidia import Nvml, kernel_module_version
    from onnxsd.machine.reader import Reader

    reader = Reader()
    version = Nvml().driver(reader, reader.read("driver", kernel_module_version, None)).version
    if version is None:
        raise NotReadyError(
            "the NVIDIA driver does not say its version", hint="run `onnxsd doctor --for generate`"
        )
    return str(version)


def _gpu(library: Any, ordinal: int) -> VisibleGpu:
    device = ctypes.c_int()
    library.cuDeviceGet(ctypes.byref(device), ordinal)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    library.cuDeviceGetName(name, _NAME_BYTES, device)
    major, minor = (_attribute(library, which, device) for which in _CAPABILITY)
    return VisibleGpu(name=name.value.decode(errors="replace"), compute_capability=(major, minor))


def _attribute(library: Any, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    library.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return value.value


def _hidden_by() -> str:
    value = os.environ.get(VARIABLE)
    return "" if value is None else f" ({VARIABLE} is {value!r})"
