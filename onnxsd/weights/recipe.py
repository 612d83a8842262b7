"""How an initializer is made from a checkpoint's tensor: permuted, scaled, cast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxsd.tensors import DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One initializer: which tensor it comes from, and what is done to it on the way.

    The order is: take `source` (of `source_shape`), permute its axes, multiply by `scale`, cast to `dtype`.
    `shape` has the permuted tensor's elements in the same order (an axis of size 1 may be added or dropped),
    so two recipes that differ only there share their bytes.
    """

    name: str
    source: str
    source_shape: tuple[int, ...]
    permutation: tuple[int, ...] | None = None
    scale: float = 1.0
    shape: tuple[int, ...]
    dtype: DType

    @property
    def elements(self) -> int:
        """How many numbers the initializer holds."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the initializer in the data file."""
        return self.elements * self.dtype.size_bytes

    def to_json(self) -> dict[str, Any]:
        """The recipe as the manifest keeps it; what is at its default is left out."""
        entry: dict[str, Any] = {"sources": [self.source], "source_shape": list(self.source_shape)}
        if self.permutation is not None:
            entry["permutation"] = list(self.permutation)
        if self.scale != 1.0:
            entry["scale"] = self.scale
        return {**entry, "shape": list(self.shape), "dtype": self.dtype.value}

    @staticmethod
    def from_json(name: str, entry: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_json` wrote."""
        (source,) = entry["sources"]
        permutation = entry.get("permutation")
        return Recipe(
            name=name,
            source=source,
            source_shape=tuple(entry["source_shape"]),
            permutation=None if permutation is None else tuple(permutation),
            scale=float(entry.get("scale", 1.0)),
            shape=tuple(entry["shape"]),
            dtype=DType(entry["dtype"]),
        )
