"""The denoising loop: on the host over any session, or on a GPU with the latent never leaving it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.engine.engine import Engine
from onnxsd.engine.loop import denoise_on_gpu
from onnxsd.engine.work import Denoising, OnStep
from onnxsd.samplers import run

Array = npt.NDArray[Any]


def denoise(engine: Engine, work: Denoising, on_step: OnStep = lambda step, steps: None) -> Array:
    """The clean latents, float32 (B, C, H, W); `on_step` is told (calls done, calls in all) after each."""
    if engine.gpu is not None:
        return denoise_on_gpu(engine.gpu, work, on_step)
    return _on_host(engine, work, on_step)


def _sizes(work: Denoising) -> dict[str, int]:
    _, _, height, width = work.latents.shape
    rows, length, _ = work.conditions.hidden_states.shape
    return {"batch": rows, "height": height, "width": width, "sequence": length}


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
        return with_guidance(output, work.guidance_scale) if guided else output

    return run(
        work.table,
        call,
        work.latents,
        noise=None if work.noise is None else lambda index: work.noise[index],  # type: ignore[index]
        on_step=lambda index, _: on_step(index + 1, calls),
    )


def with_guidance(output: Array, guidance_scale: float) -> Array:
    """Classifier-free guidance (Ho and Salimans 2022): u + g·(c − u), unconditional rows first."""
    unconditional, conditional = np.split(output, 2)
    return np.asarray(unconditional + np.float32(guidance_scale) * (conditional - unconditional))
