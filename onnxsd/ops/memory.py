"""How many bytes a graph needs while it runs, before anything is allocated: by how long each value lives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsd.errors import UsageError
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.ops.operators import FROM_IR
from onnxsd.tensors import aligned

# Their output is their first operand's memory under another shape.
VIEWS = frozenset({"Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"})
# Kernels of ONNX Runtime that write over an operand of the same size which nobody needs any more
# (`MayInplace` where each is registered): on CUDA activations alone, on a CPU most elementwise ones. Own
# operators say so themselves (`Operand::over` in native/operator.hpp).
OWN_IN_PLACE = frozenset({"FusedAdd", "FusedGroupNorm", "FusedLayerNorm", "RowSoftmax"})
IN_PLACE_ON_CUDA = frozenset({"Gelu", "QuickGelu", "Sigmoid"}) | OWN_IN_PLACE
IN_PLACE_ON_CPU = IN_PLACE_ON_CUDA | {"Add", "Cast", "Cos", "Erf", "Mul", "Sin", "Softmax", "Sub"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """What a graph's values take, each rounded up to 256 bytes; kernels' workspaces are not in it."""

    # The most that values between inputs and outputs take at any one time.
    activations_bytes: int
    inputs_bytes: int
    outputs_bytes: int
    # Weights and constants.
    weights_bytes: int


@dataclass(slots=True, kw_only=True, eq=False)
class Buffer:
    """Memory that one value takes, or several one after another; `uses` counts those still to come."""

    size_bytes: int
    uses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one node takes before it runs, and what nobody needs after it.

    `unused` nobody needs either, for no node takes it: a kernel's scratch. ONNX Runtime lets go of a value
    after its last use, so of this one at the end of the run.
    """

    taken: tuple[Buffer, ...]
    given_back: tuple[Buffer, ...]
    unused: tuple[Buffer, ...] = ()


def memory_need(graph: AuthoredGraph, *, in_place: frozenset[str] = IN_PLACE_ON_CUDA) -> MemoryNeed:
    """What the graph's inputs, outputs, weights and the values between them take.

    Raises:
        UsageError: a size is symbolic.
    """
    body = graph.model.graph
    return MemoryNeed(
        activations_bytes=activation_bytes(graph, in_place=in_place),
        inputs_bytes=_total_bytes(body.inputs),
        outputs_bytes=_total_bytes(body.outputs),
        weights_bytes=_total_bytes(body.initializers.values()),
    )


def activation_bytes(graph: AuthoredGraph, *, in_place: frozenset[str] = IN_PLACE_ON_CUDA) -> int:
    """The most that values between inputs and outputs take at any one time, nodes run in their order.

    A value lives from its node to its last use. This is the least that any allocator needs; ONNX Runtime's
    own takes more (`arena.arena_bytes`), and follows the nodes' order only with
    `ExecutionOrder.PRIORITY_BASED`.

    Args:
        graph: one with fixed sizes.
        in_place: operators that write over an operand which nobody needs any more.

    Raises:
        UsageError: a size is symbolic.
    """
    live = peak = 0
    for step in steps(graph, in_place):
        live += sum(buffer.size_bytes for buffer in step.taken)
        peak = max(peak, live)
        live -= sum(buffer.size_bytes for buffer in (*step.given_back, *step.unused))
    return peak


def steps(graph: AuthoredGraph, in_place: frozenset[str]) -> Iterator[Step]:
    """What each node takes and gives back, in the nodes' order; inputs, outputs and weights are not there.

    Raises:
        UsageError: a size is symbolic.
    """
    body = graph.model.graph
    outside = {*body.inputs, *body.outputs, *body.initializers.values()}
    buffers: dict[ir.Value, Buffer] = {}
    for node in body:
        taken = []
        # An output that is left out has no name.
        for output in (value for value in node.outputs if value.name and value not in outside):
            shared = _shared(node, output, buffers, in_place)
            if shared is None:
                shared = Buffer(size_bytes=size_bytes(output), uses=0)
                taken.append(shared)
            shared.uses += len(output.uses())
            buffers[output] = shared
        yield Step(
            taken=tuple(taken),
            given_back=tuple(_released(node, buffers)),
            unused=tuple(buffer for buffer in taken if not buffer.uses),
        )


def size_bytes(value: ir.Value) -> int:
    """Bytes of a value, rounded up as allocators do.

    Raises:
        UsageError: its shape or type is not known, or a size is symbolic.
    """
    if value.shape is None or value.dtype is None:
        raise UsageError(f"the memory of {value.name} was asked for, and its shape or type is not known")
    sizes = [size for size in value.shape if isinstance(size, int)]
    if len(sizes) < len(value.shape):
        raise UsageError(
            f"the memory of a graph with symbolic sizes was asked for: {value.name} is {value.shape}",
            hint="author it with a number for each of its sizes",
        )
    return aligned(math.prod(sizes) * FROM_IR[value.dtype].size_bytes)


def _shared(
    node: ir.Node, output: ir.Value, buffers: dict[ir.Value, Buffer], in_place: frozenset[str]
) -> Buffer | None:
    """The buffer of an operand that the output may lie in; None where it takes memory of its own."""
    if node.op_type in VIEWS:
        # A view of an input or a weight takes no memory here either.
        return _held(node.inputs[:1], buffers) or Buffer(size_bytes=0, uses=0)
    if node.op_type not in in_place:
        return None
    for operand in node.inputs:
        buffer = _held([operand], buffers)
        if operand and buffer and buffer.uses == 1 and _alike(operand, output):
            return buffer
    return None


def _alike(operand: ir.Value, output: ir.Value) -> bool:
    """Whether ONNX Runtime lets the one lie over the other: scratch of the same bytes does not."""
    return operand.shape == output.shape and operand.dtype == output.dtype


def _held(operands: Sequence[ir.Value | None], buffers: dict[ir.Value, Buffer]) -> Buffer | None:
    return next((buffers[value] for value in operands if value in buffers), None)


def _released(node: ir.Node, buffers: dict[ir.Value, Buffer]) -> Iterator[Buffer]:
    """Buffers whose last use this node is."""
    for operand in node.inputs:
        buffer = _held([operand], buffers)
        if buffer is not None:
            buffer.uses -= 1
            if not buffer.uses:
                yield buffer


def _total_bytes(values: Iterable[ir.Value]) -> int:
    return sum(map(size_bytes, values))
