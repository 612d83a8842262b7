"""The GPU from outside: which one CUDA's number means, its record, its peak and its clocks."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from onnxsd.bench.gpu import CLOCK_EVERY, SAMPLE_S, Gpu, Watch


class NotSupported(Exception):  # noqa: N818  (its name is NVML's)
    """What NVML raises for what a GPU does not have."""


class Nvml:
    """A driver with three GPUs, whose memory in use follows a list."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    NVMLError_NotSupported = NVMLError_FunctionNotFound = NotSupported

    def __init__(self, used: list[int] | None = None, *, counts_energy: bool = True) -> None:
        self.used = used or [0]
        self.counts_energy = counts_energy

    def nvmlInit(self) -> None:  # noqa: N802
        """Nothing to do."""

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return f"GPU {index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> str:  # noqa: N802
        return uuid.decode()

    def nvmlDeviceGetName(self, handle: str) -> bytes:  # noqa: N802
        return f"NVIDIA {handle}".encode()

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.159.04"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        return 13010

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:  # noqa: N802
        return 700_000

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        used = self.used.pop(0) if len(self.used) > 1 else self.used[0]
        return SimpleNamespace(total=1000, used=used, free=1000 - used)

    def nvmlDeviceGetMaxClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        return 1980

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        return {self.NVML_CLOCK_SM: 1700, self.NVML_CLOCK_MEM: 3201}[kind]

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=97)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        if not self.counts_energy:
            raise NotSupported
        return 12_500


@pytest.mark.parametrize(
    ("device_id", "visible", "name"),
    [
        (1, "", "NVIDIA GPU 1"),
        (0, "2", "NVIDIA GPU 2"),
        (1, "2,0", "NVIDIA GPU 0"),
        (0, "GPU-aaaa", "NVIDIA GPU-aaaa"),
    ],
)
def test_cudas_number_is_found_among_the_visible_ones(device_id: int, visible: str, name: str) -> None:
    assert Gpu(device_id, nvml=Nvml(), visible=visible).record().name == name


def test_the_record_holds_what_a_reader_must_know() -> None:
    record = Gpu(0, nvml=Nvml(), visible="").record((1500, 1700, 1900))

    assert (record.driver, record.cuda, record.power_limit_w) == ("580.159.04", "13.1", 700.0)
    assert (record.sm_clock_max_mhz, record.memory_clock_mhz) == (1980, 3201)
    assert record.sm_clock_mhz == (1500, 1700, 1900)


def test_energy_is_in_joules_or_unknown() -> None:
    assert Gpu(0, nvml=Nvml(), visible="").joules() == 12.5
    assert Gpu(0, nvml=Nvml(counts_energy=False), visible="").joules() is None


def test_the_watch_keeps_the_highest_memory_and_the_clocks_of_a_busy_gpu() -> None:
    nvml: Any = Nvml([100, 100, 700, 300])
    watch = Watch(Gpu(0, nvml=nvml, visible=""))
    deadline = time.monotonic() + 30
    with watch.counting():
        while (len(nvml.used) > 1 or not watch.clocks_mhz()) and time.monotonic() < deadline:
            time.sleep(0.01)
    watch.stop()

    assert watch.peak_bytes == 700
    assert watch.clocks_mhz() == (1700, 1700, 1700)
    watch.reset()
    assert watch.peak_bytes == 300


def test_clocks_are_noted_within_blocks_alone_and_over_all_of_them() -> None:
    nvml: Any = Nvml()
    clock, asked = 0, 0

    def clock_of(handle: str, kind: int) -> int:
        nonlocal asked
        asked += 1
        return clock

    nvml.nvmlDeviceGetClockInfo = clock_of
    watch = Watch(Gpu(0, nvml=nvml, visible=""))
    deadline = time.monotonic() + 30
    for clock in (1500, 1900):
        with watch.counting():
            while clock not in watch.clocks_mhz() and time.monotonic() < deadline:
                time.sleep(0.01)
        before = asked
        time.sleep(2.5 * SAMPLE_S * CLOCK_EVERY)
        assert asked <= before + 1, "more than the question that was under way"
    watch.stop()

    assert (watch.clocks_mhz()[0], watch.clocks_mhz()[-1]) == (1500, 1900)
