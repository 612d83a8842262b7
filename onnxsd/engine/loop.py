"""The denoising loop on a GPU: the conditions once, then one captured graph for each call of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.engine.bound import Bound
from onnxsd.engine.gpu import Gpu
from onnxsd.engine.step_graph import LoopShape, author_loop
from onnxsd.engine.work import Denoising, OnStep
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.samplers import Table
from onnxsd.session import Session, to_host

Array = npt.NDArray[Any]
MakeSession = Callable[[AuthoredGraph], Session]
# Tables have room for a power of two of calls, so that another number of steps mostly finds its graph.
FEWEST_CALLS = 32


def loop_shape(work: Denoising) -> LoopShape:
    """What the graphs of this work depend on."""
    images, channels, height, width = work.latents.shape
    return LoopShape(
        images=images,
        channels=channels,
        height=height,
        width=width,
        sequence=int(work.conditional.hidden_states.shape[1]),
        calls=max(FEWEST_CALLS, 1 << (len(work.table) - 1).bit_length()),
        kept=work.table.kept,
        guided=work.unconditional is not None,
        noisy=work.noise is not None,
    )


def loop_for(gpu: Gpu, shape: LoopShape) -> Loop:
    """The loop of a shape; on first use authored, its sessions made over the weights, its step captured."""
    manifest = gpu.folder.manifest
    denoiser = manifest.latent.denoiser

    def author() -> Sequence[AuthoredGraph]:
        graphs = author_loop(gpu.folder.blueprint(denoiser), gpu.target, manifest.precision, shape)
        return graphs.step, graphs.conditions

    def make(graph: AuthoredGraph) -> Session:
        return gpu.session(denoiser, graph)

    return gpu.resident(shape, denoiser, author, lambda graphs: Loop(make, graphs, shape))


def denoise_on_gpu(gpu: Gpu, work: Denoising, on_step: OnStep) -> Array:
    """The clean latents, float32 (B, C, H, W)."""
    loop = loop_for(gpu, loop_shape(work))
    loop.prepare(work)
    calls = len(work.table)
    for index in range(calls):
        loop.advance()
        on_step(index + 1, calls)
    return loop.latents()


class Loop:
    """Two sessions of one denoiser, and the buffers between them."""

    def __init__(self, make: MakeSession, graphs: Sequence[AuthoredGraph], shape: LoopShape) -> None:
        """The sessions are made now, and run once.

        Args:
            make: the session of a graph.
            graphs: the step's, then that of the conditions.
        """
        step, before = graphs
        self.shape = shape
        self._step = Bound(
            make(step),
            aliases={"next_state": "state", "next_step": "step"},
        )
        conditions = make(before)
        prepared = {spec.name: self._step.inputs[spec.name] for spec in conditions.outputs}
        self._conditions = Bound(conditions, places=prepared)
        self._conditions.warm_up()
        self._step.warm_up()

    def prepare(self, work: Denoising) -> None:
        """Compute what no step changes, and put the first latent in place."""
        self._set_conditions(work)
        self._conditions.run()
        self._set_tables(work)
        self._set_state(work.table, work.latents)

    def advance(self) -> None:
        """One call of the denoiser and one row of the sampler's table."""
        self._step.run()

    def latents(self) -> Array:
        """The latent as it is now, float32 (B, C, H, W)."""
        return np.asarray(to_host(self._step.inputs["state"])[0])

    def _set_conditions(self, work: Denoising) -> None:
        """Every input has a row for each call and each of the denoiser's rows, but the text one a row."""
        calls, rows = self.shape.calls, self.shape.rows
        timesteps = np.zeros(calls, np.float32)
        timesteps[: len(work.table)] = work.table.timesteps
        self._conditions.set("timestep", np.repeat(timesteps, rows))
        for name, value in work.conditions.feeds().items():
            of_text = name == "encoder_hidden_states"
            self._conditions.set(name, value if of_text else np.tile(value, (calls, 1)))

    def _set_tables(self, work: Denoising) -> None:
        table, calls = work.table, len(work.table)
        coefficients = np.zeros(self._step.inputs["coefficients"].shape, np.float32)
        coefficients[:calls] = table.steps.transpose(0, 2, 1)
        scales = np.ones((self.shape.calls, 1), np.float32)
        scales[:calls, 0] = table.input_scale
        self._step.set("coefficients", coefficients)
        self._step.set("input_scale", scales)
        if self.shape.guided:
            self._step.set("guidance", np.array([work.guidance_scale], np.float32))
        if work.noise is not None:
            noise = np.zeros(self._step.inputs["noise"].shape, np.float32)
            noise[:calls] = work.noise
            self._step.set("noise", noise)

    def _set_state(self, table: Table, latents: Array) -> None:
        state = np.zeros(self._step.inputs["state"].shape, np.float32)
        state[0] = latents.astype(np.float32) * np.float32(table.initial_scale)
        self._step.set("state", state)
        self._step.set("step", np.zeros(1, np.int64))
