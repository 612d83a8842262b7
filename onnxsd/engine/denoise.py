"""The denoising loop: on the host over any session, or on the device with the latent never leaving it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.engine.conditions import Conditions
from onnxsd.engine.engine import Engine
from onnxsd.engine.step_graph import author_step
from onnxsd.samplers import Table, run
from onnxsd.session import (
    Binding,
    DeviceArray,
    Optimization,
    Session,
    SessionSettings,
    to_device,
    to_host,
    update,
)

Array = npt.NDArray[Any]
OnStep = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoising:
    """One run of the loop.

    latents: unit-variance noise (B, C, H, W), float32. noise: one draw of that shape for each call of the
    table, (calls, B, C, H, W), where the sampler needs noise. unconditional: None without guidance.
    """

    table: Table
    latents: Array
    conditional: Conditions
    unconditional: Conditions | None
    guidance_scale: float
    noise: Array | None

    @property
    def conditions(self) -> Conditions:
        """The rows that the denoiser is called with: unconditional first, as diffusers has them."""
        return self.conditional if self.unconditional is None else self.unconditional.beside(self.conditional)

    @property
    def rows(self) -> int:
        """How many rows a call has."""
        return int(self.conditions.hidden_states.shape[0])


def denoise(engine: Engine, work: Denoising, on_step: OnStep = lambda step, steps: None) -> Array:
    """The clean latents, float32 (B, C, H, W); `on_step` is told (calls done, calls in all) after each."""
    return (_on_device if engine.on_cuda else _on_host)(engine, work, on_step)


def _sizes(work: Denoising) -> dict[str, int]:
    _, _, height, width = work.latents.shape
    length = int(work.conditions.hidden_states.shape[1])
    return {"batch": work.rows, "height": height, "width": width, "sequence": length}


def _on_host(engine: Engine, work: Denoising, on_step: OnStep) -> Array:
    session = engine.session(engine.folder.manifest.latent.denoiser, _sizes(work))
    types = {spec.name: spec.dtype for spec in session.inputs}
    feeds = {name: value.astype(types[name]) for name, value in work.conditions.feeds().items()}
    calls = len(work.table)

    def call(scaled: Array, timestep: float) -> Array:
        guided = work.unconditional is not None
        sample = np.concatenate([scaled, scaled]) if guided else scaled
        outputs = session.run(
            {
                **feeds,
                "sample": sample.astype(types["sample"]),
                "timestep": np.array(timestep, types["timestep"]),
            }
        )
        output: Array = outputs["out_sample"].astype(np.float32)
        return _guided(output, work.guidance_scale) if guided else output

    return run(
        work.table,
        call,
        work.latents,
        noise=None if work.noise is None else lambda index: work.noise[index],  # type: ignore[index]
        on_step=lambda index, _: on_step(index + 1, calls),
    )


def _guided(output: Array, guidance_scale: float) -> Array:
    """Classifier-free guidance (Ho and Salimans 2022): u + g·(c − u), unconditional rows first."""
    unconditional, conditional = np.split(output, 2)
    return np.asarray(unconditional + np.float32(guidance_scale) * (conditional - unconditional))


def _on_device(engine: Engine, work: Denoising, on_step: OnStep) -> Array:
    """Two bound sessions in turn, the denoiser and the step; the state lives in two sets of buffers."""
    loop = _DeviceLoop(engine, work)
    for index in range(len(work.table)):
        loop.advance(index)
        on_step(index + 1, len(work.table))
    return loop.latents(len(work.table))


class _DeviceLoop:
    """The buffers and bindings of one run on a GPU."""

    def __init__(self, engine: Engine, work: Denoising) -> None:
        self._place = (engine.choice.provider, engine.choice.device_id)
        self._work = work
        self._denoiser = engine.bound(engine.folder.manifest.latent.denoiser, _sizes(work))
        self._denoiser.set("sample", self._first_sample())
        self._denoiser.set("timestep", np.array(work.table.timesteps[0]))
        for name, value in work.conditions.feeds().items():
            self._denoiser.set(name, value)
        self._states = self._state_buffers()
        self._steps = self._step_bindings(engine, self._tables())

    def advance(self, index: int) -> None:
        """One call of the denoiser and one step; even steps read the first set of buffers."""
        # The sessions have a stream each: the step must not start before the denoiser has finished.
        self._denoiser.run()
        self._steps[index % 2].run()

    def latents(self, calls: int) -> Array:
        """The latent after so many calls."""
        return to_host(self._states[calls % 2]["state.0"])

    def _first_sample(self) -> Array:
        table = self._work.table
        scaled = self._work.latents * np.float32(table.initial_scale) * np.float32(table.input_scale[0])
        return np.concatenate([scaled, scaled]) if self._work.unconditional is not None else scaled

    def _state_buffers(self) -> tuple[dict[str, DeviceArray], dict[str, DeviceArray]]:
        table = self._work.table
        first = self._work.latents * np.float32(table.initial_scale)
        names = [f"state.{index}" for index in range(table.kept + 1)]

        def buffers() -> dict[str, DeviceArray]:
            made = {name: self._upload(np.zeros_like(first)) for name in names}
            return {**made, "step": self._upload(np.zeros(1, np.int64))}

        read, written = buffers(), buffers()
        update(read["state.0"], first)
        return read, written

    def _tables(self) -> dict[str, DeviceArray]:
        table, work = self._work.table, self._work
        columns = table.kept + 3
        used = table.steps if work.noise is not None else table.steps[:, :, :-1]
        padded = np.zeros((len(table), table.kept + 1, columns))
        padded[:, :, : used.shape[2]] = used
        tables = {
            "steps": padded.reshape(len(table), -1),
            # One entry more: what the last step would prepare is not used.
            "input_scale": np.append(table.input_scale, 1.0),
            "timesteps": np.append(table.timesteps, 0.0),
            "guidance": np.array([work.guidance_scale]),
        }
        if work.unconditional is None:
            del tables["guidance"]
        if work.noise is not None:
            tables["noise"] = work.noise
        return {name: self._upload(values.astype(np.float32)) for name, values in tables.items()}

    def _step_bindings(self, engine: Engine, tables: Mapping[str, DeviceArray]) -> tuple[Binding, Binding]:
        work = self._work
        graph = author_step(
            latent=work.latents.shape,
            kept=work.table.kept,
            calls=len(work.table),
            noise_rows=0 if work.noise is None else len(work.noise),
            guided=work.unconditional is not None,
            dtype=engine.dtype,
        )
        session = Session.create(
            to_bytes(graph),
            provider=engine.choice.provider,
            device_id=engine.choice.device_id,
            options=SessionSettings(optimize=Optimization.DISABLED),
            label="sampler step",
        )
        read, written = self._states
        return self._bound(session, read, written, tables), self._bound(session, written, read, tables)

    def _bound(
        self,
        session: Session,
        read: Mapping[str, DeviceArray],
        written: Mapping[str, DeviceArray],
        tables: Mapping[str, DeviceArray],
    ) -> Binding:
        binding = session.binding()
        binding.bind(
            {**tables, **read, "output": self._denoiser.outputs["out_sample"]},
            {f"next_{name}": value for name, value in written.items()}
            | {name: self._denoiser.inputs[name] for name in ("sample", "timestep")},
        )
        return binding

    def _upload(self, array: Array) -> DeviceArray:
        provider, device_id = self._place
        return to_device(np.asarray(array, order="C"), provider, device_id)
