"""One step of the loop as one graph: scaled input, guidance's two halves, denoiser, guidance, sampler's row.

The state lies on the device and is updated in place, and the graph counts its own steps, so a captured step
is replayed without anything from the host. The arithmetic is the host loop's (`samplers.table.run`), in the
same order and in float32, so that the same denoiser output gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxsd.errors import ConfigurationError
from onnxsd.models.components import Blueprint, Stepwise
from onnxsd.models.conditioning import Prepared, Projections
from onnxsd.ops import Ops, Target, Tensor, ops_for
from onnxsd.ops.graph import AuthoredGraph, Graph
from onnxsd.ops.operators import Value
from onnxsd.tensors import DType


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopShape:
    """Everything that the graphs of a loop depend on besides model, target and precision.

    calls is the room that the tables have: a loop may make fewer. kept is the sampler table's K; noisy says
    whether its steps draw noise.
    """

    images: int
    channels: int
    height: int
    width: int
    sequence: int
    calls: int
    kept: int
    guided: bool
    noisy: bool

    @property
    def latent(self) -> tuple[int, int, int, int]:
        """(B, C, H, W) of the latent."""
        return (self.images, self.channels, self.height, self.width)

    @property
    def rows(self) -> int:
        """The denoiser's batch: with guidance each image has an unconditional row before it."""
        return self.images * (2 if self.guided else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopGraphs:
    """`conditions` runs once for a prompt and schedule, `step` once a call.

    Inputs of `step`: `step` (1,) int64; in float32 `state` (K+1, B, C, H, W), the latent first;
    `coefficients` (calls, K+3, K+1); `input_scale` (calls, 1); with guidance `guidance` (1,); where noise is
    drawn `noise` (calls, B, C, H, W); and the outputs of `conditions` by their names.
    Outputs of `step`: `next_step` and `next_state`, which may lie where `step` and `state` do.
    """

    step: AuthoredGraph
    conditions: AuthoredGraph


def author_loop(blueprint: Blueprint, target: Target, dtype: DType, shape: LoopShape) -> LoopGraphs:
    """The two graphs of a loop over one denoiser."""
    stepwise = blueprint.component.stepwise
    if stepwise is None:
        raise ConfigurationError(f"{blueprint.component.name} is not a denoiser that a loop can call")
    ops = ops_for(target, f"{blueprint.component.name} step", dtype)
    wanted = _author_step(ops, blueprint, stepwise, shape)
    before = ops_for(target, f"{blueprint.component.name} conditions", dtype)
    sizes = {"calls": shape.calls, "batch": shape.rows, "sequence": shape.sequence}
    stepwise.conditions(before, blueprint, wanted, sizes)
    return LoopGraphs(step=ops.finish(), conditions=before.finish())


def _author_step(ops: Ops, blueprint: Blueprint, stepwise: Stepwise, shape: LoopShape) -> Projections:
    graph = ops.graph
    counter = graph.input("step", DType.INT64, (1,))
    # The only reader of the counter: its place is written again before the run ends.
    step = ops.tensor(graph.emit("Add", counter, graph.constant(np.zeros(1, np.int64), "zero")))
    state = graph.input("state", DType.FLOAT32, (shape.kept + 1, *shape.latent))
    held = [_entry(graph, state, index) for index in range(shape.kept + 1)]
    sample = _sample(ops, held[0], step, shape)
    prepared = Prepared(ops=ops, step=step, calls=shape.calls, batch=shape.rows, sequence=shape.sequence)
    output = ops.nchw(stepwise.body(ops, blueprint, sample, prepared))
    operands = [*held, _guided(ops, output, shape)]
    if shape.noisy:
        noise = ops.input("noise", (shape.calls, *shape.latent), dtype=DType.FLOAT32)
        operands.append(ops.value(ops.entry(noise, step)))
    graph.within("sampler")
    graph.output("next_state", _combined(ops, operands, step, shape))
    one = graph.constant(np.ones(1, np.int64), "one")
    graph.output("next_step", graph.emit("Add", ops.value(step), one))
    return prepared.asked()


def _entry(graph: Graph, stacked: Value, index: int) -> Value:
    """One entry of the first axis; a single one is a view."""
    if stacked.shape[0] == 1:
        return graph.reshape(stacked, stacked.shape[1:])
    taken = graph.emit("Gather", stacked, graph.constant(np.array([index], np.int64), "index"), axis=0)
    return graph.reshape(taken, stacked.shape[1:])


def _sample(ops: Ops, latent: Value, step: Tensor, shape: LoopShape) -> Tensor:
    """What the denoiser sees: the latent times this step's scale, once more for the unconditional rows."""
    graph = ops.graph
    scales = ops.input("input_scale", (shape.calls, 1), dtype=DType.FLOAT32)
    scaled = graph.emit("Mul", latent, ops.value(ops.entry(scales, step)))
    narrow = ops.cast(scaled, ops.dtype)
    return ops.spatial(graph.emit("Concat", narrow, narrow, axis=0) if shape.guided else narrow)


def _guided(ops: Ops, output: Value, shape: LoopShape) -> Value:
    """Classifier-free guidance (Ho and Salimans 2022) in float32: u + g·(c − u), unconditional rows first."""
    graph = ops.graph
    graph.within("guidance")
    wide = ops.cast(output, DType.FLOAT32)
    if not shape.guided:
        return wide
    halves = graph.reshape(wide, (2, *shape.latent))
    unconditional, conditional = (_entry(graph, halves, index) for index in (0, 1))
    difference = graph.emit("Sub", conditional, unconditional)
    guidance = graph.input("guidance", DType.FLOAT32, (1,))
    return graph.emit("Add", unconditional, graph.emit("Mul", difference, guidance))


def _combined(ops: Ops, operands: list[Value], step: Tensor, shape: LoopShape) -> Value:
    """Σ cⱼ·xⱼ for the latent and every kept tensor at once: (K+1, B, C, H, W).

    The last addition alone writes the state, and it reads no more of the old one: every other node that does
    comes before it. So the result may lie in the same memory.
    """
    graph, new = ops.graph, shape.kept + 1
    table = ops.input("coefficients", (shape.calls, shape.kept + 3, new), dtype=DType.FLOAT32)
    columns = graph.reshape(ops.value(ops.entry(table, step)), (shape.kept + 3, new, 1, 1, 1, 1))
    terms = [
        graph.emit("Mul", _entry(graph, columns, index), graph.reshape(operand, (1, *shape.latent)))
        for index, operand in enumerate(operands)
    ]
    total = terms[0]
    for term in terms[1:]:
        total = graph.emit("Add", total, term)
    return total
