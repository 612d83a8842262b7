"""How an initializer is made from a checkpoint's tensor: permuted, scaled, cast."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnxsd.tensors import DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One initializer: which tensor it comes from, and what is done to it on the way.

    The order is: take `source` (of `source_shape`), permute its axes, multiply by `scale`, cast to `dtype`.
    `shape` has the permuted tensor's elements in the same order (an axis of size 1 may be added or dropped).
    """

    name: str
    source: str
    source_shape: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: DType
    permutation: tuple[int, ...] | None = None
    scale: float = 1.0

    @property
    def elements(self) -> int:
        """How many numbers the initializer holds."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the initializer in the data file."""
        return self.elements * self.dtype.size_bytes
