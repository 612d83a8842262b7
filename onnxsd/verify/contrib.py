"""What each operator that is no standard one means, as a body of standard operators.

Those of `com.microsoft` are written from ONNX Runtime's operator documentation (docs/ContribOperators.md),
with what its CUDA kernels do where that is silent: they compute in float32 and round what they store. Those
of this project say what its kernels are tested against. A new operator is one function with `@body`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from onnxsd.errors import BadInputError

Inputs: TypeAlias = "tuple[ir.Value | None, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One way in which an operator is called; calls that are equal share a body."""

    domain: str
    operator: str
    attributes: tuple[tuple[str, Any], ...]
    dtype: ir.DataType
    # Rank of each input, None for one that is left out.
    ranks: tuple[int | None, ...]
    outputs: int

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or what the documentation says of one that is left out."""
        return dict(self.attributes).get(name, default)


class Body:
    """Standard nodes in the order in which they are emitted."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.nodes: list[ir.Node] = []

    def emit(self, operator: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Append a node with one output and return it."""
        return self.emit_all(operator, *inputs, outputs=1, **attributes)[0]

    def emit_all(
        self, operator: str, *inputs: ir.Value | None, outputs: int, **attributes: Any
    ) -> Sequence[ir.Value]:
        """Append a node and return its outputs."""
        number = len(self.nodes)
        converted = [ir.convenience.convert_attribute(name, value) for name, value in attributes.items()]
        values = [ir.Value(name=f"v{number}_{index}") for index in range(outputs)]
        self.nodes.append(ir.Node("", operator, inputs, converted, outputs=values))
        return values

    def constant(self, content: Sequence[int] | float) -> ir.Value:
        """An int64 vector, or a float32 scalar."""
        array = np.array(content, np.float32 if isinstance(content, float) else np.int64)
        return self.emit("Constant", value=ir.tensor(array))

    def widened(self, x: ir.Value) -> ir.Value:
        """`x` in float32."""
        return self.emit("Cast", x, to=int(ir.DataType.FLOAT))

    def stored(self, x: ir.Value) -> ir.Value:
        """A float32 value, rounded to the type that the operator keeps its values in."""
        return self.emit("Cast", x, to=int(self.call.dtype))

    def total(self, *addends: ir.Value | None) -> ir.Value:
        """The sum of what is given, in float32."""
        first, *rest = (self.widened(value) for value in addends if value is not None)
        for value in rest:
            first = self.emit("Add", first, value)
        return first

    def silu(self, x: ir.Value, alpha: float = 1.0) -> ir.Value:
        """x·sigmoid(alpha·x)."""
        inner = x if alpha == 1.0 else self.emit("Mul", x, self.constant(alpha))
        return self.emit("Mul", x, self.emit("Sigmoid", inner))

    def gelu(self, x: ir.Value) -> ir.Value:
        """x·(1 + erf(x/√2))/2."""
        erf = self.emit("Erf", self.emit("Div", x, self.constant(float(np.sqrt(2.0)))))
        half = self.emit("Mul", x, self.constant(0.5))
        return self.emit("Mul", half, self.emit("Add", erf, self.constant(1.0)))


Rule: TypeAlias = Callable[[Body, Inputs], "tuple[ir.Value, ...]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator that has a body: how many inputs and which attributes the body knows."""

    rule: Rule
    inputs: tuple[int, int]
    attributes: frozenset[str]


OPERATORS: dict[str, Operator] = {}


def body(*, inputs: tuple[int, int], attributes: Sequence[str] = ()) -> Callable[[Rule], Rule]:
    """Register the decorated rule for the operator of its name, with least and most inputs."""

    def register(rule: Rule) -> Rule:
        OPERATORS[rule.__name__] = Operator(rule=rule, inputs=inputs, attributes=frozenset(attributes))
        return rule

    return register


def given(inputs: Inputs, index: int) -> ir.Value:
    """The input at `index`, which the operator must have."""
    value = inputs[index]
    assert value is not None  # checked by `bodies`
    return value


def optional(inputs: Inputs, index: int) -> ir.Value | None:
    """The input at `index`, if it is given."""
    return inputs[index] if index < len(inputs) else None


NHWC_TO_NCHW, NCHW_TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
LARGEST_END = (1 << 31) - 1
CONV_ATTRIBUTES = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


@body(inputs=(2, 3), attributes=CONV_ATTRIBUTES)
def NhwcConv(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802 - the operator's name
    """Conv over (B, H, W, C) with weights (out, kernel, kernel, C)."""
    x, weight = (
        body.emit("Transpose", body.widened(given(inputs, index)), perm=NHWC_TO_NCHW) for index in (0, 1)
    )
    bias = optional(inputs, 2)
    operands = (x, weight) if bias is None else (x, weight, body.widened(bias))
    made = body.emit("Conv", *operands, **dict(body.call.attributes))
    return (body.stored(body.emit("Transpose", made, perm=NCHW_TO_NHWC)),)


def _group_norm(body: Body, x: ir.Value, gamma: ir.Value, beta: ir.Value) -> ir.Value:
    """Mean and variance of each group over (H, W, C/groups) of a float32 (B, H, W, C)."""
    call = body.call
    if call.attribute("channels_last", 1) != 1:
        raise BadInputError(
            f"{call.operator} with channels_last = 0: its kernel takes channels_last = 1 only"
        )
    nchw = body.emit("Transpose", x, perm=NHWC_TO_NCHW)
    grouped = body.emit("Reshape", nchw, body.constant([0, call.attribute("groups"), -1]))
    centred = body.emit("Sub", grouped, body.emit("ReduceMean", grouped, axes=[2]))
    variance = body.emit("ReduceMean", body.emit("Mul", centred, centred), axes=[2])
    epsilon = body.constant(float(call.attribute("epsilon", 1e-5)))
    normed = body.emit("Div", centred, body.emit("Sqrt", body.emit("Add", variance, epsilon)))
    nhwc = body.emit("Transpose", body.emit("Reshape", normed, body.emit("Shape", nchw)), perm=NCHW_TO_NHWC)
    scaled = body.emit("Add", body.emit("Mul", nhwc, body.widened(gamma)), body.widened(beta))
    return body.stored(body.silu(scaled) if call.attribute("activation") else scaled)


GROUP_NORM_ATTRIBUTES = ("activation", "channels_last", "epsilon", "groups")


@body(inputs=(3, 3), attributes=GROUP_NORM_ATTRIBUTES)
def GroupNorm(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    x, gamma, beta = (given(inputs, index) for index in range(3))
    return (_group_norm(body, body.widened(x), gamma, beta),)


@body(inputs=(4, 5), attributes=GROUP_NORM_ATTRIBUTES)
def SkipGroupNorm(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """Group norm of x + skip + bias, and that sum; a skip (B, C) is added to every pixel."""
    x, gamma, beta, skip = (given(inputs, index) for index in range(4))
    if body.call.ranks[3] == 2:
        skip = body.emit("Unsqueeze", skip, body.constant([1, 2]))
    # The kernel stores the sum and normalizes what it stored.
    total = body.stored(body.total(x, optional(inputs, 4), skip))
    return _group_norm(body, body.widened(total), gamma, beta), total


@body(inputs=(4, 5), attributes=("epsilon",))
def SkipLayerNormalization(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """Layer norm of x + skip + bias, its mean, its inverse deviation, and that sum."""
    x, skip, gamma, beta = (given(inputs, index) for index in range(4))
    total = body.stored(body.total(x, skip, optional(inputs, 4)))
    normed, mean, inverse = body.emit_all(
        "LayerNormalization", body.widened(total), body.widened(gamma), body.widened(beta),
        outputs=3, axis=-1, epsilon=float(body.call.attribute("epsilon", 1e-12)),
    )  # fmt: skip
    return body.stored(normed), mean, inverse, total


@body(inputs=(3, 3), attributes=("num_heads", "scale", "unidirectional"))
def MultiHeadAttention(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """softmax(Q·Kᵀ·scale)·V, where unidirectional hides later positions; Q, K, V (B, S, heads·size)."""
    query, key, value = (
        body.emit("Transpose", _heads(body, given(inputs, index)), perm=(0, 2, 1, 3)) for index in range(3)
    )
    scale = body.call.attribute("scale")
    if scale:
        scaled = body.emit("Mul", query, body.constant(float(scale)))
    else:  # 0 means 1/√size too
        size = body.emit("Cast", body.emit("Shape", query, start=3), to=int(ir.DataType.FLOAT))
        scaled = body.emit("Div", query, body.emit("Sqrt", size))
    scores = body.emit("MatMul", scaled, body.emit("Transpose", key, perm=(0, 1, 3, 2)))
    if body.call.attribute("unidirectional", 0):
        minus_infinity = ir.tensor(np.array([-np.inf], np.float32))
        everywhere = body.emit("ConstantOfShape", body.emit("Shape", scores, start=2), value=minus_infinity)
        later = body.emit("Trilu", everywhere, body.emit("Constant", value_int=1), upper=1)
        scores = body.emit("Add", scores, later)
    mixed = body.emit("MatMul", body.emit("Softmax", scores, axis=-1), value)
    rows = body.emit("Transpose", mixed, perm=(0, 2, 1, 3))
    return (body.stored(body.emit("Reshape", rows, body.constant([0, 0, -1]))),)


def _heads(body: Body, x: ir.Value) -> ir.Value:
    return body.emit("Reshape", body.widened(x), body.constant([0, 0, body.call.attribute("num_heads"), -1]))


@body(inputs=(2, 2))
def BiasSplitGelu(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """The left half of x + bias, times the gelu of its right half."""
    left, right = body.emit_all("Split", body.total(given(inputs, 0), given(inputs, 1)), outputs=2, axis=-1)
    return (body.stored(body.emit("Mul", left, body.gelu(right))),)


@body(inputs=(3, 3))
def BiasAdd(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """x + bias + skip."""
    return (body.stored(body.total(*inputs)),)


@body(inputs=(1, 1))
def Gelu(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    return (body.stored(body.gelu(body.widened(given(inputs, 0)))),)


@body(inputs=(1, 1), attributes=("alpha",))
def QuickGelu(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """x·sigmoid(alpha·x)."""
    alpha = float(body.call.attribute("alpha", 1.702))
    return (body.stored(body.silu(body.widened(given(inputs, 0)), alpha)),)


# Operators of this project: each adds x, a skip and a bias up in float32 and rounds their sum once.


def _summed(body: Body, inputs: Inputs, skip_at: int) -> ir.Value:
    """x + skip + bias as the kernel keeps it; a skip (B, C) is added to every pixel of an x (B, H, W, C)."""
    x, skip, bias = given(inputs, 0), optional(inputs, skip_at), optional(inputs, skip_at + 1)
    ranks = body.call.ranks
    if skip is not None and (ranks[0], ranks[skip_at]) == (4, 2):
        skip = body.emit("Unsqueeze", skip, body.constant([1, 2]))
    return body.stored(body.total(x, skip, bias))


@body(inputs=(3, 5), attributes=("activation", "epsilon", "groups", "parts", "slab"))
def FusedGroupNorm(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """Group norm of the sum, the kernel's scratch, and the sum."""
    total = _summed(body, inputs, 3)
    normed = _group_norm(body, body.widened(total), given(inputs, 1), given(inputs, 2))
    return normed, _scratch(body, given(inputs, 0)), total


def _scratch(body: Body, x: ir.Value) -> ir.Value:
    """(B, groups, parts, 4) of NaN: whoever reads it is seen."""
    rest = body.constant([body.call.attribute("groups"), body.call.attribute("parts"), 4])
    shape = body.emit("Concat", body.emit("Shape", x, start=0, end=1), rest, axis=0)
    return body.emit("ConstantOfShape", shape, value=ir.tensor(np.array([np.nan], np.float32)))


@body(inputs=(3, 5), attributes=("epsilon",))
def FusedLayerNorm(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """Layer norm of the sum, and the sum."""
    total = _summed(body, inputs, 3)
    gamma, beta = (body.widened(given(inputs, index)) for index in (1, 2))
    epsilon = float(body.call.attribute("epsilon", 1e-5))
    normed = body.emit("LayerNormalization", body.widened(total), gamma, beta, axis=-1, epsilon=epsilon)
    return body.stored(normed), total


@body(inputs=(1, 1))
def RowSoftmax(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """Softmax over the last axis."""
    return (body.stored(body.emit("Softmax", body.widened(given(inputs, 0)), axis=-1)),)


@body(inputs=(2, 2))
def GEGLU(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """The left half of x + bias, times the gelu of its right half."""
    return BiasSplitGelu(body, inputs)


@body(inputs=(1, 3), attributes=("height", "width"))
def UpsampleNearest(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """Each row and column of the sum twice, the last ones of an odd size once."""
    total = _summed(body, inputs, 1)
    for axis, name in ((1, "height"), (2, "width")):
        sources = [index // 2 for index in range(body.call.attribute(name))]
        total = body.emit("Gather", total, body.constant(sources), axis=axis)
    return (total,)


@body(inputs=(1, 2))
def Interleave(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """Pixel (2i + p, 2j + q) is phase 2p + q, a quarter of the channels, of (i + p, j + q), plus bias."""
    parts = body.emit_all("Split", body.widened(given(inputs, 0)), outputs=4, axis=-1)
    moved = [_moved(body, part, down=index // 2, right=index % 2) for index, part in enumerate(parts)]
    nchw = body.emit("Transpose", body.emit("Concat", *moved, axis=-1), perm=NHWC_TO_NCHW)
    apart = body.emit("DepthToSpace", nchw, blocksize=2, mode="DCR")
    return (body.stored(body.total(body.emit("Transpose", apart, perm=NCHW_TO_NHWC), optional(inputs, 1))),)


def _moved(body: Body, x: ir.Value, *, down: int, right: int) -> ir.Value:
    """A feature map that begins at a row and column of 0 or 1, and has one of each less."""
    starts = (down, right)
    # A negative end is counted from behind; one far behind the end is the end.
    ends = [LARGEST_END if start else -1 for start in starts]
    return body.emit("Slice", x, body.constant(starts), body.constant(ends), body.constant([1, 2]))


@body(inputs=(1, 3))
def FusedAdd(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """The sum; without a skip its place is empty."""
    return (_summed(body, inputs, 1),)


@body(inputs=(2, 4))
def FusedConcat(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:  # noqa: N802
    """The sum beside another feature map."""
    return (body.emit("Concat", _summed(body, inputs, 2), given(inputs, 1), axis=-1),)
