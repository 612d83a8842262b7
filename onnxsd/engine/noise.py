"""Noise by seed, the same that torch's generator on a CPU gives, without torch.

A seed then means the same picture here and in diffusers with `torch.Generator("cpu")`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.errors import UsageError

Array = npt.NDArray[np.float32]
# torch fills in blocks of 16: 8 radii and 8 angles (aten/src/ATen/native/cpu/DistributionTemplates.h).
BLOCK = 16
LARGEST_SEED = 2**64 - 1


def check_seed(seed: int) -> None:
    """Refuse a seed that torch's generator does not take."""
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"seed {seed} is out of range", hint=f"use 0 to {LARGEST_SEED}")


class TorchNoise:
    """A stream of unit-variance noise; each draw continues where the last one ended."""

    def __init__(self, seed: int) -> None:
        check_seed(seed)
        # torch seeds its Mersenne Twister with the lower 32 bits, as the original init_genrand does.
        self._bits: Any = np.random.MT19937()
        self._bits._legacy_seeding(seed & 0xFFFFFFFF)

    def draw(self, shape: tuple[int, ...]) -> Array:
        """Normal numbers of a shape; at least 16 of them, below which torch goes another way."""
        count = int(np.prod(shape))
        if count < BLOCK:
            raise UsageError(f"a latent of shape {list(shape)} is too small", hint="use a larger size")
        values = self._uniform(count)
        whole = count - count % BLOCK
        values[:whole] = _normal(values[:whole])
        if count % BLOCK:
            # The last block is drawn anew and overlaps the one before it.
            values[-BLOCK:] = _normal(self._uniform(BLOCK))
        return values.reshape(shape)

    def _uniform(self, count: int) -> Array:
        """Numbers in [0, 1) from 24 random bits each."""
        bits = self._bits.random_raw(count).astype(np.uint32) & np.uint32((1 << 24) - 1)
        uniform: Array = bits.astype(np.float32) * np.float32(2.0**-24)
        return uniform


def _normal(uniform: Array) -> Array:
    """Box and Muller 1958, block by block: radius from the first half, angle from the second."""
    blocks = uniform.reshape(-1, 2, BLOCK // 2)
    radius = np.sqrt(np.float32(-2.0) * np.log(np.float32(1.0) - blocks[:, 0]))
    angle = np.float32(2.0 * np.pi) * blocks[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
