"""The GPU as its driver shows it to this process: memory, energy and clocks, without a CUDA context."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from onnxsd.bench.report import GpuRecord

SAMPLE_S = 0.02
# The clock is looked at once in so many samples: it takes the driver longer than the memory.
CLOCK_EVERY = 10
BUSY_PERCENT = 90
ORDER = "CUDA_DEVICE_ORDER"
VISIBLE = "CUDA_VISIBLE_DEVICES"
# Children number GPUs as NVML does.
ENVIRONMENT: Mapping[str, str] = {ORDER: "PCI_BUS_ID"}


class Gpu:
    """One GPU, looked at from outside the processes that use it."""

    def __init__(self, device_id: int, *, nvml: Any = None, visible: str | None = None) -> None:
        self._nvml = nvml or _bindings()
        self._nvml.nvmlInit()
        self._handle = _handle(self._nvml, device_id, os.environ.get(VISIBLE) if visible is None else visible)

    def record(self, sm_clock_mhz: tuple[int, ...] = ()) -> GpuRecord:
        """Name, driver, limits and clocks."""
        nvml, handle = self._nvml, self._handle
        cuda = self._optional(nvml.nvmlSystemGetCudaDriverVersion_v2)
        watts = self._optional(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        return GpuRecord(
            name=_text(nvml.nvmlDeviceGetName(handle)),
            memory_bytes=self._optional(lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).total)),
            driver=_text(nvml.nvmlSystemGetDriverVersion()),
            cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            power_limit_w=None if watts is None else watts / 1000,
            sm_clock_max_mhz=self._optional(
                lambda: int(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM))
            ),
            memory_clock_mhz=self._optional(
                lambda: int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM))
            ),
            sm_clock_mhz=sm_clock_mhz,
        )

    def used_bytes(self) -> int:
        """Memory that all processes on the GPU use now."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def free_bytes(self) -> int:
        """Memory that no process uses now."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).free)

    def joules(self) -> float | None:
        """Energy since the driver was loaded; None where the GPU does not count it."""
        energy = self._optional(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        return None if energy is None else energy / 1000

    def busy_clock_mhz(self) -> int | None:
        """The clock of the processors; None where the GPU is not busy just now, or does not say."""
        nvml, handle = self._nvml, self._handle
        percent = self._optional(lambda: int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu))
        if percent is None or percent < BUSY_PERCENT:
            return None
        return int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))

    def _optional(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (self._nvml.NVMLError_NotSupported, self._nvml.NVMLError_FunctionNotFound):
            return None


class Watch:
    """Samples the GPU in a thread: the most memory since `reset`, and the clocks of `counting`."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._peak = 0
        self._clocks: list[int] = []
        self._counts = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Forget the peak so far."""
        self._peak = self._gpu.used_bytes()

    @property
    def peak_bytes(self) -> int:
        """The most memory that was seen in use since `reset`."""
        return max(self._peak, self._gpu.used_bytes())

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Note the clocks while the block runs, beside those of earlier blocks."""
        self._counts = True
        try:
            yield
        finally:
            self._counts = False

    def clocks_mhz(self) -> tuple[int, ...]:
        """The lowest, the middle and the highest clock of those noted while the GPU was busy."""
        seen = sorted(self._clocks)
        return (seen[0], seen[len(seen) // 2], seen[-1]) if seen else ()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    def _sample(self) -> None:
        taken = 0
        while not self._stopped.wait(SAMPLE_S):
            self._peak = max(self._peak, self._gpu.used_bytes())
            taken += 1
            due = self._counts and taken % CLOCK_EVERY == 0
            clock = self._gpu.busy_clock_mhz() if due else None
            if clock is not None:
                self._clocks.append(clock)


def look_at(device_id: int) -> tuple[Gpu | None, str]:
    """The GPU; where its driver cannot be asked, None and the reason."""
    try:
        return Gpu(device_id), ""
    except Exception as error:  # noqa: BLE001  (bindings and driver of any state; the report says it)
        return None, f"NVML: {type(error).__name__}: {error}"


def _bindings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unrelated `pynvml` package warns when it is imported
        import pynvml
    return pynvml


def _handle(nvml: Any, device_id: int, visible: str | None) -> Any:
    """NVML's handle of the GPU that CUDA calls `device_id`: CUDA_VISIBLE_DEVICES renumbers them."""
    names = [name.strip() for name in (visible or "").split(",") if name.strip()]
    if device_id >= len(names):
        return nvml.nvmlDeviceGetHandleByIndex(device_id)
    name = names[device_id]
    return (
        nvml.nvmlDeviceGetHandleByIndex(int(name))
        if name.isdecimal()
        else nvml.nvmlDeviceGetHandleByUUID(name.encode())
    )


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
