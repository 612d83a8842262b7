"""Target `cuda`: NHWC from end to end with ONNX Runtime's fused `com.microsoft` operators.

Fusion happens here, while the graph is authored: a convolution or linear holds its bias back, an addition
holds itself back, and the next norm absorbs both (SkipGroupNorm, SkipLayerNormalization). Whoever else asks
for the value gets it settled by the cheapest nodes. The kernels' limits are in the lowerings that meet them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, ClassVar

from onnxsd.ops import common
from onnxsd.ops.graph import Graph
from onnxsd.ops.operators import OPERATORS, Value
from onnxsd.ops.terms import Activation, Padding, Refused, Scope, Source, Tensor
from onnxsd.ops.vocabulary import Ops
from onnxsd.tensors import Dim, DType, Shape

# BiasSplitGelu is compiled for these widths of its input only (bias_split_gelu.cc).
GEGLU_WIDTHS = (2560, 5120, 6144, 10240, 12288)
# cuDNN and flash attention take heads up to 256; larger ones (the VAE's 512) are faster as two MatMuls.
LARGEST_HEAD = 256
# QuickGelu is x·sigmoid(alpha·x): 1.702 in CLIP; at 1 it is SiLU in one node.
QUICK_GELU_ALPHA = {Activation.SILU: 1.0, Activation.QUICK_GELU: 1.702}


class Cuda(Ops):
    """The vocabulary in fused operators; a feature map is (batch, height, width, channels)."""

    target = "cuda"
    # Elements above which a convolution adds its bias itself; None is never. cuDNN compiles a kernel for
    # each shape that it fuses a bias into, a third of a second on first use; over less than 128 MiB of fp16
    # no pass is worth that.
    fused_bias_elements: ClassVar[int | None] = 1 << 26

    def fuses_bias(self, shape: Shape) -> bool:
        """Whether a convolution to this shape adds its bias itself; never where a size is symbolic."""
        return self.fused_bias_elements is not None and _elements(shape) > self.fused_bias_elements

    def physical(self, shape: Shape, *, spatial: bool) -> Shape:
        if not spatial:
            return shape
        batch, channels, height, width = shape
        return (batch, height, width, channels)

    def from_nchw(self, value: Value) -> Value:
        return self.graph.emit("Transpose", value, perm=(0, 2, 3, 1))

    def to_nhwc(self, value: Value) -> Value:
        return value

    def to_nchw(self, value: Value) -> Value:
        return self.graph.emit("Transpose", value, perm=(0, 3, 1, 2))

    def added(self, x: Value, *, bias: Value | None, residual: Value | None = None) -> Value:
        """`x + bias + residual`, where no norm adds them: here alone what is held back is settled.

        The residual has the shape of `x`, or one row a batch entry of a feature map.
        """
        if residual is None or bias is None:
            (addend,) = (value for value in (bias, residual) if value is not None)
            return self.graph.emit("Add", x, _as_rows(self.graph, addend, x.shape))
        if len(x.shape) == 2 or len(residual.shape) < len(x.shape):
            return self.added(self.added(x, bias=bias), bias=None, residual=residual)
        return self._bias_add(x, bias, residual)

    def _bias_add(self, x: Value, bias: Value, residual: Value) -> Value:
        """Bias and residual in one pass; BiasAdd takes three axes, so a feature map is seen as tokens."""
        graph, flat = self.graph, tokens_shape(x.shape)
        total = graph.emit("BiasAdd", graph.reshape(x, flat), bias, graph.reshape(residual, flat))
        return graph.reshape(total, x.shape)


def _as_rows(graph: Graph, addend: Value, shape: Shape) -> Value:
    """An addend that broadcasts to `shape`: one row a batch entry, (B, C), as (B, 1, 1, C)."""
    if len(addend.shape) != 2 or len(shape) == 2:
        return addend
    batch, channels = addend.shape
    return graph.reshape(addend, (batch, 1, 1, channels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A convolution or linear whose bias is not added yet; `fuses` says that it had better add it itself.

    `bare` emits it once, however often it is called.
    """

    bias: Value
    bare: Callable[[], Value]
    biased: Callable[[], Value]
    fuses: bool = False

    def settle(self) -> Value:
        return self.biased()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """`bare + bias + residual`, not added yet; `residual` has its shape, or one row a batch entry."""

    ops: Cuda
    bare: Callable[[], Value]
    bias: Value | None
    residual: Value

    def settle(self) -> Value:
        return self.ops.added(self.bare(), bias=self.bias, residual=self.residual)


def tokens_shape(shape: Shape) -> Shape:
    """(B, H, W, C) as (B, H·W, C); three axes stay."""
    if len(shape) == 3:
        return shape
    batch, height, width, channels = shape
    return (batch, height * width, channels)


