"""The ONNX operators that lowerings may emit, each with the rule for its output's shape and type.

ONNX's own shape inference sees nothing behind a node of another domain. Here every operator, standard or not,
has its rule, so a graph's shapes are proved symbolically while it is being authored. A new operator is one
function with `@operator`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx_ir as ir

from onnxsd.errors import ShapeError
from onnxsd.tensors import Dim, DType, Shape, ceil_div, shape_text

MICROSOFT = "com.microsoft"
# Operators of this project, with kernels of its own (`ops.own`).
OWN = "onnxsd"


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """One value of the graph being authored: its shape as the ONNX node has it, and its type."""

    shape: Shape
    dtype: DType
    ir: ir.Value

    def __str__(self) -> str:
        return f"{self.ir.name} {shape_text(self.shape)}"


Operands: TypeAlias = "tuple[Value | None, ...]"
Attributes: TypeAlias = Mapping[str, Any]
Outputs: TypeAlias = "tuple[tuple[Shape, DType], ...]"
Rule: TypeAlias = Callable[[Operands, Attributes], Outputs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One ONNX operator: where it lives, what it makes of its operands, and how many outputs always stand."""

    name: str
    domain: str
    rule: Rule
    kept: int = 1


OPERATORS: dict[str, Operator] = {}


def operator(*names: str, domain: str = "", kept: int = 1) -> Callable[[Rule], Rule]:
    """Register the decorated rule for one or more operators of a domain.

    Args:
        kept: how many outputs, from the first on, a node has whether or not anybody takes them.
    """

    def register(rule: Rule) -> Rule:
        for name in names:
            OPERATORS[name] = Operator(name=name, domain=domain, rule=rule, kept=kept)
        return rule

    return register


def refuse(problem: str, *operands: Value | None) -> ShapeError:
    """The error for operands that do not fit: the problem and the shapes that were found."""
    found = ", ".join(str(value) for value in operands if value is not None)
    return ShapeError(f"{problem}: found {found}")


