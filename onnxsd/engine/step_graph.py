"""What happens between two calls of the denoiser, as a small graph, so that the latent stays on the device.

It combines the guided output, applies one step of the sampler's table and makes the denoiser's next input.
The tables lie on the device and the step counts itself, so nothing is uploaded inside the loop.
"""

from __future__ import annotations

import numpy as np

from onnxsd.ops.graph import AuthoredGraph, Graph
from onnxsd.ops.operators import TO_IR, Value
from onnxsd.tensors import DType, Shape


def author_step(
    *, latent: tuple[int, int, int, int], kept: int, calls: int, noise_rows: int, guided: bool, dtype: DType
) -> AuthoredGraph:
    """The graph of one step.

    Inputs, on the device: `step` (1,) int64; `state.0` (the latent) to `state.K`, float32 `latent` shape;
    `output`, the denoiser's, (B or 2B, C, H, W) in `dtype`, unconditional rows first; `guidance` (1,);
    `steps` (calls, (K+1)·(K+3)); `input_scale`, `timesteps` (calls + 1,); `noise` (noise_rows, B, C, H, W).
    Outputs: `next_step`, `next_state.0…K`, `sample` in `dtype`, `timestep` () float32.

    Args:
        latent: (B, C, H, W).
        kept: the table's K.
        calls: the table's length.
        noise_rows: how many noises there are, one a call; 0 where the sampler draws none.
        guided: whether the denoiser's output has unconditional and conditional rows.
        dtype: the denoiser's type.
    """
    graph = Graph("step")
    columns = kept + 3
    step = graph.input("step", DType.INT64, (1,))
    state = [graph.input(f"state.{index}", DType.FLOAT32, latent) for index in range(kept + 1)]
    output = _output(graph, latent, guided, dtype)
    steps = graph.input("steps", DType.FLOAT32, (calls, (kept + 1) * columns))
    scales = graph.input("input_scale", DType.FLOAT32, (calls + 1,))
    times = graph.input("timesteps", DType.FLOAT32, (calls + 1,))
    operands = [*state, output]
    if noise_rows:
        noise = graph.input("noise", DType.FLOAT32, (noise_rows, *latent))
        operands.append(graph.reshape(graph.emit("Gather", noise, step, axis=0), latent))
    row = graph.reshape(graph.emit("Gather", steps, step, axis=0), ((kept + 1) * columns,))
    new = [_combined(graph, row, operands, index * columns) for index in range(kept + 1)]
    following = graph.emit("Add", step, graph.constant(np.array([1], np.int64), "one"))
    scale = graph.reshape(graph.emit("Gather", scales, following, axis=0), (1, 1, 1, 1))
    graph.output("sample", _next_sample(graph, graph.emit("Mul", new[0], scale), guided, dtype))
    graph.output("timestep", graph.reshape(graph.emit("Gather", times, following, axis=0), ()))
    graph.output("next_step", following)
    for index, value in enumerate(new):
        graph.output(f"next_state.{index}", value)
    return graph.finish({})


def _output(graph: Graph, latent: Shape, guided: bool, dtype: DType) -> Value:
    """The denoiser's output as float32, guided where there are two halves: u + g·(c − u)."""
    batch = latent[0]
    output = graph.input("output", dtype, ((2 if guided else 1) * batch, *latent[1:]))
    wide = _cast(graph, output, DType.FLOAT32)
    if not guided:
        return wide
    guidance = graph.reshape(graph.input("guidance", DType.FLOAT32, (1,)), (1, 1, 1, 1))
    # Halves of the first axis, by viewing both as one row each.
    flat = graph.reshape(wide, (2, *latent))
    halves = [
        graph.reshape(
            graph.emit("Gather", flat, graph.constant(np.array([i], np.int64), "half"), axis=0), latent
        )
        for i in (0, 1)
    ]
    difference = graph.emit("Sub", halves[1], halves[0])
    return graph.emit("Add", halves[0], graph.emit("Mul", guidance, difference))


def _combined(graph: Graph, row: Value, operands: list[Value], start: int) -> Value:
    """Σ cᵢ·xᵢ with the coefficients from `start` on."""
    terms = []
    for offset, operand in enumerate(operands):
        index = graph.constant(np.array([start + offset], np.int64), "column")
        coefficient = graph.reshape(graph.emit("Gather", row, index, axis=0), (1, 1, 1, 1))
        terms.append(graph.emit("Mul", operand, coefficient))
    total = terms[0]
    for term in terms[1:]:
        total = graph.emit("Add", total, term)
    return total


def _next_sample(graph: Graph, scaled: Value, guided: bool, dtype: DType) -> Value:
    narrow = _cast(graph, scaled, dtype)
    return graph.emit("Concat", narrow, narrow, axis=0) if guided else narrow


def _cast(graph: Graph, value: Value, dtype: DType) -> Value:
    return value if value.dtype is dtype else graph.emit("Cast", value, to=TO_IR[dtype])
