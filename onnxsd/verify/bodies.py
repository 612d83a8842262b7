"""A graph made to run on any CPU and to mean what it means on a GPU, by functions of standard operators.

Operators of `com.microsoft` and of this project get bodies, whether the CPU has kernels for them or not. In
float16 so do standard operators that compute: the CPU has no float16 kernels and computes in float32, and
between two of its nodes ONNX Runtime does not round at all, so that an overflow which a GPU makes would go
unseen.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsd.errors import BadInputError
from onnxsd.ops.graph import OPSET
from onnxsd.ops.operators import MICROSOFT, OWN
from onnxsd.verify.contrib import OPERATORS, Body, Call, Inputs

DOMAIN = "onnxsd.reference"
# Domains whose operators are functions here.
FUSED = frozenset({MICROSOFT, OWN})
# Operators that keep numbers as they are; what is not listed is taken to compute.
MOVES = {
    "Cast", "Concat", "Constant", "Expand", "Flatten", "Gather", "GatherND", "Identity", "Pad", "Reshape",
    "Resize", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip


def with_reference_bodies(model: ir.Model, *, fused: frozenset[str] = FUSED) -> ir.Model:
    """A copy of `model` whose fused and float16 nodes call functions of standard operators.

    Each function does what the operator's documentation says, in float32, and rounds what it gives back to
    the node's type. Weights are shared with `model`.

    Args:
        model: stays as it is.
        fused: the domains whose operators get bodies; those of others run by kernels of the session.

    Raises:
        BadInputError: an operator, an attribute or an input has no body here, or a type or rank is not known.
    """
    found = model.opset_imports.get("")
    if found != OPSET:
        raise BadInputError(f"the operators' bodies are written for opset {OPSET}, the model has {found}")
    copy = model.clone()
    functions: dict[Call, ir.Function] = {}
    for node in copy.graph:
        if node.domain not in fused and not _rounds(node):
            continue
        call = _call(node)
        if call not in functions:
            functions[call] = _function(call, f"{call.operator}_{len(functions)}")
        node.domain, node.op_type = DOMAIN, functions[call].name
        node.attributes.clear()
    for function in functions.values():
        copy.functions[function.identifier()] = function
    for domain in fused:
        copy.opset_imports.pop(domain, None)
    if functions:
        copy.opset_imports[DOMAIN] = 1
    return copy


def _rounds(node: ir.Node) -> bool:
    """Whether a standard node computes float16 numbers."""
    half = any(value.dtype is ir.DataType.FLOAT16 for value in node.outputs)
    return half and node.domain == "" and node.op_type not in MOVES


def _call(node: ir.Node) -> Call:
    """How the node calls its operator, once the operator's body is known to cover it."""
    if node.domain in FUSED:
        _require_body(node)
    return Call(
        domain=node.domain,
        operator=node.op_type,
        attributes=tuple(sorted((name, _plain(attr)) for name, attr in node.attributes.items())),
        dtype=_dtype(node),
        ranks=tuple(None if value is None else _rank(node, value) for value in node.inputs),
        outputs=len(node.outputs),
    )


def _require_body(node: ir.Node) -> None:
    """Refuse a node that says more than the body of its operator knows."""
    known = OPERATORS.get(node.op_type)
    if known is None:
        raise BadInputError(f"{node.name}: no body is written for {node.domain} {node.op_type}")
    least, most = known.inputs
    if not least <= len(node.inputs) <= most or None in node.inputs[:least]:
        raise BadInputError(
            f"{node.name}: no body is written for {node.op_type} with {len(node.inputs)} inputs,"
            f" but for {least} to {most}"
        )
    unknown = sorted(set(node.attributes) - known.attributes)
    if unknown:
        raise BadInputError(f"{node.name}: no body is written for {node.op_type} with {', '.join(unknown)}")


def _plain(attribute: ir.Attr) -> object:
    value = attribute.value
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _dtype(node: ir.Node) -> ir.DataType:
    first = node.inputs[0]
    if first is None or first.dtype is None:
        raise BadInputError(f"{node.name}: the type of its first input is not known")
    return first.dtype


def _rank(node: ir.Node, value: ir.Value) -> int:
    if value.shape is None:
        raise BadInputError(f"{node.name}: the shape of its input {value.name} is not known")
    return value.shape.rank()


def _function(call: Call, name: str) -> ir.Function:
    body = Body(call)
    # An input that is left out still has its place.
    places = [ir.Value(name=f"input_{index}") for index in range(len(call.ranks))]
    inputs = tuple(None if rank is None else place for rank, place in zip(call.ranks, places, strict=True))
    rule = OPERATORS[call.operator].rule if call.domain in FUSED else _widened
    graph = ir.Graph(places, rule(body, inputs)[: call.outputs], nodes=body.nodes, opset_imports={"": OPSET})
    return ir.Function(DOMAIN, name, graph=graph, attributes=())


def _widened(body: Body, inputs: Inputs) -> tuple[ir.Value, ...]:
    """A standard operator, computed in float32."""
    operands = [None if value is None else body.widened(value) for value in inputs]
    call = body.call
    return (body.stored(body.emit(call.operator, *operands, **dict(call.attributes))),)
