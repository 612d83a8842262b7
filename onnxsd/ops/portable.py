"""Target `portable`: standard ONNX operators only, NCHW; runs on CPU, TensorRT, DirectML and OpenVINO."""

from __future__ import annotations

import numpy as np

from onnxsd.ops import common
from onnxsd.ops.operators import Value
from onnxsd.ops.terms import Activation, Padding, Scope, Tensor
from onnxsd.ops.vocabulary import Ops
from onnxsd.tensors import Dim, Shape


class Portable(Ops):
    """The vocabulary in standard operators; a feature map is (batch, channels, height, width)."""

    target = "portable"

    def physical(self, shape: Shape, *, spatial: bool) -> Shape:
        return shape

    def from_nchw(self, value: Value) -> Value:
        return value

    def to_nhwc(self, value: Value) -> Value:
        return self.graph.emit("Transpose", value, perm=(0, 2, 3, 1))

    def to_nchw(self, value: Value) -> Value:
        return value


def _conv(
    ops: Ops, at: Scope, x: Tensor, *, channels: int, out: int, kernel: int, stride: int, padding: Padding,
    weight_scale: float, bias_scale: float,
) -> Value:  # fmt: skip
    weight = ops.weight(at / "weight", (out, channels, kernel, kernel), scale=weight_scale)
    bias = ops.weight(at / "bias", (out,), scale=bias_scale)
    return ops.graph.emit(
        "Conv",
        ops.value(x),
        weight,
        bias,
        kernel_shape=(kernel, kernel),
        strides=(stride, stride),
        pads=padding,
    )


def _linear(
    ops: Ops,
    at: Scope,
    x: Tensor,
    *,
    inner: int,
    out: int,
    bias: bool,
    weight_scale: float,
    bias_scale: float,
) -> Value:
    product = common.matmul(ops, at, x, inner, out, weight_scale)
    return (
        ops.graph.emit("Add", product, ops.weight(at / "bias", (out,), scale=bias_scale)) if bias else product
    )


def _geglu(ops: Ops, at: Scope, x: Tensor, *, inner: int, out: int) -> Value:
    both = _linear(ops, at, x, inner=inner, out=2 * out, bias=True, weight_scale=1.0, bias_scale=1.0)
    left, right = ops.graph.emit_all("Split", both, outputs=(0, 1), axis=-1)
    return ops.graph.emit("Mul", left, common.gelu(ops, right))


def _group_norm(
    ops: Ops, at: Scope, x: Tensor, *, channels: int, groups: int, eps: float, silu: bool
) -> Value:
    return common.instance_group_norm(
        ops, at, ops.value(x), channels=channels, groups=groups, eps=eps, silu=silu
    )


def _activation(ops: Ops, at: Scope, x: Tensor, *, kind: Activation) -> Value:
    value = ops.value(x)
    if kind is Activation.GELU:
        return common.gelu(ops, value)
    # 1.702: Hendrycks and Gimpel 2016, the approximation that CLIP was trained with.
    inner = value
    if kind is Activation.QUICK_GELU:
        inner = ops.graph.emit("Mul", value, common.scalar(ops, 1.702))
    return ops.graph.emit("Mul", value, ops.graph.emit("Sigmoid", inner))


def _add(ops: Ops, at: Scope, x: Tensor, residual: Tensor) -> Value:
    return ops.graph.emit("Add", ops.value(x), ops.value(residual))


def _add_channels(ops: Ops, at: Scope, x: Tensor, rows: Tensor) -> Value:
    column = ops.graph.reshape(ops.value(rows), (*rows.shape, 1, 1))
    return ops.graph.emit("Add", ops.value(x), column)


def _concat_channels(ops: Ops, at: Scope, x: Tensor, skip: Tensor) -> Value:
    return ops.graph.emit("Concat", ops.value(x), ops.value(skip), axis=1)


def _upsample(ops: Ops, at: Scope, x: Tensor, *, sizes: tuple[Dim, Dim]) -> Value:
    """Resize to the wanted sizes; nearest, asymmetric and floor give ⌊i / 2⌋ for odd sizes too."""
    value = ops.value(x)
    common.require_doubling(value, (2, 3), sizes)
    shape = (*value.shape[:2], *sizes)
    empty = ops.graph.constant(np.zeros(0, np.float32), "none")
    if sizes == (value.shape[2] * 2, value.shape[3] * 2):
        last: tuple[Value, ...] = (empty, ops.graph.constant(np.array([1, 1, 2, 2], np.float32), "scales"))
    else:
        last = (empty, empty, ops.graph.shape_vector(shape))
    return ops.graph.emit_shaped(
        "Resize", value, *last, dtype=value.dtype, shape=shape,
        mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip


def _tokens(ops: Ops, at: Scope, x: Tensor) -> Value:
    value = ops.value(x)
    batch, channels, height, width = value.shape
    flat = ops.graph.reshape(value, (batch, channels, height * width))
    return ops.graph.emit("Transpose", flat, perm=(0, 2, 1))


def _feature_map(ops: Ops, at: Scope, x: Tensor, *, sizes: tuple[Dim, Dim]) -> Value:
    value = ops.graph.emit("Transpose", ops.value(x), perm=(0, 2, 1))
    return ops.graph.reshape(value, (*value.shape[:2], *sizes))


Portable.lowerings = {
    "conv": (_conv,),
    "linear": (_linear,),
    "geglu": (_geglu,),
    "group_norm": (_group_norm,),
    "layer_norm": (common.layer_norm,),
    "embedding": (common.embedding,),
    "positions": (common.positions,),
    "attention": (common.plain_attention,),
    "activation": (_activation,),
    "add": (_add,),
    "add_channels": (_add_channels,),
    "add_positions": (_add,),
    "concat_channels": (_concat_channels,),
    "concat_features": (common.concat_features,),
    "upsample": (_upsample,),
    "tokens": (_tokens,),
    "feature_map": (_feature_map,),
}
