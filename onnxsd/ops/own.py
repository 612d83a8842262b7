"""Target `own`: this project's own operators, and behind them the `cuda` target's.

Each adds up `x + skip + bias` in float32 by itself and rounds the sum once, so what is held back costs no
pass where one of them follows; and each sums in an order that its shapes alone decide. They take float16 in
fixed shapes, channels by eights; what they refuse the stock lowerings take. Engines author their graphs in
this target; no exported file is written in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from onnxsd.ops import common, cuda
from onnxsd.ops.operators import Value
from onnxsd.ops.terms import SAME, Padding, Refused, Scope, Tensor
from onnxsd.tensors import Dim, DType, Shape
from onnxsd.weights.recipe import Fold

# The kernels load and store 16 bytes at a time.
CHANNELS_AT_ONCE = 8
LARGEST_LAYER_NORM = 2048
LARGEST_SOFTMAX = 32768
# Threads of a block of the group norm's kernels, each with 8 channels of one row of pixels at a time; the
# same number stands in group_norm.cu and norms.hpp.
GROUP_NORM_THREADS = 384
LARGEST_SLAB = GROUP_NORM_THREADS * CHANNELS_AT_ONCE
# A slab, the channels that a block takes, is about a quarter of all, but within these bounds.
SLAB_CHANNELS = (80, 480)
# Pixels that a thread sums up at the least, while blocks are few; and so many blocks an image there are at
# the most, for small images (which come in pairs) and for large ones. An H200 has 132 multiprocessors.
PIXELS_PER_THREAD = 6
LARGE_PIXELS = 1 << 15
MOST_BLOCKS, MOST_BLOCKS_OF_LARGE = 128, 264


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """How a group norm's sums are divided: each block takes `slab` channels of one of `parts` of the pixels.

    The order of summation follows from it, and with it an image's last bits. So it depends on a picture's
    shape alone: not on the batch, whose entries must not change with their company, and not on the GPU.
    """

    slab: int
    parts: int


def division(pixels: int, channels: int, groups: int) -> Division | None:
    """The division for an image; None where the groups are too wide for a block."""
    each = channels // groups
    fitting = [
        count * each
        for count in range(1, min(groups, GROUP_NORM_THREADS) + 1)
        if groups % count == 0 and count * each % CHANNELS_AT_ONCE == 0 and count * each <= LARGEST_SLAB
    ]
    if not fitting:
        return None
    least, most = SLAB_CHANNELS
    wanted = min(channels // 4, most)
    narrow = [size for size in fitting if least <= size <= wanted]
    slab = narrow[-1] if narrow else next((size for size in fitting if size >= least), fitting[-1])
    rows = GROUP_NORM_THREADS // (slab // CHANNELS_AT_ONCE)
    blocks = MOST_BLOCKS if pixels <= LARGE_PIXELS else MOST_BLOCKS_OF_LARGE
    parts = min(-(-pixels // (PIXELS_PER_THREAD * rows)), max(blocks * slab // channels, 1))
    return Division(slab=slab, parts=parts)


class OwnKernels(cuda.Cuda):
    """The vocabulary in own operators, and in the `cuda` target's where they refuse."""

    target = "own"
    # A norm adds a convolution's bias in passing, and cuDNN's kernels without one are the faster.
    fused_bias_elements = None
    # Whether a layer norm of a sum with a skip is FusedLayerNorm. It can be; but ONNX Runtime's
    # SkipLayerNormalization gives the same bits each time too, and on an H200 takes 4.9 µs for 2×1024×1280
    # where FusedLayerNorm takes 7.2.
    skips_in_layer_norm: ClassVar[bool] = False

    def added(self, x: Value, *, bias: Value | None, residual: Value | None = None) -> Value:
        """`x + bias + residual` in one pass."""
        if not _taken(x.shape, x.dtype):
            return super().added(x, bias=bias, residual=residual)
        return self.graph.emit("FusedAdd", x, *_given(residual, bias))

    def softmax(self, x: Value) -> Value:
        """Softmax over the last axis; a row stays in a block's registers."""
        width = x.shape[-1]
        if _taken(x.shape, x.dtype) and isinstance(width, int) and width <= LARGEST_SOFTMAX:
            return self.graph.emit("RowSoftmax", x)
        return super().softmax(x)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addends:
    """`x + skip + bias`, which an own operator adds up by itself."""

    x: Value
    skip: Value | None = None
    bias: Value | None = None

    @property
    def optional(self) -> tuple[Value | None, ...]:
        """Skip and bias as operands."""
        return _given(self.skip, self.bias)


