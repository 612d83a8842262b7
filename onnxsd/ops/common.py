"""Lowerings and pieces of them that more than one target uses: standard operators, no layout."""

from __future__ import annotations

import math

import numpy as np

from onnxsd.ops.operators import Value, refuse
from onnxsd.ops.terms import Scope, Tensor
from onnxsd.ops.vocabulary import Ops
from onnxsd.tensors import Dim, DType, Shape, ceil_div, shape_text


def scalar(ops: Ops, number: float, dtype: DType | None = None) -> Value:
    """A constant of one element in the graph's type, or in `dtype`."""
    return ops.graph.constant(np.array(number, (dtype or ops.dtype).numpy_name), "scalar")


def matmul(ops: Ops, at: Scope, x: Tensor, inner: int, out: int, scale: float = 1.0) -> Value:
    """x·Wᵀ; the weight is stored transposed, (inner, out), so that it feeds MatMul directly."""
    return ops.graph.emit("MatMul", ops.value(x), linear_weight(ops, at, inner, out, scale))


def linear_weight(ops: Ops, at: Scope, inner: int, out: int, scale: float = 1.0) -> Value:
    """A linear layer's weight as (inner, out)."""
    return ops.weight(at / "weight", (out, inner), permutation=(1, 0), scale=scale)


def layer_norm(ops: Ops, at: Scope, x: Tensor, *, width: int, eps: float) -> Value:
    """LayerNormalization of opset 17."""
    gamma, beta = ops.weight(at / "weight", (width,)), ops.weight(at / "bias", (width,))
    return ops.graph.emit("LayerNormalization", ops.value(x), gamma, beta, axis=-1, epsilon=eps)


def embedding(ops: Ops, at: Scope, ids: Tensor, *, rows: int, width: int) -> Value:
    """Gather along the table's rows."""
    return ops.graph.emit("Gather", ops.weight(at / "weight", (rows, width)), ops.value(ids), axis=0)


def positions(ops: Ops, at: Scope, *, length: Dim, rows: int, width: int) -> Value:
    """The table's first rows, as a batch of one."""
    table = ops.weight(at / "weight", (rows, width))
    cut = ops.graph.crop(table, (length, width), along=(0,))
    return ops.graph.reshape(cut, (1, length, width))


def require_doubling(x: Value, axes: tuple[int, int], sizes: tuple[Dim, Dim]) -> None:
    """Refuse sizes along `axes` that are not twice those of `x`, or one less."""
    if any(ceil_div(size, 2) != x.shape[axis] for axis, size in zip(axes, sizes, strict=True)):
        raise refuse(f"cannot be upsampled to {shape_text(sizes)} along axes {axes}", x)


def concat_features(ops: Ops, at: Scope, left: Tensor, right: Tensor) -> Value:
    """Concat along the last axis."""
    return ops.graph.emit("Concat", ops.value(left), ops.value(right), axis=-1)


def gelu(ops: Ops, x: Value) -> Value:
    """x · Φ(x) with the error function; opset 20's Gelu is newer than the opset that is written."""
    half = ops.graph.emit("Mul", x, scalar(ops, 0.5))
    erf = ops.graph.emit("Erf", ops.graph.emit("Mul", x, scalar(ops, 1.0 / math.sqrt(2.0))))
    return ops.graph.emit("Mul", half, ops.graph.emit("Add", erf, scalar(ops, 1.0)))


def plain_attention(
    ops: Ops, at: Scope, query: Tensor, key: Tensor, value: Tensor, *, heads: int, upcast: bool,
    causal_up_to: int | None,
) -> Value:  # fmt: skip
    """softmax(Q·Kᵀ/√d)·V from MatMul and Softmax, with the scores in memory."""
    _, length, width = query.shape
    assert isinstance(width, int)  # checked by the vocabulary
    dtype = DType.FLOAT32 if upcast else ops.dtype
    head = width // heads
    q, k = (ops.cast(_split_heads(ops, ops.value(x), heads, axes), dtype) for x, axes in (
        (query, (0, 2, 1, 3)), (key, (0, 2, 3, 1)),
    ))  # fmt: skip
    # Scaling the queries first keeps the scores of fp16 in range.
    scores = ops.graph.emit("MatMul", ops.graph.emit("Mul", q, scalar(ops, head**-0.5, dtype)), k)
    if causal_up_to is not None:
        scores = ops.graph.emit("Add", scores, _causal_mask(ops, length, dtype, causal_up_to))
    weights = ops.cast(ops.softmax(scores), ops.dtype)
    mixed = ops.graph.emit("MatMul", weights, _split_heads(ops, ops.value(value), heads, (0, 2, 1, 3)))
    return ops.graph.reshape(ops.graph.emit("Transpose", mixed, perm=(0, 2, 1, 3)), query.shape)


def _causal_mask(ops: Ops, length: Dim, dtype: DType, longest: int) -> Value:
    """(length, length), 0 where a position may look and a very negative number where it may not."""
    size = length if isinstance(length, int) else longest
    # Half of fp16's range: added to any score it neither overflows to NaN nor leaves a weight above 0.
    hidden = np.triu(np.full((size, size), -30000.0, dtype.numpy_name), k=1)
    return ops.graph.crop(ops.graph.constant(hidden, "causal"), (length, length), along=(0, 1))


def _split_heads(ops: Ops, x: Value, heads: int, axes: tuple[int, int, int, int]) -> Value:
    batch, length, width = x.shape
    assert isinstance(width, int)  # checked by the vocabulary
    shape: Shape = (batch, length, heads, width // heads)
    return ops.graph.emit("Transpose", ops.graph.reshape(x, shape), perm=axes)


def instance_group_norm(
    ops: Ops, at: Scope, x: Value, *, channels: int, groups: int, eps: float, silu: bool
) -> Value:
    """Group norm of an NCHW value by InstanceNormalization, which every runtime has at opset 17."""
    graph = ops.graph
    batch, _, height, width = x.shape
    grouped = graph.reshape(x, (batch, groups, channels // groups * height * width))
    ones = graph.constant(np.ones(groups, ops.dtype.numpy_name), "ones")
    zeros = graph.constant(np.zeros(groups, ops.dtype.numpy_name), "zeros")
    normed = graph.emit("InstanceNormalization", grouped, ones, zeros, epsilon=eps)
    gamma = ops.weight(at / "weight", (channels,), shape=(channels, 1, 1))
    beta = ops.weight(at / "bias", (channels,), shape=(channels, 1, 1))
    result = graph.emit("Add", graph.emit("Mul", graph.reshape(normed, x.shape), gamma), beta)
    return graph.emit("Mul", result, graph.emit("Sigmoid", result)) if silu else result
