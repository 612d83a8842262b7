"""What the GPU did, kernel by kernel; torch's profiler sees all of the process, whoever launched it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# The trace's categories of what runs on a GPU.
CATEGORIES = ("kernel", "gpu_memcpy", "gpu_memset")
# The profiler leaves out what seems to lie outside of its record, and the GPU's clock is not the host's.
PAUSE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEvent:
    """A kernel, copy or memset: when it began, by the trace's clock, and how long it took."""

    name: str
    start_us: float
    us: float


def record(work: Callable[[], object]) -> tuple[GpuEvent, ...]:
    """What the GPU did while `work` ran, in the order in which it began; the GPU has to be idle before."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        time.sleep(PAUSE_S)
        work()
        torch.cuda.synchronize()
        time.sleep(PAUSE_S)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(path))
        return events_in(path.read_text(encoding="utf-8"))


def events_in(trace: str) -> tuple[GpuEvent, ...]:
    """The GPU's events in a trace of Chrome's format, in the order in which they began."""
    found = [
        GpuEvent(name=event["name"], start_us=float(event["ts"]), us=float(event["dur"]))
        for event in json.loads(trace)["traceEvents"]
        if event.get("cat") in CATEGORIES
    ]
    return tuple(sorted(found, key=lambda event: event.start_us))