def broadcast(left: Shape, right: Shape) -> Shape | None:
    """The shape that two shapes broadcast to, or None where they do not."""
    rank = max(len(left), len(right))
    pairs = zip((1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right, strict=True)
    sizes: list[Dim] = []
    for a, b in pairs:
        if a != b and a != 1 and b != 1:
            return None
        sizes.append(b if a == 1 else a)
    return tuple(sizes)


def operand(operands: Operands, index: int) -> Value:
    """The operand at `index`, which the operator must have."""
    value = operands[index] if index < len(operands) else None
    if value is None:
        raise ShapeError(f"operand {index} is missing")
    return value


def optional(operands: Operands, index: int) -> Value | None:
    """The operand at `index`, where it is given."""
    return operands[index] if index < len(operands) else None


def require_shape(value: Value | None, shape: Shape, what: str) -> None:
    """Refuse an operand, where it is given, whose shape is not `shape`."""
    if value is not None and value.shape != shape:
        raise refuse(f"{what} must have shape {shape_text(shape)}", value)


def same_dtype(*values: Value | None) -> DType:
    """The type that all given operands share; ONNX promotes nothing."""
    given = [value for value in values if value is not None]
    if any(value.dtype is not given[0].dtype for value in given):
        types = ", ".join(f"{value.ir.name} {value.dtype.numpy_name}" for value in given)
        raise ShapeError(f"operands of different types: {types}")
    return given[0].dtype


@operator("Add", "Mul", "Sub", "Div")
def elementwise(operands: Operands, attributes: Attributes) -> Outputs:
    left, right = operand(operands, 0), operand(operands, 1)
    shape = broadcast(left.shape, right.shape)
    if shape is None:
        raise refuse("shapes do not broadcast", left, right)
    return ((shape, same_dtype(left, right)),)


@operator("Sigmoid", "Erf", "Sin", "Cos", "Softmax", "Round")
def unary(operands: Operands, attributes: Attributes) -> Outputs:
    x = operand(operands, 0)
    return ((x.shape, x.dtype),)


@operator("Clip")
def clip(operands: Operands, attributes: Attributes) -> Outputs:
    x = operand(operands, 0)
    for bound in operands[1:]:
        require_shape(bound, (), "a bound")
    return ((x.shape, same_dtype(*operands)),)


@operator("ReduceSum")
def sum_of_all(operands: Operands, attributes: Attributes) -> Outputs:
    if len(operands) > 1 or attributes["keepdims"]:
        raise ShapeError("only a sum of everything to a single number is known here")
    return (((), operand(operands, 0).dtype),)


@operator("Cast")
def cast(operands: Operands, attributes: Attributes) -> Outputs:
    return ((operand(operands, 0).shape, FROM_IR[attributes["to"]]),)


@operator("Equal")
def equal(operands: Operands, attributes: Attributes) -> Outputs:
    ((shape, _),) = elementwise(operands, attributes)
    return ((shape, DType.BOOL),)


@operator("MatMul")
def matmul(operands: Operands, attributes: Attributes) -> Outputs:
    left, right = operand(operands, 0), operand(operands, 1)
    batch = broadcast(left.shape[:-2], right.shape[:-2])
    if batch is None or left.shape[-1] != right.shape[-2]:
        raise refuse("matrices do not multiply", left, right)
    return (((*batch, left.shape[-2], right.shape[-1]), same_dtype(left, right)),)


@operator("Conv")
def conv(operands: Operands, attributes: Attributes) -> Outputs:
    batch, channels, height, width = operand(operands, 0).shape
    out, taken, *kernel = operand(operands, 1).shape
    dtype = _check_convolution(operands, channels, taken, out)
    return (((batch, out, *_convolved((height, width), tuple(kernel), attributes)), dtype),)


@operator("NhwcConv", domain=MICROSOFT)
def nhwc_conv(operands: Operands, attributes: Attributes) -> Outputs:
    batch, height, width, channels = operand(operands, 0).shape
    out, *kernel, taken = operand(operands, 1).shape
    dtype = _check_convolution(operands, channels, taken, out)
    return (((batch, *_convolved((height, width), tuple(kernel), attributes), out), dtype),)


def _check_convolution(operands: Operands, channels: Dim, taken: Dim, out: Dim) -> DType:
    """Refuse a weight for other channels and a bias of another length; the type of all three."""
    if taken != channels:
        raise refuse("the convolution's weight takes other channels", *operands[:2])
    for bias in operands[2:]:
        require_shape(bias, (out,), "the convolution's bias")
    return same_dtype(*operands)


def _convolved(sizes: tuple[Dim, Dim], kernel: Shape, attributes: Attributes) -> tuple[Dim, Dim]:
    """⌊(size + pads − kernel) / stride⌋ + 1 of height and width, written as a ceiling division."""
    top, left, bottom, right = attributes["pads"]
    stride_h, stride_w = attributes["strides"]
    kernel_h, kernel_w = attributes["kernel_shape"]
    if kernel != (kernel_h, kernel_w):
        raise ShapeError(
            f"the convolution's weight has a kernel of {shape_text(kernel)}, not {kernel_h}×{kernel_w}"
        )
    height = ceil_div(sizes[0] + (top + bottom - kernel_h + 1), stride_h)
    width = ceil_div(sizes[1] + (left + right - kernel_w + 1), stride_w)
    return height, width


@operator("InstanceNormalization")
def instance_norm(operands: Operands, attributes: Attributes) -> Outputs:
    x = operand(operands, 0)
    for value in operands[1:]:
        require_shape(value, (x.shape[1],), "an instance norm's scale or bias")
    return ((x.shape, same_dtype(*operands)),)


@operator("LayerNormalization")
def layer_norm(operands: Operands, attributes: Attributes) -> Outputs:
    x = operand(operands, 0)
    for value in operands[1:]:
        require_shape(value, (x.shape[-1],), "a layer norm's scale or bias")
    return ((x.shape, same_dtype(*operands)),)


@operator("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_norm(operands: Operands, attributes: Attributes) -> Outputs:
    x, skip = operand(operands, 0), operand(operands, 1)
    require_shape(skip, x.shape, "the skip")
    for value in operands[2:]:
        require_shape(value, (x.shape[-1],), "a layer norm's scale or bias")
    dtype = same_dtype(*operands)
    # Outputs 1 and 2 (mean, inverse deviation) are never asked for; output 3 is the sum.
    return ((x.shape, dtype), ((), DType.FLOAT32), ((), DType.FLOAT32), (x.shape, dtype))


@operator("GroupNorm", domain=MICROSOFT)
def group_norm(operands: Operands, attributes: Attributes) -> Outputs:
    x, gamma, beta = (operand(operands, index) for index in range(3))
    _check_groups(x, gamma, beta, attributes["groups"])
    return ((x.shape, x.dtype),)


@operator("SkipGroupNorm", domain=MICROSOFT)
def skip_group_norm(operands: Operands, attributes: Attributes) -> Outputs:
    x, gamma, beta, skip = (operand(operands, index) for index in range(4))
    bias = optional(operands, 4)
    _check_groups(x, gamma, beta, attributes["groups"])
    if skip.shape not in (x.shape, (x.shape[0], x.shape[3])):
        raise refuse("the skip must have the input's shape, or (batch, channels)", x, skip)
    require_shape(bias, (x.shape[3],), "the skip's bias")
    dtype = same_dtype(x, skip, bias)
    return ((x.shape, dtype), (x.shape, dtype))


def _check_groups(x: Value, gamma: Value, beta: Value, groups: int) -> None:
    channels = x.shape[3]
    if not isinstance(channels, int) or channels % groups:
        raise refuse(f"channels do not divide into {groups} groups", x)
    for value in (gamma, beta):
        require_shape(value, (channels,), "a group norm's scale or bias")
        if value.dtype is not DType.FLOAT32:
            raise refuse("a fused group norm takes gamma and beta in float32 only", value)


@operator("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(operands: Operands, attributes: Attributes) -> Outputs:
    query, key, value = (operand(operands, index) for index in range(3))
    batch, queries, width = query.shape
    if key.shape[0] != batch or key.shape[2] != width or value.shape != key.shape:
        raise refuse("query, key and value do not fit", query, key, value)
    if not isinstance(width, int) or width % attributes["num_heads"]:
        raise refuse(f"the width does not divide into {attributes['num_heads']} heads", query)
    return (((batch, queries, width), same_dtype(query, key, value)),)


@operator("BiasSplitGelu", domain=MICROSOFT)
def bias_split_gelu(operands: Operands, attributes: Attributes) -> Outputs:
    x, bias = operand(operands, 0), operand(operands, 1)
    width = x.shape[-1]
    require_shape(bias, (width,), "the bias")
    if not isinstance(width, int) or width % 2:
        raise refuse("the width must be even", x)
    return (((*x.shape[:-1], width // 2), same_dtype(x, bias)),)


@operator("GEGLU", domain=OWN)
def geglu(operands: Operands, attributes: Attributes) -> Outputs:
    return bias_split_gelu(operands, attributes)


@operator("BiasAdd", domain=MICROSOFT)
def bias_add(operands: Operands, attributes: Attributes) -> Outputs:
    x, bias, skip = (operand(operands, index) for index in range(3))
    require_shape(bias, (x.shape[-1],), "the bias")
    require_shape(skip, x.shape, "the skip")
    return ((x.shape, same_dtype(x, bias, skip)),)


def _check_addends(x: Value, skip: Value | None, bias: Value | None, *, rows: bool = False) -> DType:
    """The type of what an operator of `OWN` adds up; with `rows` the skip may be one row a batch entry."""
    width = x.shape[-1]
    allowed = (x.shape, (x.shape[0], width)) if rows and len(x.shape) == 4 else (x.shape,)
    if skip is not None and skip.shape not in allowed:
        raise refuse(f"the skip must have one of the shapes {', '.join(map(shape_text, allowed))}", x, skip)
    require_shape(bias, (width,), "the bias")
    return same_dtype(x, skip, bias)


@operator("FusedGroupNorm", domain=OWN, kept=2)
def fused_group_norm(operands: Operands, attributes: Attributes) -> Outputs:
    x, gamma, beta = (operand(operands, index) for index in range(3))
    groups, parts = attributes["groups"], attributes["parts"]
    _check_groups(x, gamma, beta, groups)
    total = (x.shape, _check_addends(x, optional(operands, 3), optional(operands, 4), rows=True))
    return (total, ((x.shape[0], groups, parts, 4), DType.FLOAT32), total)


@operator("FusedLayerNorm", domain=OWN)
def fused_layer_norm(operands: Operands, attributes: Attributes) -> Outputs:
    x, gamma, beta = (operand(operands, index) for index in range(3))
    for value in (gamma, beta):
        require_shape(value, (x.shape[-1],), "a layer norm's scale or bias")
    _check_addends(x, optional(operands, 3), optional(operands, 4))
    total = (x.shape, same_dtype(*operands))
    return (total, total)


@operator("RowSoftmax", domain=OWN)
def row_softmax(operands: Operands, attributes: Attributes) -> Outputs:
    return unary(operands, attributes)


@operator("UpsampleNearest", domain=OWN)
def upsample_nearest(operands: Operands, attributes: Attributes) -> Outputs:
    x = operand(operands, 0)
    batch, height, width, channels = x.shape
    sizes = attributes["height"], attributes["width"]
    if tuple(ceil_div(size, 2) for size in sizes) != (height, width):
        raise refuse(f"cannot be upsampled to {shape_text(sizes)}", x)
    dtype = _check_addends(x, optional(operands, 1), optional(operands, 2))
    return (((batch, *sizes, channels), dtype),)


@operator("Interleave", domain=OWN)
def interleave(operands: Operands, attributes: Attributes) -> Outputs:
    phases, bias = operand(operands, 0), optional(operands, 1)
    batch, *around, channels = phases.shape
    sizes = [size - 1 for size in around if isinstance(size, int) and size > 1]
    if len(sizes) != 2 or len(around) != 2:
        raise refuse("phases have one row and one column more than the small map", phases)
    if not isinstance(channels, int) or channels % 4:
        raise refuse("there must be four phases", phases)
    require_shape(bias, (channels // 4,), "the bias")
    height, width = sizes
    return (((batch, 2 * height, 2 * width, channels // 4), same_dtype(phases, bias)),)


@operator("FusedAdd", domain=OWN)
def fused_add(operands: Operands, attributes: Attributes) -> Outputs:
    x = operand(operands, 0)
    if all(value is None for value in operands[1:]):
        raise refuse("nothing is given to be added", x)
    return ((x.shape, _check_addends(x, optional(operands, 1), optional(operands, 2), rows=True)),)


@operator("FusedConcat", domain=OWN)
def fused_concat(operands: Operands, attributes: Attributes) -> Outputs:
    x, other = operand(operands, 0), operand(operands, 1)
    if x.shape[:-1] != other.shape[:-1]:
        raise refuse("pixels that are not as many cannot be put beside each other", x, other)
    _check_addends(x, optional(operands, 2), optional(operands, 3))
    return (((*x.shape[:-1], x.shape[-1] + other.shape[-1]), same_dtype(*operands)),)


@operator("Gelu", "QuickGelu", domain=MICROSOFT)
def fused_activation(operands: Operands, attributes: Attributes) -> Outputs:
    return unary(operands, attributes)


@operator("Transpose")
def transpose(operands: Operands, attributes: Attributes) -> Outputs:
    x = operand(operands, 0)
    return ((tuple(x.shape[axis] for axis in attributes["perm"]), x.dtype),)


@operator("Concat")
def concat(operands: Operands, attributes: Attributes) -> Outputs:
    values = [operand(operands, index) for index in range(len(operands))]
    axis = attributes["axis"] % len(values[0].shape)
    rest = [(*value.shape[:axis], *value.shape[axis + 1 :]) for value in values]
    if any(other != rest[0] for other in rest):
        raise refuse(f"values cannot be concatenated along axis {axis}", *values)
    total: Dim = 0
    for value in values:
        total = total + value.shape[axis]
    shape = (*values[0].shape[:axis], total, *values[0].shape[axis + 1 :])
    return ((shape, same_dtype(*values)),)


@operator("Split")
def split_in_two(operands: Operands, attributes: Attributes) -> Outputs:
    x = operand(operands, 0)
    width = x.shape[-1]
    if attributes["axis"] != -1 or not isinstance(width, int) or width % 2:
        raise refuse("the last axis must be even to be split in two", x)
    half = ((*x.shape[:-1], width // 2), x.dtype)
    return (half, half)


@operator("Gather")
def gather_rows(operands: Operands, attributes: Attributes) -> Outputs:
    table, indices = operand(operands, 0), operand(operands, 1)
    return (((*indices.shape, *table.shape[1:]), table.dtype),)


@operator("GatherND")
def gather_one_per_batch(operands: Operands, attributes: Attributes) -> Outputs:
    data, indices = operand(operands, 0), operand(operands, 1)
    if attributes["batch_dims"] != 1 or indices.shape != (data.shape[0], 1):
        raise refuse("one index a batch entry is needed", data, indices)
    return (((data.shape[0], *data.shape[2:]), data.dtype),)


@operator("ArgMax")
def argmax(operands: Operands, attributes: Attributes) -> Outputs:
    x = operand(operands, 0)
    if attributes["keepdims"] != 1 or attributes["axis"] != -1:
        raise refuse("only the last axis is reduced, and kept", x)
    return (((*x.shape[:-1], 1), DType.INT64),)


FROM_IR = {
    ir.DataType.FLOAT: DType.FLOAT32,
    ir.DataType.FLOAT16: DType.FLOAT16,
    ir.DataType.BFLOAT16: DType.BFLOAT16,
    ir.DataType.INT64: DType.INT64,
    ir.DataType.INT32: DType.INT32,
    ir.DataType.UINT8: DType.UINT8,
    ir.DataType.BOOL: DType.BOOL,
}
TO_IR = {dtype: data_type for data_type, dtype in FROM_IR.items()}
