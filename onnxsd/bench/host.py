"""The machine around the GPU, as a report names it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from onnxsd.bench.report import GpuRecord, MachineRecord
from onnxsd.machine.system import memory_bytes

CPU_INFO = Path("/proc/cpuinfo")


def machine(gpu: GpuRecord | None) -> MachineRecord:
    """This machine."""
    return MachineRecord(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(CPU_INFO),
        cores=_cores(),
        memory_bytes=memory_bytes(),
        python=platform.python_version(),
        gpu=gpu,
    )


def _processor(cpu_info: Path) -> str:
    """The processor's name where Linux says it; else what Python knows."""
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
