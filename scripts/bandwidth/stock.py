"""The same work by stock operators: the `cuda` target's own lowerings, over what an own operator is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from determinism.calls import Kind, Operand, shape_and_type

from bandwidth.work import Work
from onnxsd.ops import Scope, Tensor, cuda
from onnxsd.ops.operators import Value
from onnxsd.tensors import DType

Draw = Callable[[int], npt.NDArray[Any]]
NORM = Scope("norm")


class Stock(cuda.Cuda):
    """The `cuda` target over values that are given, as though a product or a convolution had made them."""

    def given(self, value: Value, bias: Value | None = None) -> Tensor:
        """A value as it lies, four axes being a feature map; its bias, if any, is held back."""
        shape, spatial = value.shape, len(value.shape) == 4
        if spatial:
            batch, height, width, channels = shape
            shape = (batch, channels, height, width)
        source = value if bias is None else self._product(value, bias)
        return self._tensor(shape, value.dtype, source, spatial=spatial)

    def total(self, given: dict[str, Value]) -> Tensor:
        """`x + skip + bias`, held back where the target does so."""
        total, skip = self.given(given["x"], given.get("bias")), given.get("skip")
        if skip is None:
            return total
        return (self.add if len(skip.shape) == len(total.shape) else self.add_channels)(
            total, self.given(skip)
        )

    def _product(self, value: Value, bias: Value) -> cuda.Product:
        """What is large enough is a convolution's, and there that has added the bias already."""
        fuses = len(value.shape) == 4 and self.fuses_bias(value.shape)
        return cuda.Product(
            bias=bias,
            bare=lambda: value,
            biased=lambda: value if fuses else self.added(value, bias=bias),
            fuses=fuses,
        )


def stock_model(work: Work, draw: Draw, dtype: DType = DType.FLOAT16) -> ir.Model:
    """A model of the stock operators for a call; inputs and outputs are called as in `Found.model`.

    Args:
        work: the call.
        draw: the numbers of the weight or bias in a place.
        dtype: what it computes in.
    """
    ops, operands = Stock(work.operator, dtype), work.operands
    given = {
        role: _operand(ops, index, operand, draw)
        for role, (index, operand) in operands.items()
        if role not in ("gamma", "beta")
    }
    for role, value in _made(ops, work, given).items():
        if not value.ir.is_graph_input():
            ops.graph.output(f"y{work.outputs[role][0]}", _before_views(value))
    graph = ops.finish()
    for recipe in graph.recipes:
        numbers = draw(operands["gamma" if recipe.name.endswith("weight") else "beta"][0])
        shaped = numbers.astype(recipe.dtype.numpy_name).reshape(recipe.shape)
        graph.model.graph.initializers[recipe.name].const_value = ir.tensor(shaped, name=recipe.name)
    _drop_views(graph.model.graph)
    return graph.model


def _operand(ops: Stock, index: int, operand: Operand, draw: Draw) -> Value:
    if operand.kind is Kind.ACTIVATION:
        return ops.graph.input(f"x{index}", ops.dtype, operand.shape)
    return ops.graph.constant(draw(index).astype(ops.dtype.numpy_name), f"x{index}")


def _made(ops: Stock, work: Work, given: dict[str, Value]) -> dict[str, Value]:
    """The outputs by what they are for: first what absorbs the sum, then the sum."""
    if work.operator == "GEGLU":
        return {"y": _geglu(ops, given["x"], given["bias"])}
    if work.operator == "RowSoftmax":
        return {"y": ops.graph.emit("Softmax", given["x"], axis=-1)}
    if work.operator == "Interleave":
        return {"y": _interleaved(ops, given["x"], given["bias"])}
    total = ops.total(given)
    made = {"y": ops.value(_result(ops, work, total, given))}
    return {**made, "sum": ops.value(total)} if "sum" in work.outputs else made


def _result(ops: Stock, work: Work, total: Tensor, given: dict[str, Value]) -> Tensor:
    attributes: dict[str, Any] = dict(work.found.call.attributes)
    match work.operator:
        case "FusedGroupNorm":
            groups, silu = attributes["groups"], bool(attributes["activation"])
            return ops.group_norm(total, NORM, groups=groups, eps=attributes["epsilon"], silu=silu)
        case "FusedLayerNorm":
            return ops.layer_norm(total, NORM, eps=attributes["epsilon"])
        case "UpsampleNearest":
            shape = (*total.shape[:2], attributes["height"], attributes["width"])
            return ops.upsample(total, like=Tensor(shape=shape, dtype=ops.dtype, spatial=True))
        case "FusedConcat":
            return ops.concat_channels(total, ops.given(given["other"]))
    assert work.operator == "FusedAdd", f"{work.operator} has no stock operators here"
    return total


def _geglu(ops: Stock, x: Value, bias: Value) -> Value:
    """By hand, since the target's lowering begins with the product."""
    if x.shape[-1] in cuda.GEGLU_WIDTHS and len(x.shape) == 3:
        return ops.graph.emit("BiasSplitGelu", x, bias)
    left, right = ops.graph.emit_all("Split", ops.graph.emit("Add", x, bias), outputs=(0, 1), axis=-1)
    return ops.graph.emit("Mul", left, ops.graph.emit("Gelu", right))


def _interleaved(ops: Stock, x: Value, bias: Value) -> Value:
    """By hand, since the target does not know phases: they are cut out and put beside each other."""
    batch, tall, wide, channels = (size for size in x.shape if isinstance(size, int))
    height, width, each = tall - 1, wide - 1, channels // 4
    rows = []
    for p in range(2):
        moved = [_part(ops, x, (p, q, (2 * p + q) * each), (height, width, each)) for q in range(2)]
        apart = [ops.graph.reshape(part, (batch, height, 1, width, 1, each)) for part in moved]
        rows.append(ops.graph.emit("Concat", *apart, axis=4))
    joined = ops.graph.emit("Concat", *rows, axis=2)
    return ops.added(ops.graph.reshape(joined, (batch, 2 * height, 2 * width, each)), bias=bias)


def _part(ops: Stock, x: Value, first: tuple[int, ...], sizes: tuple[int, ...]) -> Value:
    """So many rows, columns and channels of a feature map."""
    last = tuple(start + size for start, size in zip(first, sizes, strict=True))
    ranges = [ops.graph.constant(np.array(places, np.int64), "range") for places in (first, last, (1, 2, 3))]
    return ops.graph.emit_shaped("Slice", x, *ranges, dtype=x.dtype, shape=(x.shape[0], *sizes))


def _before_views(value: Value) -> Value:
    """What a value is a view of: within a graph a Reshape is free, but a graph's output would be a copy."""
    node = value.ir.producer()
    while node is not None and node.op_type == "Reshape":
        source = node.inputs[0]
        assert source is not None
        value = Value(*shape_and_type(source), source)
        node = source.producer()
    return value


def _drop_views(graph: ir.Graph) -> None:
    """Take out views that nobody has any more."""
    for node in reversed(list(graph)):
        output = node.outputs[0]
        if node.op_type == "Reshape" and not output.uses() and not output.is_graph_output():
            graph.remove(node, safe=True)
