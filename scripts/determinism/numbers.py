"""Random operands: activations near 1, weights that keep them so, norms that change little."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from determinism.calls import Call, Kind, Operand
from onnxsd.tensors import DType

Array = npt.NDArray[Any]
# A prime, so that no two rows of a tensor are alike where they repeat it: drawing half a billion numbers for
# the largest tensors would take longer than everything else.
POOL = 1_000_003
NORM_SPREAD = 0.1
# What integers are drawn below where they index nothing.
SMALL = 100
WHOLE = (DType.INT64, DType.INT32, DType.UINT8, DType.BOOL)


def numbers(call: Call, index: int) -> Array:
    """What stands for a call's operand at `index`; not for constants, which have their own content."""
    operand = call.operands[index]
    assert operand is not None
    assert operand.kind is not Kind.CONSTANT
    # Cast before it is repeated: a cast of the largest tensors would take seconds each.
    drawn = _cast(call, index, operand, np.roll(_pool(), 7919 * index))
    return np.resize(drawn, math.prod(operand.shape)).reshape(operand.shape)


def _cast(call: Call, index: int, operand: Operand, drawn: Array) -> Array:
    if operand.dtype in WHOLE:
        whole: Array = np.abs(drawn * 1e4) % _bound(call, index)
        return whole.astype(operand.dtype.numpy_name)
    made: Array = drawn * np.float32(_spread(call, operand)) + np.float32(_centre(operand))
    return made.astype(operand.dtype.numpy_name)


@functools.cache
def _pool() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(POOL, np.float32)


def _is_vector(operand: Operand) -> bool:
    """Whether a weight has one number a channel, whatever axes of size 1 it has beside."""
    return math.prod(operand.shape) == max(operand.shape, default=1)


def _centre(operand: Operand) -> float:
    return 1.0 if operand.kind is Kind.WEIGHT and _is_vector(operand) else 0.0


def _spread(call: Call, operand: Operand) -> float:
    if operand.kind is Kind.ACTIVATION:
        return 1.0
    if _is_vector(operand):
        return NORM_SPREAD
    if call.operator == "MatMul":
        return float(operand.shape[0] ** -0.5)
    if call.operator in ("Conv", "NhwcConv"):
        return float(math.prod(operand.shape[1:]) ** -0.5)
    return 1.0


def _bound(call: Call, index: int) -> int:
    """What the integers of an operand stay below: how many entries there are of what they index."""
    table, attributes = call.operands[0], dict(call.attributes)
    axis = {"Gather": attributes.get("axis", 0), "GatherND": attributes.get("batch_dims", 0)}.get(
        call.operator
    )
    if index != 1 or table is None or not isinstance(axis, int):
        return SMALL
    return table.shape[axis]