def _addends(ops: OwnKernels, x: Tensor, *, rows: bool = False) -> Addends:
    """What is held back of `x`, with what it is added to emitted now.

    A skip that is one row a batch entry is absorbed where the operator takes `rows`.
    """
    source = ops.source(x)
    if isinstance(source, cuda.Product):
        return Addends(x=source.bare(), bias=source.bias)
    if isinstance(source, cuda.Sum) and (rows or len(source.residual.shape) == len(x.shape)):
        return Addends(x=source.bare(), skip=source.residual, bias=source.bias)
    return Addends(x=ops.value(x))


def _given(*operands: Value | None) -> tuple[Value | None, ...]:
    """Optional operands without those at the end that are left out."""
    while operands and operands[-1] is None:
        operands = operands[:-1]
    return operands


def _own_group_norm(
    ops: OwnKernels, at: Scope, x: Tensor, *, channels: int, groups: int, eps: float, silu: bool
) -> Value:
    """FusedGroupNorm with whatever is held back; the sum is its third output, gamma and beta are float32."""
    _, _, *sizes = _require(ops, x, spatial=True)
    divided = division(prod(sizes), channels, groups)
    if divided is None:
        raise Refused(f"the kernel takes groups together that are up to {LARGEST_SLAB} channels wide")
    gamma, beta = (ops.weight(at / name, (channels,), dtype=DType.FLOAT32) for name in ("weight", "bias"))
    addends = _addends(ops, x, rows=True)
    ops.graph.within(str(at))
    # Between the two lies scratch for the kernel, which nobody reads: ONNX Runtime's arena holds it.
    normed, total = ops.graph.emit_all(
        "FusedGroupNorm", addends.x, gamma, beta, *addends.optional, outputs=(0, 2),
        groups=groups, epsilon=eps, activation=int(silu), slab=divided.slab, parts=divided.parts,
    )  # fmt: skip
    if addends.optional:
        ops.settled(x, total)
    return normed


def _own_layer_norm(ops: OwnKernels, at: Scope, x: Tensor, *, width: int, eps: float) -> Value:
    """FusedLayerNorm with whatever is held back; the sum is its second output."""
    _require(ops, x)
    if isinstance(ops.source(x), cuda.Sum) and not ops.skips_in_layer_norm:
        raise Refused("SkipLayerNormalization is the faster one for a sum with a skip")
    if width > LARGEST_LAYER_NORM:
        raise Refused(f"the kernel takes widths up to {LARGEST_LAYER_NORM}, not {width}")
    gamma, beta = ops.weight(at / "weight", (width,)), ops.weight(at / "bias", (width,))
    addends = _addends(ops, x)
    ops.graph.within(str(at))
    normed, total = ops.graph.emit_all(
        "FusedLayerNorm", addends.x, gamma, beta, *addends.optional, outputs=(0, 1), epsilon=eps
    )
    if addends.optional:
        ops.settled(x, total)
    return normed


