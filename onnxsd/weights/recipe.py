"""How an initializer is made from a checkpoint's tensor: permuted, scaled, cast."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

from onnxsd.tensors import DType


class Fold(enum.Enum):
    """What is folded into a convolution's weight, so that it need not be done to the convolution's input."""

    # Each row and column twice, before a 3×3 convolution of stride 1 and padding 1.
    DOUBLING = "doubling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One initializer: which tensor it comes from, and what is done to it on the way.

    The order is: take `source` (of `source_shape`), permute its axes, multiply by `scale`, cast to `dtype`.
    `shape` has the permuted tensor's elements in the same order (an axis of size 1 may be added or dropped).
    With a `fold`, an initializer is made of that one again, when weights are loaded: no folder holds it.
    """

    name: str
    source: str
    source_shape: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: DType
    permutation: tuple[int, ...] | None = None
    scale: float = 1.0
    fold: Fold | None = None

    @property
    def stored(self) -> Recipe:
        """The initializer that an exported folder holds of it, under its tensor's name."""
        if self.fold is None:
            return self
        axes = self.permutation or tuple(range(len(self.source_shape)))
        shape = tuple(self.source_shape[axis] for axis in axes)
        return replace(self, name=self.source, shape=shape, fold=None)

    @property
    def elements(self) -> int:
        """How many numbers the initializer holds."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the initializer in the data file."""
        return self.elements * self.dtype.size_bytes
