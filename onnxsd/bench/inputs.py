"""Seeded inputs of the denoiser and of the decoder, the same for every contender."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.models.config import read_json

Array = npt.NDArray[Any]
SEED = 0
TOKENS = 77
# Somewhere in the middle of a schedule.
TIMESTEP = 501.0


def latent_factor(folder: Path) -> int:
    """How many pixels a side of a latent is wide; the folder is a checkpoint or an export."""
    return int(2 ** (len(_config(folder, "vae", "vae_decoder")["block_out_channels"]) - 1))


def unet_inputs(folder: Path, *, size: int, rows: int) -> dict[str, Array]:
    """Inputs by the names of an export's denoiser, float32 of values that fp16 holds exactly.

    Args:
        folder: a checkpoint or an export, for the widths in its unet/config.json.
        size: pixels a side.
        rows: images, twice for guidance.
    """
    config, side = read_json(folder / "unet" / "config.json"), size // latent_factor(folder)
    shapes: dict[str, tuple[int, ...]] = {
        "sample": (rows, config["in_channels"], side, side),
        "encoder_hidden_states": (rows, TOKENS, config["cross_attention_dim"]),
    }
    added: dict[str, Array] = {}
    if config.get("addition_embed_type") == "text_time":
        # The rest of the projection's width: six time ids of `addition_time_embed_dim` each.
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        shapes["text_embeds"] = (rows, pooled)
        added["time_ids"] = np.tile(np.array([size, size, 0, 0, size, size], np.float32), (rows, 1))
    return {**_normal(shapes), "timestep": np.array(TIMESTEP, np.float32), **added}


def vae_inputs(folder: Path, *, size: int, rows: int) -> dict[str, Array]:
    """Latents of unit variance by the decoder's name, float32 of values that fp16 holds exactly."""
    side = size // latent_factor(folder)
    channels = _config(folder, "vae", "vae_decoder")["latent_channels"]
    return _normal({"latent_sample": (rows, channels, side, side)})


def _normal(shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    numbers = np.random.default_rng(SEED)
    return {
        name: numbers.standard_normal(shape, np.float32).astype(np.float16).astype(np.float32)
        for name, shape in shapes.items()
    }


def _config(folder: Path, *parts: str) -> dict[str, Any]:
    """The config.json of the first of these parts that the folder has."""
    found = next((folder / part for part in parts if (folder / part).is_dir()), folder / parts[0])
    return read_json(found / "config.json")