def _conv(
    ops: Cuda, at: Scope, x: Tensor, *, channels: int, out: int, kernel: int, stride: int, padding: Padding,
    weight_scale: float, bias_scale: float,
) -> Product:  # fmt: skip
    """NhwcConv; its weight is stored (out, kernel, kernel, channels)."""
    value = ops.value(x)
    source_shape = (out, channels, kernel, kernel)
    weight = ops.weight(at / "weight", source_shape, permutation=(0, 2, 3, 1), scale=weight_scale)
    bias = ops.weight(at / "bias", (out,), scale=bias_scale)

    attributes = conv_attributes(kernel, stride, padding)
    ((shape, _),) = OPERATORS["NhwcConv"].rule((value, weight), attributes)
    fuses = ops.fuses_bias(shape)

    def emit(*operands: Value) -> Value:
        ops.graph.within(str(at))
        return ops.graph.emit("NhwcConv", *operands, **attributes)

    bare = cache(lambda: emit(value, weight))

    def biased() -> Value:
        return emit(value, weight, bias) if fuses else ops.added(bare(), bias=bias)

    return Product(bias=bias, bare=bare, biased=biased, fuses=fuses)


def conv_attributes(kernel: int, stride: int, padding: Padding) -> dict[str, Any]:
    """NhwcConv's, with one kernel size and stride for both axes."""
    return {
        "kernel_shape": (kernel, kernel), "strides": (stride, stride), "pads": padding, "dilations": (1, 1),
        "group": 1,
    }  # fmt: skip


def _elements(shape: Shape) -> int:
    """How many there are; 0 where that depends on symbols."""
    return prod(size for size in shape if isinstance(size, int)) if _is_fixed(shape) else 0


def _is_fixed(shape: Shape) -> bool:
    return all(isinstance(size, int) for size in shape)


def _linear(
    ops: Cuda,
    at: Scope,
    x: Tensor,
    *,
    inner: int,
    out: int,
    bias: bool,
    weight_scale: float,
    bias_scale: float,
) -> Product | Value:
    """MatMul; never Gemm, which spends a second product on its bias."""
    if not bias:
        return common.matmul(ops, at, x, inner, out, weight_scale)
    value, weight = ops.value(x), common.linear_weight(ops, at, inner, out, weight_scale)
    bias_value = ops.weight(at / "bias", (out,), scale=bias_scale)

    @cache
    def bare() -> Value:
        ops.graph.within(str(at))
        return ops.graph.emit("MatMul", value, weight)

    return Product(bias=bias_value, bare=bare, biased=lambda: ops.added(bare(), bias=bias_value))


def _bias_split_gelu(ops: Ops, at: Scope, x: Tensor, *, inner: int, out: int) -> Value:
    if 2 * out not in GEGLU_WIDTHS or len(x.shape) != 3:
        raise Refused(f"BiasSplitGelu is compiled for widths {GEGLU_WIDTHS} of 3 axes, not {2 * out} of {x}")
    product = common.matmul(ops, at, x, inner, 2 * out)
    return ops.graph.emit("BiasSplitGelu", product, ops.weight(at / "bias", (2 * out,)))


def _split_and_gelu(ops: Ops, at: Scope, x: Tensor, *, inner: int, out: int) -> Value:
    product = common.matmul(ops, at, x, inner, 2 * out)
    both = ops.graph.emit("Add", product, ops.weight(at / "bias", (2 * out,)))
    left, right = ops.graph.emit_all("Split", both, outputs=(0, 1), axis=-1)
    return ops.graph.emit("Mul", left, ops.graph.emit("Gelu", right))


def _fused_group_norm(
    ops: Cuda, at: Scope, x: Tensor, *, channels: int, groups: int, eps: float, silu: bool
) -> Value:
    """GroupNorm, or SkipGroupNorm where something is held back; gamma and beta in float32."""
    if channels // groups % 2:
        raise Refused(f"the kernel reads channels in pairs, and a group has {channels // groups}")
    gamma, beta = (ops.weight(at / name, (channels,), dtype=DType.FLOAT32) for name in ("weight", "bias"))
    attributes = {"groups": groups, "epsilon": eps, "activation": int(silu), "channels_last": 1}
    source = ops.source(x)
    if isinstance(source, Product) and not source.fuses:
        # A bias alone is added as one row for every batch entry, which spares a pass of its own.
        row = ops.graph.reshape(source.bias, (1, channels))
        rows = ops.graph.expand(row, (x.shape[0], channels))
        source = Sum(ops=ops, bare=source.bare, bias=None, residual=rows)
    if not isinstance(source, Sum):
        return ops.graph.emit("GroupNorm", ops.value(x), gamma, beta, **attributes)
    bare = source.bare()
    ops.graph.within(str(at))
    operands = (bare, gamma, beta, source.residual, *((source.bias,) if source.bias else ()))
    normed, total = ops.graph.emit_all("SkipGroupNorm", *operands, outputs=(0, 1), **attributes)
    ops.settled(x, total)
    return normed


def _transposed_group_norm(
    ops: Ops, at: Scope, x: Tensor, *, channels: int, groups: int, eps: float, silu: bool
) -> Value:
    """For group sizes that the fused kernel does not take: NCHW and back."""
    nchw = ops.to_nchw(ops.value(x))
    return ops.from_nchw(
        common.instance_group_norm(ops, at, nchw, channels=channels, groups=groups, eps=eps, silu=silu)
    )


