"""How much arithmetic an authored graph asks for, counted node by node from its fixed shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from onnxsd.errors import ShapeError
from onnxsd.ops.graph import AuthoredGraph

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flops:
    """Floating-point operations by class; a multiplication and its addition are two.

    Norms, activations and additions are left out: memory bounds them, and all together they are below 1 %.
    """

    linear: int = 0
    convolution: int = 0
    attention: int = 0

    @property
    def total(self) -> int:
        """Of all classes."""
        return self.linear + self.convolution + self.attention

    def __add__(self, other: Flops) -> Flops:
        return Flops(
            linear=self.linear + other.linear,
            convolution=self.convolution + other.convolution,
            attention=self.attention + other.attention,
        )


def count(graph: AuthoredGraph) -> Flops:
    """The arithmetic of one run of a graph that was authored with fixed sizes.

    Raises:
        ShapeError: a size of a node that counts is a symbol.
    """
    total = Flops()
    for node in graph.model.graph:
        rule = _RULES.get(node.op_type)
        if rule is not None:
            total += rule(node)
    return total


def _matmul(node: ir.Node) -> Flops:
    (*_, inner), flops = _sizes(node, 0), 2 * prod(_output(node))
    # Weights make a linear layer; a product of two activations is a part of attention.
    if node.inputs[1] is not None and node.inputs[1].is_initializer():
        return Flops(linear=flops * inner)
    return Flops(attention=flops * inner)


def _conv(node: ir.Node) -> Flops:
    _, *taken = _sizes(node, 1)  # (out, in, height, width)
    return Flops(convolution=2 * prod(_output(node)) * prod(taken))


def _multi_head_attention(node: ir.Node) -> Flops:
    batch, queries, width = _sizes(node, 0)
    _, keys, _ = _sizes(node, 1)
    return Flops(attention=4 * batch * queries * keys * width)  # scores, and their product with the values


# NhwcConv's weight is (out, height, width, in): the same product.
_RULES: Mapping[str, Callable[[ir.Node], Flops]] = {
    "MatMul": _matmul,
    "Conv": _conv,
    "NhwcConv": _conv,
    "MultiHeadAttention": _multi_head_attention,
}


def _sizes(node: ir.Node, index: int) -> Sizes:
    return _fixed(node, node.inputs[index])


def _output(node: ir.Node) -> Sizes:
    return _fixed(node, node.outputs[0])


def _fixed(node: ir.Node, value: ir.Value | None) -> Sizes:
    shape = None if value is None else value.shape
    sizes = () if shape is None else tuple(size for size in shape if isinstance(size, int))
    if shape is None or len(sizes) != len(shape):
        raise ShapeError(
            f"{node.name}: an operand of {node.op_type} has the shape {shape}",
            hint="author the graph with a number for every size",
        )
    return sizes
