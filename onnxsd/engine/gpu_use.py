"""What one image took of the GPU's memory: how much was held, what had to leave, and what that cost."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from onnxsd.engine.fits import largest_that_fits
from onnxsd.engine.gpu import Gpu
from onnxsd.engine.request import Settings
from onnxsd.errors import DeviceMemoryError


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """The GPU's memory during one call.

    peak_bytes: the most that was held since the pipeline was made, with what CUDA takes for itself.
    left: what left the GPU to make room, in order; weights take their component's sessions along.
    loading_s: seconds that went into loading weights and making sessions.
    """

    peak_bytes: int
    left: tuple[str, ...]
    loading_s: float


@contextmanager
def watched(gpu: Gpu, settings: Settings) -> Iterator[Callable[[], GpuUse]]:
    """What the work inside takes, asked for afterwards; out of memory says what would fit."""
    loading_s, left = gpu.loading_s, len(gpu.memory.evicted)
    try:
        yield lambda: GpuUse(
            peak_bytes=gpu.memory.peak_bytes,
            left=tuple(gpu.memory.evicted[left:]),
            loading_s=gpu.loading_s - loading_s,
        )
    except DeviceMemoryError as error:
        _let_go_of_frames(error)
        raise DeviceMemoryError(error.message, hint=_what_would_fit(gpu, settings)) from error


def _let_go_of_frames(error: BaseException) -> None:
    """Clear the frames of an error and of those that led to it.

    They hold what was made before memory ran out, for as long as somebody looks at the error; and what would
    fit is told from what is free.
    """
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is not None and found not in seen:
            seen.append(found)
            traceback.clear_frames(found.__traceback__)
            waiting += [found.__cause__, found.__context__]
    gc.collect()


def _what_would_fit(gpu: Gpu, settings: Settings) -> str:
    fitting = largest_that_fits(
        gpu.folder,
        gpu.memory.attainable_bytes(),
        height=settings.height,
        width=settings.width,
        images=len(settings.seeds),
        guided=settings.guided,
        target=gpu.target,
    )
    if fitting is not None:
        return fitting
    if gpu.memory.limit_bytes is not None:
        return "raise the memory limit: not even a small image fits beside the models"
    return "no smaller image fits either: end other programs that hold this GPU's memory"
