"""A graph being authored: nodes are emitted with their shapes proved, weights are asked for by name.

onnx-ir holds the nodes, values and attributes and writes the protobuf; what it does not do is prove shapes
behind operators of other domains, so every emission goes through the rules in `operators`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsd.errors import ShapeError
from onnxsd.ops.operators import MICROSOFT, OPERATORS, OWN, TO_IR, Value, refuse
from onnxsd.tensors import Dim, DType, Shape, Size, product, shape_text
from onnxsd.weights.recipe import Recipe

# Opset 17 is the lowest with LayerNormalization; nothing later is needed (GroupNormalization of 18 was
# redefined in 21 and has no CUDA kernel; Attention of 23 is slower on CUDA than MultiHeadAttention).
# IR version 8 is the one that belongs to opset 17.
OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoredGraph:
    """A finished graph without its weights, and the recipes of the weights that it asks for."""

    model: ir.Model
    inputs: tuple[tuple[str, DType, Shape], ...]
    outputs: tuple[tuple[str, DType, Shape], ...]
    recipes: tuple[Recipe, ...]
    lowerings: Mapping[str, Mapping[str, int]]

    def operator_counts(self) -> Counter[str]:
        """How many nodes of each operator type the graph holds."""
        return Counter(node.op_type for node in self.model.graph)


class Graph:
    """Nodes, constants and weights in the order in which they are emitted."""

    def __init__(self, name: str) -> None:
        self._ir = ir.Graph([], [], nodes=[], name=name, opset_imports={"": OPSET})
        self._recipes: dict[str, Recipe] = {}
        self._constants: dict[tuple[Any, ...], Value] = {}
        self._weights: dict[str, Value] = {}
        self._axes: dict[Dim, tuple[Value, int]] = {}
        self._sizes: dict[Dim, Value] = {}
        self._shapes: dict[Shape, Value] = {}
        self._inputs: list[Value] = []
        self._outputs: list[Value] = []
        self._scope = ""

    def within(self, scope: str) -> None:
        """Name the nodes that follow after the part of the model that they belong to."""
        self._scope = scope

    @property
    def scope(self) -> str:
        """The part of the model that nodes are named after now."""
        return self._scope

    def input(self, name: str, dtype: DType, shape: Shape) -> Value:
        """A new input of the graph."""
        value = self._value(name, dtype, shape)
        self._ir.inputs.append(value.ir)
        self._inputs.append(value)
        return value

    def output(self, name: str, value: Value) -> None:
        """Make a value an output called `name`; a value may be an output only once."""
        if value.ir.is_graph_output() or value.ir.is_graph_input():
            raise ShapeError(
                f"{value} is an input or output of the graph already, and cannot be called {name}"
            )
        value.ir.name = name
        self._ir.outputs.append(value.ir)
        self._outputs.append(value)

    def emit(self, operator: str, *operands: Value | None, **attributes: Any) -> Value:
        """Append a node and return its first output; its shape and type follow from the operator's rule."""
        return self.emit_all(operator, *operands, outputs=(0,), **attributes)[0]

    def emit_all(
        self, operator: str, *operands: Value | None, outputs: Sequence[int], **attributes: Any
    ) -> tuple[Value, ...]:
        """Append a node and return the outputs with the given indices; those between them are left out.

        But not those that the operator always has: they are there, and nobody takes them.
        """
        found = OPERATORS[operator]
        try:
            specs = found.rule(operands, attributes)
        except ShapeError as error:
            raise ShapeError(f"{self._scope or self._ir.name}: {operator}: {error.message}") from error
        named = {*outputs, *range(found.kept)}
        values = [
            self._value(self._fresh(operator, index) if index in named else "", dtype, shape)
            for index, (shape, dtype) in enumerate(specs[: max(named) + 1])
        ]
        self._append(operator, found.domain, operands, values, attributes)
        return tuple(values[index] for index in outputs)

    def emit_shaped(
        self, operator: str, *operands: Value, dtype: DType, shape: Shape, **attributes: Any
    ) -> Value:
        """Append a standard node whose output shape is an operand's content (Reshape, Expand, Slice, Resize).

        The caller has proved the shape.
        """
        value = self._value(self._fresh(operator, 0), dtype, shape)
        self._append(operator, "", operands, [value], attributes)
        return value

    def constant(self, array: npt.NDArray[Any], name: str) -> Value:
        """A constant, stored in the graph as an initializer, once for equal contents."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            unique = f"constant.{name}.{len(self._constants)}"
            tensor = ir.Tensor(array, name=unique)
            value = self._value(unique, _dtype_of(array), array.shape)
            value.ir.const_value = tensor
            self._ir.initializers[unique] = value.ir
            self._constants[key] = value
        return self._constants[key]

    def weight(self, recipe: Recipe) -> Value:
        """The initializer that `recipe` makes; the same name must always have the same recipe."""
        known = self._recipes.setdefault(recipe.name, recipe)
        if known != recipe:
            raise ShapeError(f"{recipe.name} is asked for in two ways: {known} and {recipe}")
        if recipe.name not in self._weights:
            value = self._value(recipe.name, recipe.dtype, recipe.shape)
            self._ir.initializers[recipe.name] = value.ir
            self._weights[recipe.name] = value
        return self._weights[recipe.name]

    def reshape(self, x: Value, shape: Shape) -> Value:
        """`x` with its elements in the same order in another shape."""
        if product(x.shape) != product(shape):
            raise refuse(f"{self._scope}: cannot be reshaped to {shape_text(shape)}", x)
        if x.shape == shape:
            return x
        return self.emit_shaped(
            "Reshape", x, self._reshape_target(x.shape, shape), dtype=x.dtype, shape=shape
        )

    def expand(self, x: Value, shape: Shape) -> Value:
        """`x` with its axes of size 1 repeated to `shape`."""
        if len(x.shape) != len(shape) or any(a not in (1, b) for a, b in zip(x.shape, shape, strict=True)):
            raise refuse(f"{self._scope}: cannot be expanded to {shape_text(shape)}", x)
        if x.shape == shape:
            return x
        return self.emit_shaped("Expand", x, self.shape_vector(shape), dtype=x.dtype, shape=shape)

    def crop(self, x: Value, shape: Shape, *, along: tuple[int, ...]) -> Value:
        """The leading part of `x` that has `shape`, which is not larger and differs along some axes only."""
        axes = [axis for axis, (old, new) in enumerate(zip(x.shape, shape, strict=False)) if new != old]
        longer = [axis for axis in axes if _is_longer(shape[axis], x.shape[axis])]
        if len(x.shape) != len(shape) or longer or not set(axes) <= set(along):
            raise refuse(f"{self._scope}: cannot be cropped to {shape_text(shape)} along axes {along}", x)
        if not axes:
            return x
        starts = self.constant(np.zeros(len(axes), np.int64), "starts")
        ends = self.shape_vector(tuple(shape[axis] for axis in axes))
        taken = self.constant(np.array(axes, np.int64), "axes")
        return self.emit_shaped("Slice", x, starts, ends, taken, dtype=x.dtype, shape=shape)

    def shape_vector(self, shape: Shape) -> Value:
        """The int64 vector that holds `shape`: a constant, or computed from values that have those sizes."""
        if all(isinstance(size, int) for size in shape):
            return self.constant(np.array(shape, np.int64), "shape")
        if shape not in self._shapes:
            sizes = [self._size(size) for size in shape]
            self._shapes[shape] = sizes[0] if len(sizes) == 1 else self.emit("Concat", *sizes, axis=0)
        return self._shapes[shape]

    def finish(self, lowerings: Mapping[str, Mapping[str, int]]) -> AuthoredGraph:
        """The finished graph with the operator sets that it uses, without outputs that nobody took."""
        for node in self._ir:
            _drop_unused_outputs(node)
        for domain in (MICROSOFT, OWN):
            if any(node.domain == domain for node in self._ir):
                self._ir.opset_imports[domain] = 1
        return AuthoredGraph(
            model=ir.Model(self._ir, ir_version=IR_VERSION, producer_name="onnxsd"),
            inputs=tuple(_spec(value) for value in self._inputs),
            outputs=tuple(_spec(value) for value in self._outputs),
            recipes=tuple(self._recipes.values()),
            lowerings=lowerings,
        )

    def _size(self, size: Dim) -> Value:
        """A vector of one element that holds `size`."""
        if isinstance(size, int):
            return self.constant(np.array([size], np.int64), "size")
        if size not in self._sizes:
            self._sizes[size] = self._measure(size)
        return self._sizes[size]

    def _measure(self, size: Size) -> Value:
        """`size` read off a value that has it as an axis, else computed from those that have its parts."""
        if size in self._axes:
            value, axis = self._axes[size]
            return self.emit_shaped("Shape", value, dtype=DType.INT64, shape=(1,), start=axis, end=axis + 1)
        parts = [(Size(((atoms, 1),)), factor) for atoms, factor in size.terms if atoms]
        if not parts or any(part == size for part, _ in parts):
            raise ShapeError(f"{self._scope}: no value has an axis of size {size}")
        terms = [self.emit("Mul", self._size(part), self._size(factor)) for part, factor in parts]
        constant = dict(size.terms).get((), 0)
        if constant:
            terms.append(self._size(constant))
        return reduce(lambda total, term: self.emit("Add", total, term), terms)

    def _reshape_target(self, old: Shape, new: Shape) -> Value:
        """0 copies a size, −1 takes the rest; only where that does not suffice are sizes computed."""
        unknown = [
            axis
            for axis, size in enumerate(new)
            if not isinstance(size, int) and not (axis < len(old) and old[axis] == size)
        ]
        if len(unknown) > 1:
            return self.shape_vector(new)
        target = [
            size if isinstance(size, int) else (-1 if axis in unknown else 0) for axis, size in enumerate(new)
        ]
        return self.constant(np.array(target, np.int64), "shape")

    def _value(self, name: str, dtype: DType, shape: Shape) -> Value:
        sizes = [size if isinstance(size, int) else ir.SymbolicDim(str(size)) for size in shape]
        value = Value(
            shape, dtype, ir.Value(name=name, type=ir.TensorType(TO_IR[dtype]), shape=ir.Shape(sizes))
        )
        if name:
            for axis, size in enumerate(shape):
                if isinstance(size, int):
                    continue
                self._axes.setdefault(size, (value, axis))
        return value

    def _fresh(self, operator: str, index: int) -> str:
        suffix = f".{index}" if index else ""
        return f"{self._scope}/{operator}.{len(self._ir)}{suffix}"

    def _append(
        self,
        operator: str,
        domain: str,
        operands: Sequence[Value | None],
        values: Sequence[Value],
        attributes: Mapping[str, Any],
    ) -> None:
        self._ir.append(
            ir.Node(
                domain,
                operator,
                inputs=[None if value is None else value.ir for value in operands],
                attributes=[ir.convenience.convert_attribute(k, v) for k, v in attributes.items()],
                outputs=[value.ir for value in values],
                name=values[0].ir.name,
            )
        )


def _drop_unused_outputs(node: ir.Node) -> None:
    """Let an optional last output go (the sum beside a norm) where no node and no graph output takes it."""
    known = OPERATORS.get(node.op_type)
    kept = 1 if known is None else known.kept
    while len(node.outputs) > kept and not node.outputs[-1].uses() and not node.outputs[-1].is_graph_output():
        node.resize_outputs(len(node.outputs) - 1)


def _is_longer(new: Dim, old: Dim) -> bool:
    return isinstance(new, int) and isinstance(old, int) and new > old


def _spec(value: Value) -> tuple[str, DType, Shape]:
    return value.ir.name or "", value.dtype, value.shape


def _dtype_of(array: npt.NDArray[Any]) -> DType:
    return next(dtype for dtype in DType if dtype.numpy_name == array.dtype.name)
