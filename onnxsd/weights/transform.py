"""Carrying out a recipe: a checkpoint's tensor becomes an initializer's bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxsd.errors import WeightsError
from onnxsd.tensors import DType
from onnxsd.weights.recipe import Fold, Recipe
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
# Output channels of a weight that is being folded: what lies between is small enough for a core's cache.
FOLDED_AT_ONCE = 8
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
    if recipe.fold is not None:
        made, loss = carry_out(recipe.stored, array, stored)
        return convert(made, recipe.stored, recipe), loss
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
        WeightsError: the recipes are of different tensors or scales, or what is folded does not fit the type.
    """
    if (stored.source, stored.source_shape, stored.scale, stored.fold) != (
        wanted.source,
        wanted.source_shape,
        wanted.scale,
        None,
    ):
        raise WeightsError(f"{wanted.name} cannot be made from {stored}", hint="export again")
    if wanted.fold is Fold.DOUBLING:
        plain = convert(array, stored, replace(wanted.stored, dtype=stored.dtype))
        return _doubled(plain, wanted)
    if stored.permutation != wanted.permutation:
        before = stored.permutation or tuple(range(len(stored.source_shape)))
        after = wanted.permutation or tuple(range(len(wanted.source_shape)))
        permuted = array.reshape([stored.source_shape[axis] for axis in before])
        array = permuted.transpose([before.index(axis) for axis in after])
    target = np.dtype(wanted.dtype.numpy_name)
    return contiguous(array.astype(target, copy=False)).reshape(wanted.shape)


def with_doubling(weight: Array) -> Array:
    """A 3×3 convolution's weight for the map before its nearest ×2 upsampling: a 2×2 one for each phase.

    A phase is the output's pixels (2i + p, 2j + q). Of three rows of the doubled map, two are one row of the
    small map: for p = 0 the last two, for p = 1 the first two; columns alike.
    What two rows are multiplied with, one is by the sum.

    Args:
        weight: (out, 3, 3, channels), of padding 1 and stride 1.

    Returns:
        (4·out, 2, 2, channels), output channel (2p + q)·out + c; of padding 1, phase (p, q) of pixel (i, j)
        is at (i + p, j + q).
    """
    out, _, _, channels = weight.shape
    phases: Array = _pairs(_pairs(weight, 1), 3).swapaxes(0, 1)
    return phases.reshape(4 * out, 2, 2, channels)


def _pairs(weight: Array, axis: int) -> Array:
    """Three taps along an axis as two, for p = 0 and for p = 1, which is a new first axis."""
    first, middle, last = np.moveaxis(weight, axis, 0)
    of_phases = (first, middle + last), (first + middle, last)
    return np.stack([np.stack(taps, axis) for taps in of_phases])


def _doubled(weight: Array, wanted: Recipe) -> Array:
    """`with_doubling` in float32, rounded once.

    Raises:
        WeightsError: the type cannot hold a sum.
    """
    out, _, _, channels = weight.shape
    made: Array = np.empty((4, out, 2, 2, channels), wanted.dtype.numpy_name)
    for start in range(0, out, FOLDED_AT_ONCE):
        block = slice(start, start + FOLDED_AT_ONCE)
        sums = with_doubling(weight[block].astype(np.float32))
        with np.errstate(over="ignore"):
            made[:, block] = sums.reshape(4, -1, 2, 2, channels)
    if not all_finite(made):
        raise WeightsError(
            f"{wanted.source}: sums of its weights do not fit into {wanted.dtype.numpy_name}",
            hint="use stock operators, which take the weights as they are",
        )
    return made.reshape(wanted.shape)
