"""The distinct calls in a graph: nodes of one operator, one set of attributes, one set of operands."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from onnxsd.ops.graph import IR_VERSION, OPSET, AuthoredGraph
from onnxsd.ops.operators import FROM_IR
from onnxsd.tensors import DType, shape_text


class Kind(enum.Enum):
    """Where an operand comes from, which decides what numbers stand for it."""

    ACTIVATION = "activation"
    # One that a checkpoint calls `….weight`, or anything else.
    WEIGHT = "weight"
    BIAS = "bias"
    # Its content is part of the graph: shapes, masks, scalars.
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """What a node is given in one place; `content` is a constant's hash."""

    shape: tuple[int, ...]
    dtype: DType
    kind: Kind
    content: str = ""

    def __str__(self) -> str:
        return f"{shape_text(self.shape)}{'' if self.kind is Kind.ACTIVATION else f' {self.kind.value}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How an operator is called; two nodes with equal calls do the same work."""

    domain: str
    operator: str
    attributes: tuple[tuple[str, object], ...]
    operands: tuple[Operand | None, ...]
    # Which outputs are taken.
    outputs: tuple[bool, ...]

    def __str__(self) -> str:
        attributes = ", ".join(f"{name}={value}" for name, value in self.attributes)
        operands = ", ".join(str(operand) for operand in self.operands if operand is not None)
        return f"{self.operator}({operands}){f' {{{attributes}}}' if attributes else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A call with the nodes that make it, by `component: name`; the first one stands for all.

    read: the outputs, as `model` calls them, that somebody reads. What nobody reads is a kernel's scratch,
    which may stay unwritten in part.
    """

    call: Call
    node: ir.Node
    nodes: tuple[str, ...]
    read: frozenset[str]

    def model(self, weights: Callable[[int], npt.NDArray[Any]]) -> ir.Model:
        """A model of this one node.

        Inputs and initializers are called `x0`, `x1`, … by their place, outputs `y0`, `y1`, ….

        Args:
            weights: the numbers of the weight or bias in a place.
        """
        values: dict[ir.Value, ir.Value] = {}
        for index, operand in enumerate(self.node.inputs):
            if operand is not None and operand not in values:
                values[operand] = ir.Value(name=f"x{index}", type=operand.type, shape=operand.shape)
                if operand.is_initializer():
                    given = operand.const_value
                    content = weights(index) if given is None else given.numpy()
                    values[operand].const_value = ir.tensor(content, name=f"x{index}")
        outputs = [
            ir.Value(name=f"y{index}" if value.name else "", type=value.type, shape=value.shape)
            for index, value in enumerate(self.node.outputs)
        ]
        node = ir.Node(
            self.node.domain,
            self.node.op_type,
            inputs=[None if operand is None else values[operand] for operand in self.node.inputs],
            attributes=list(self.node.attributes.values()),
            outputs=outputs,
            name=self.node.op_type,
        )
        graph = ir.Graph(
            [made for operand, made in values.items() if not operand.is_initializer()],
            [output for output in outputs if output.name],
            nodes=[node],
            initializers=[made for operand, made in values.items() if operand.is_initializer()],
            name=self.node.op_type,
            opset_imports={"": OPSET, **({self.node.domain: 1} if self.node.domain else {})},
        )
        return ir.Model(graph, ir_version=IR_VERSION)


def distinct(graphs: Iterable[tuple[str, AuthoredGraph]]) -> tuple[Found, ...]:
    """Every distinct call in components' graphs of fixed sizes, in the order of their first nodes."""
    nodes: dict[Call, list[tuple[str, ir.Node]]] = {}
    read: dict[Call, set[str]] = {}
    for component, graph in graphs:
        given = set(graph.model.graph.outputs)
        for node in graph.model.graph:
            call = _call(node)
            nodes.setdefault(call, []).append((f"{component}: {node.name}", node))
            used = [index for index, value in enumerate(node.outputs) if value.uses() or value in given]
            read.setdefault(call, set()).update(f"y{index}" for index in used)
    return tuple(
        Found(call=call, node=made[0][1], nodes=tuple(name for name, _ in made), read=frozenset(read[call]))
        for call, made in nodes.items()
    )


def _call(node: ir.Node) -> Call:
    return Call(
        domain=node.domain,
        operator=node.op_type,
        attributes=tuple(sorted((name, _plain(attribute)) for name, attribute in node.attributes.items())),
        operands=tuple(None if value is None else _operand(value) for value in node.inputs),
        outputs=tuple(bool(value.name) for value in node.outputs),
    )


def _plain(attribute: ir.Attr) -> object:
    value = attribute.value
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _operand(value: ir.Value) -> Operand:
    shape, dtype = shape_and_type(value)
    if not value.is_initializer():
        return Operand(shape=shape, dtype=dtype, kind=Kind.ACTIVATION)
    if value.const_value is not None:
        digest = hashlib.sha256(value.const_value.tobytes()).hexdigest()
        return Operand(shape=shape, dtype=dtype, kind=Kind.CONSTANT, content=digest)
    kind = Kind.WEIGHT if (value.name or "").endswith("weight") else Kind.BIAS
    return Operand(shape=shape, dtype=dtype, kind=kind)


def shape_and_type(value: ir.Value) -> tuple[tuple[int, ...], DType]:
    """A value's fixed shape and its type."""
    assert value.shape is not None, f"{value.name} has no shape"
    assert value.dtype is not None, f"{value.name} has no type"
    sizes = tuple(size for size in value.shape if isinstance(size, int))
    assert len(sizes) == len(value.shape), f"{value.name} has symbolic sizes: {value.shape}"
    return sizes, FROM_IR[value.dtype]
