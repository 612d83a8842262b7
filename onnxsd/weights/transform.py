"""Carrying out a recipe: a checkpoint's tensor becomes an initializer's bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxsd.errors import WeightsError
from onnxsd.tensors import DType
from onnxsd.weights.recipe import Recipe
from onnxsd.weights.tensor_file import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class CastLoss:
    """What a cast to fp16 could not keep: finite values that overflowed, other values that turned to zero."""

    overflowed: int = 0
    zeroed: int = 0

    def __add__(self, other: CastLoss) -> CastLoss:
        return CastLoss(overflowed=self.overflowed + other.overflowed, zeroed=self.zeroed + other.zeroed)


NO_LOSS = CastLoss()
# Of a matrix that is being transposed; measured best between 16 and 256 for fp16.
TRANSPOSED_AT_ONCE = 128
_BITS: dict[np.dtype[Any], Any] = {np.dtype(np.float16): np.uint16, np.dtype(np.float32): np.uint32}


def carry_out(recipe: Recipe, array: Array, stored: DType) -> tuple[Array, CastLoss]:
    """The initializer that `recipe` makes of `array`, contiguous, and what the cast lost.

    Args:
        recipe: what to do.
        array: the tensor as the file holds it (bfloat16 as its bits), (recipe.source_shape).
        stored: its type in the file.

    Raises:
        WeightsError: the tensor holds NaN or infinity.
    """
    if stored is DType.BFLOAT16:
        # numpy has no bfloat16: its 16 bits are the upper half of a float32.
        array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    array = array.reshape(recipe.source_shape)
    if recipe.permutation is not None:
        array = array.transpose(recipe.permutation)
    if recipe.scale != 1.0:
        array = array.astype(np.float32) * np.float32(recipe.scale)
    target = np.dtype(recipe.dtype.numpy_name)
    with np.errstate(over="ignore"):
        made = contiguous(array.astype(target, copy=False))
    loss = NO_LOSS
    if array.dtype != target and recipe.dtype is DType.FLOAT16:
        loss = _loss(array, made)
    if not loss.overflowed and not all_finite(made):
        raise WeightsError(
            f"{recipe.source} holds NaN or infinity",
            hint="the checkpoint is damaged, or its own fp16 overflowed",
        )
    return made.reshape(recipe.shape), loss


def contiguous(array: Array) -> Array:
    """The array with its elements in order; itself where they are already.

    numpy walks a transposed matrix element by element and misses the cache at each: 60 to 150 MB/s, slower
    than a disk. A block of rows at a time keeps what it writes to in the cache: 2 GB/s.
    """
    if array.ndim != 2 or array.flags.c_contiguous or not array.flags.f_contiguous:
        return np.ascontiguousarray(array)
    made = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[1], TRANSPOSED_AT_ONCE):
        block = slice(start, start + TRANSPOSED_AT_ONCE)
        made[:, block] = array[:, block]
    return made


def all_finite(array: Array) -> bool:
    """Whether no element is NaN or infinity, from the bits: four times as fast as isfinite for fp16."""
    bits = _BITS.get(array.dtype)
    if bits is None or not array.size:
        return bool(np.isfinite(array).all())
    # Without its sign, infinity is the smallest of the bit patterns that are not finite.
    largest = np.bitwise_and(array.view(bits), np.iinfo(bits).max >> 1).max()
    return bool(largest < np.array(np.inf, array.dtype).view(bits))


def _loss(before: Array, after: Array) -> CastLoss:
    finite = np.isfinite(before)
    if not finite.all():
        return NO_LOSS  # named by the check for NaN and infinity
    return CastLoss(
        overflowed=int(np.isinf(after).sum()), zeroed=int(np.count_nonzero((after == 0) & (before != 0)))
    )


def convert(array: Array, stored: Recipe, wanted: Recipe) -> Array:
    """An initializer made by one recipe, as another recipe of the same tensor would have made it.

    This is how a folder of one target runs in the other, and fp16 weights are widened once for a CPU.

    Raises:
        WeightsError: the recipes are of different tensors or scales.
    """
    if (stored.source, stored.source_shape, stored.scale) != (
        wanted.source,
        wanted.source_shape,
        wanted.scale,
    ):
        raise WeightsError(f"{wanted.name} cannot be made from {stored}", hint="export again")
    if stored.permutation != wanted.permutation:
        before = stored.permutation or tuple(range(len(stored.source_shape)))
        after = wanted.permutation or tuple(range(len(wanted.source_shape)))
        permuted = array.reshape([stored.source_shape[axis] for axis in before])
        array = permuted.transpose([before.index(axis) for axis in after])
    target = np.dtype(wanted.dtype.numpy_name)
    return contiguous(array.astype(target, copy=False)).reshape(wanted.shape)