def _own_geglu(ops: OwnKernels, at: Scope, x: Tensor, *, inner: int, out: int) -> Value:
    """MatMul, then GEGLU with its bias."""
    _require_taken((*x.shape[:-1], out), ops.dtype)
    product = common.matmul(ops, at, x, inner, 2 * out)
    return ops.graph.emit("GEGLU", product, ops.weight(at / "bias", (2 * out,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsampled:
    """`small` with each row and column twice, not written yet: a convolution may take `small` itself."""

    ops: OwnKernels
    at: Scope
    small: Tensor
    sizes: tuple[Dim, Dim]

    @property
    def doubled(self) -> bool:
        """Whether no row or column is cut."""
        return self.sizes == tuple(size * 2 for size in self.small.shape[2:])

    def settle(self) -> Value:
        """UpsampleNearest to the very sizes, with whatever is held back.

        It stays held back: who asks for `small` later has it settled then.
        """
        height, width = self.sizes
        addends = _addends(self.ops, self.small)
        graph = self.ops.graph
        graph.within(str(self.at))
        return graph.emit("UpsampleNearest", addends.x, *addends.optional, height=height, width=width)


def _own_upsample(ops: OwnKernels, at: Scope, x: Tensor, *, sizes: tuple[Dim, Dim]) -> Upsampled:
    """Held back, until it is known who takes it."""
    _require(ops, x, spatial=True)
    return Upsampled(ops=ops, at=at, small=x, sizes=sizes)


def _own_conv_of_phases(
    ops: OwnKernels, at: Scope, x: Tensor, *, channels: int, out: int, kernel: int, stride: int,
    padding: Padding, weight_scale: float, bias_scale: float,
) -> Value:  # fmt: skip
    """A 3×3 convolution of a doubled map: four phases by one 2×2 convolution of the small map, interleaved.

    That is 16/36 of the arithmetic. A map that was cut to an odd size has another last row or column, for
    which the phases' weights are wrong.
    """
    source = ops.source(x)
    if not isinstance(source, Upsampled) or not source.doubled:
        raise Refused("the map is not one that was doubled")
    if (kernel, stride, padding) != (3, 1, SAME):
        raise Refused(f"the kernel is 3×3, of stride 1 and padding 1; not {kernel}, {stride} and {padding}")
    _require_taken((out,), ops.dtype)
    small = ops.value(source.small)
    weight = ops.weight(
        at / "weight", (out, channels, 3, 3), permutation=(0, 2, 3, 1), scale=weight_scale, fold=Fold.DOUBLING
    )
    bias = ops.weight(at / "bias", (out,), scale=bias_scale)
    ops.graph.within(str(at))
    phases = ops.graph.emit("NhwcConv", small, weight, **cuda.conv_attributes(2, 1, SAME))
    return ops.graph.emit("Interleave", phases, bias)


def _own_concat(ops: OwnKernels, at: Scope, x: Tensor, skip: Tensor) -> Value:
    """FusedConcat, with whatever is held back of the left one; it stays held back for who asks later."""
    for operand in (x, skip):
        _require(ops, operand, spatial=True)
    other = ops.value(skip)
    addends = _addends(ops, x)
    ops.graph.within(str(at))
    return ops.graph.emit("FusedConcat", addends.x, other, *addends.optional)


def _require(ops: OwnKernels, x: Tensor, *, spatial: bool = False) -> tuple[int, ...]:
    """The logical sizes of `x`, once the kernels are known to take it."""
    _require_taken(ops.physical(x.shape, spatial=spatial), x.dtype)
    return tuple(size for size in x.shape if isinstance(size, int))


def _require_taken(shape: Shape, dtype: DType) -> None:
    if not _taken(shape, dtype):
        raise Refused(
            f"own kernels take float16 in fixed shapes, the last axis a multiple of {CHANNELS_AT_ONCE}"
        )


def _taken(shape: Shape, dtype: DType) -> bool:
    """Whether the kernels take a value of this shape, as it lies in memory, and of this type."""
    sizes = [size for size in shape if isinstance(size, int)]
    return dtype is DType.FLOAT16 and len(sizes) == len(shape) and sizes[-1] % CHANNELS_AT_ONCE == 0


OwnKernels.lowerings = {
    **cuda.Cuda.lowerings,
    "conv": (_own_conv_of_phases, *cuda.Cuda.lowerings["conv"]),
    "group_norm": (_own_group_norm, *cuda.Cuda.lowerings["group_norm"]),
    "layer_norm": (_own_layer_norm, *cuda.Cuda.lowerings["layer_norm"]),
    "geglu": (_own_geglu, *cuda.Cuda.lowerings["geglu"]),
    "upsample": (_own_upsample, *cuda.Cuda.lowerings["upsample"]),
    "concat_channels": (_own_concat, *cuda.Cuda.lowerings["concat_channels"]),
}
