"""Draws scenes of `shapes` for tests, on one thread: with more, small operations wait for each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from shapes.packing import pack
from shapes.scene import Scene

AT_ONCE = 4  # pictures whose steps stay in the processor's cache


def draw(
    scenes: Sequence[Scene],
    rng: np.random.Generator,
    *,
    height: int = 128,
    width: int = 128,
    softness: float = 1.0,
) -> npt.NDArray[np.float64]:
    """Jittered pictures of the scenes, (N, H, W, 3) in 0…255."""
    import torch
    from shapes.render import render

    rows = torch.from_numpy(pack(scenes, rng))
    pictures = np.empty((len(rows), height, width, 3))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for first in range(0, len(rows), AT_ONCE):
            part = render(rows[first : first + AT_ONCE], height=height, width=width, softness=softness)
            pictures[first : first + AT_ONCE] = part.permute(0, 2, 3, 1).numpy()
    finally:
        torch.set_num_threads(threads)
    pictures *= 255
    return pictures


def rounded(pictures: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """As 8-bit pictures."""
    return np.stack([picture.clip(0, 255).round().astype(np.uint8) for picture in pictures])