def _layer_norm(ops: Ops, at: Scope, x: Tensor, *, width: int, eps: float) -> Value:
    """SkipLayerNormalization where an addition is held back, else LayerNormalization."""
    source = ops.source(x)
    if not isinstance(source, Sum):
        return common.layer_norm(ops, at, x, width=width, eps=eps)
    bare = source.bare()
    ops.graph.within(str(at))
    gamma, beta = ops.weight(at / "weight", (width,)), ops.weight(at / "bias", (width,))
    operands = (bare, source.residual, gamma, beta, *((source.bias,) if source.bias else ()))
    normed, total = ops.graph.emit_all("SkipLayerNormalization", *operands, outputs=(0, 3), epsilon=eps)
    ops.settled(x, total)
    return normed


def _multi_head_attention(
    ops: Ops, at: Scope, query: Tensor, key: Tensor, value: Tensor, *, heads: int, upcast: bool,
    causal_up_to: int | None,
) -> Value:  # fmt: skip
    """MultiHeadAttention over separate Q, K, V, which cuDNN takes as they lie; it keeps scores in float32."""
    width = query.shape[2]
    if not isinstance(width, int) or width // heads > LARGEST_HEAD:
        raise Refused(f"no fused attention kernel takes heads above {LARGEST_HEAD}")
    return ops.graph.emit(
        "MultiHeadAttention", ops.value(query), ops.value(key), ops.value(value),
        num_heads=heads, unidirectional=int(causal_up_to is not None),
    )  # fmt: skip


def _activation(ops: Ops, at: Scope, x: Tensor, *, kind: Activation) -> Value:
    if kind is Activation.GELU:
        return ops.graph.emit("Gelu", ops.value(x))
    return ops.graph.emit("QuickGelu", ops.value(x), alpha=QUICK_GELU_ALPHA[kind])


def _add(ops: Cuda, at: Scope, x: Tensor, residual: Tensor) -> Source:
    source, other = ops.source(x), ops.source(residual)
    if not isinstance(source, Product):
        value = ops.value(x)
        return Sum(ops=ops, bare=lambda: value, bias=None, residual=ops.value(residual))
    if isinstance(other, Product):
        # Two biases are one: added to each other they cost nothing, to the shortcut a pass.
        both = ops.graph.emit("Add", source.bias, other.bias)
        return Sum(ops=ops, bare=source.bare, bias=both, residual=other.bare())
    return Sum(ops=ops, bare=source.bare, bias=source.bias, residual=ops.value(residual))


def _add_positions(ops: Ops, at: Scope, x: Tensor, positions: Tensor) -> Value:
    return ops.graph.emit("Add", ops.value(x), ops.value(positions))


def _concat_channels(ops: Ops, at: Scope, x: Tensor, skip: Tensor) -> Value:
    return ops.graph.emit("Concat", ops.value(x), ops.value(skip), axis=3)


def _upsample(ops: Ops, at: Scope, x: Tensor, *, sizes: tuple[Dim, Dim]) -> Value:
    """Each row and column twice, by Expand; Resize's nearest kernel has no fast path for NHWC."""
    value = ops.value(x)
    common.require_doubling(value, (1, 2), sizes)
    batch, height, width, channels = value.shape
    apart = ops.graph.reshape(value, (batch, height, 1, width, 1, channels))
    twice = ops.graph.expand(apart, (batch, height, 2, width, 2, channels))
    joined = ops.graph.reshape(twice, (batch, height * 2, width * 2, channels))
    return ops.graph.crop(joined, (batch, *sizes, channels), along=(1, 2))


def _tokens(ops: Ops, at: Scope, x: Tensor) -> Source:
    shape = tokens_shape(ops.physical(x.shape, spatial=True))
    return _reshaped(ops, ops.source(x), x, shape)


def _feature_map(ops: Ops, at: Scope, x: Tensor, *, sizes: tuple[Dim, Dim]) -> Source:
    batch, _, channels = x.shape
    return _reshaped(ops, ops.source(x), x, (batch, *sizes, channels))


def _reshaped(ops: Ops, source: Source, x: Tensor, shape: Shape) -> Source:
    """A free view; a bias that is held back stays so."""
    if not isinstance(source, Product):
        return ops.graph.reshape(ops.value(x), shape)
    return Product(
        bias=source.bias,
        bare=cache(lambda: ops.graph.reshape(source.bare(), shape)),
        biased=lambda: ops.graph.reshape(source.biased(), shape),
    )


Cuda.lowerings = {
    "conv": (_conv,),
    "linear": (_linear,),
    "geglu": (_bias_split_gelu, _split_and_gelu),
    "group_norm": (_fused_group_norm, _transposed_group_norm),
    "layer_norm": (_layer_norm,),
    "embedding": (common.embedding,),
    "positions": (common.positions,),
    "attention": (_multi_head_attention, common.plain_attention),
    "activation": (_activation,),
    "add": (_add,),
    "add_channels": (_add,),
    "add_positions": (_add_positions,),
    "concat_channels": (_concat_channels,),
    "concat_features": (common.concat_features,),
    "upsample": (_upsample,),
    "tokens": (_tokens,),
    "feature_map": (_feature_map,),
}
