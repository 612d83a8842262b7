"""How much of a picture an exported VAE keeps: rendered pictures through its encoder and its decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from onnxsd.engine.engine import Engine
from shapes.figures import Figure
from shapes.packing import pack
from shapes.render import render
from shapes.scene import sample_scene

PSNR_MIN_DB = 28.0
AT_ONCE = 10

Array = npt.NDArray[Any]


def reconstruction(engine: Engine, *, count: int, size: int, seed: int) -> Figure:
    """The mean over pictures of the peak signal-to-noise ratio, from the latents' means."""
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, held_out=index % 3 == 0) for index in range(count)]
    rows = torch.from_numpy(pack(scenes, rng))
    ratios = np.concatenate(
        [_psnr_db(engine, render(part, height=size, width=size).numpy()) for part in rows.split(AT_ONCE)]
    )
    return Figure(
        name="VAE reconstruction: mean PSNR",
        value=float(ratios.mean()),
        unit="dB",
        count=count,
        at_least=PSNR_MIN_DB,
    )


def _psnr_db(engine: Engine, pictures: Array) -> Array:
    """One ratio for each picture, (N, 3, H, W) in 0…1."""
    parameters = _run(engine, "vae_encoder", pictures * 2 - 1)
    mean = parameters[:, : parameters.shape[1] // 2]
    back = np.clip(_run(engine, "vae_decoder", mean) / 2 + 0.5, 0, 1)
    errors: Array = ((back - pictures) ** 2).mean(axis=(1, 2, 3))
    return -10 * np.log10(errors)


def _run(engine: Engine, component: str, given: Array) -> Array:
    batch, _, height, width = given.shape
    session = engine.session(component, {"batch": batch, "height": height, "width": width})
    (entry,) = session.inputs
    (made,) = session.run({entry.name: given.astype(entry.dtype)}).values()
    return made.astype(np.float64)
