"""The NVIDIA driver and its GPUs, through NVML and the files that the kernel module shows."""

from __future__ import annotations

import ctypes
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsd.machine.facts import Gpu
from onnxsd.machine.reader import Background, Reader
from onnxsd.records import Dotted

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
NVML_TIMEOUT_S = 10.0  # eight GPUs without persistence mode take seconds; a driver that hangs, for ever
_FABRIC = {1: "not-started", 2: "in-progress", 3: "completed"}  # NVML_GPU_FABRIC_STATE_*; 0: not supported
_FACTS = ("driver", "driver_cuda", "gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """What NVML says; empty where no driver is installed."""

    version: Dotted | None = None
    cuda: Dotted | None = None
    gpus: tuple[Gpu, ...] = ()


class Nvml:
    """NVML's answers, asked for in the background from the start on."""

    def __init__(self, library: Any = None) -> None:
        self._notes = Reader()
        self._asked = Background(lambda: ask(self._notes, library or _bindings()))

    def driver(self, reader: Reader, kernel_driver: Dotted | None) -> Driver:
        """What NVML said; each fact that it could not say goes on record."""
        try:
            answer = self._asked.result(NVML_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001  (bindings of any state; recorded for each fact)
            for fact in _FACTS:
                reader.note(fact, f"NVML: {type(error).__name__}: {error}")
            return Driver(version=kernel_driver)
        reader.unreadable += self._notes.unreadable
        if answer is not None:
            return answer
        if kernel_driver is not None:
            reader.note("gpus", "the NVIDIA kernel module is loaded, but its NVML library was not found")
        return Driver(version=kernel_driver)


def ask(reader: Reader, nvml: Any) -> Driver | None:
    """Driver and GPUs as NVML knows them; None where its library is absent, so no driver is installed."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError_LibraryNotFound:
        return None
    try:
        return Driver(
            version=reader.read(
                "driver", lambda: Dotted.parse(_text(nvml.nvmlSystemGetDriverVersion())), None
            ),
            cuda=reader.read("driver_cuda", lambda: _cuda(nvml.nvmlSystemGetCudaDriverVersion_v2()), None),
            gpus=reader.read("gpus", lambda: _gpus(nvml, reader), ()),
        )
    finally:
        nvml.nvmlShutdown()


def kernel_module_version(path: Path = KERNEL_MODULE) -> Dotted | None:
    """The version of the loaded kernel module; None where none is loaded."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = re.search(r"\b(\d{3,}(?:\.\d+)+)\b", text)
    if found is None:
        raise ValueError(f"{path} names no version: {text.splitlines()[:1]}")
    return Dotted.parse(found.group(1))


def _bindings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unrelated `pynvml` package warns when it is imported
        import pynvml
    return pynvml


def _gpus(nvml: Any, reader: Reader) -> tuple[Gpu, ...]:
    """Every GPU that the driver shows, whatever CUDA_VISIBLE_DEVICES hides; a lost one goes on record."""
    found = []
    for at in range(nvml.nvmlDeviceGetCount()):
        gpu = reader.read("gpus", lambda at=at: _gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(at)), None)  # type: ignore[misc]
        found += [gpu] if gpu is not None else []
    return tuple(found)


def _gpu(nvml: Any, device: Any) -> Gpu:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(device)
    mig = _optional(nvml, lambda: nvml.nvmlDeviceGetMigMode(device)[0])
    memory = _optional(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(device).total)
    number = _optional(nvml, lambda: nvml.nvmlDeviceGetMinorNumber(device))
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(device)),
        memory_bytes=None if memory is None else int(memory),  # none of its own where it shares the machine's
        compute_capability=(int(major), int(minor)),
        mig=None if mig is None else bool(mig),
        fabric=_fabric(nvml, device),
        minor=None if number is None else int(number),
    )


def _optional(nvml: Any, ask_for: Any) -> Any:
    """What a question gives that not every GPU or driver can answer."""
    try:
        return ask_for()
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return None


def _fabric(nvml: Any, device: Any) -> str | None:
    """How far the GPU's registration with the NVLink fabric is; None where it is in none."""
    if not hasattr(nvml, "nvmlDeviceGetGpuFabricInfo"):
        return None  # bindings of before driver 530
    info = nvml.c_nvmlGpuFabricInfo_t()
    answered = _optional(nvml, lambda: (nvml.nvmlDeviceGetGpuFabricInfo(device, ctypes.byref(info)), True))
    return None if answered is None else _FABRIC.get(int(info.state))


def _cuda(number: int) -> Dotted:
    """12040 is CUDA 12.4."""
    return Dotted.parse(f"{number // 1000}.{number % 1000 // 10}")


def _text(value: str | bytes) -> str:
    """NVML's older bindings answer in bytes."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
