"""Narrow twins: the topology, keys and conventions of a model at a small fraction of its width.

Widths must keep what kernels and neighbours ask for: a group norm sees an even number of channels a group,
an attention head has a multiple of 8, and the parts of one pipeline fit each other although each is narrowed
alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnxsd.errors import ConfigurationError
from onnxsd.models import clip, unet_config, vae
from onnxsd.models.catalogue import Pipeline

# Convolutional widths become 16, 32, 48 … in the order of their sizes (a VAE's 8, 16, 24 …, for it has no
# heads to divide into): with `step / 2` groups of channels, every concatenation has an even number a group,
# and 2 heads (or width / 8) have a multiple of 8 each.
UNET_STEP = 16
VAE_STEP = 8
HEADS = 2
HEAD_SIZE = 8
# Widths around the text shrink by one factor, so that sums of them (SDXL's context is 768 + 1280 wide, its
# condition 1280 + 6 · 256) stay the sums of the twins' widths; all published ones are multiples of 256.
TEXT_FACTOR = 32
# At most this wide is narrow already.
NARROW_TEXT = 64
VOCABULARY = 1000

Config = Mapping[str, Any]


def narrow(config: Config, *, depth: int | None) -> dict[str, Any]:
    """The config.json of a model's narrow twin; what is narrow already stays as it is.

    Args:
        config: the content of a UNet's, a VAE's or a CLIP text encoder's config.json.
        depth: the most transformer blocks after a residual block and the most layers of a text encoder; None
            keeps them all. A text encoder needs 2 for `hidden_states[-2]` to be more than its embeddings.

    Raises:
        ConfigurationError: the class is none of those.
    """
    architectures = config.get("architectures") or ()
    name = str(config.get("_class_name") or next(iter(architectures), None))
    if name not in _NARROW:
        raise ConfigurationError(
            f"no narrow twin is known of class {name!r}", hint=f"known are {', '.join(_NARROW)}"
        )
    return {**config, **_NARROW[name](config, depth)}


def twin_of(pipeline: Pipeline, *, depth: int | None) -> Pipeline:
    """The pipeline with every model narrowed."""
    models = {part: narrow(config, depth=depth) for part, config in pipeline.models.items()}
    return dataclasses.replace(pipeline, models=models)


def _narrow_unet(config: Config, depth: int | None) -> dict[str, Any]:
    full = {**unet_config.DEFAULTS, **config}
    changes = {
        **_channels(full, UNET_STEP),
        "cross_attention_dim": _text_widths(full["cross_attention_dim"]),
        **_capped_transformers(full, depth),
        **_condition(full),
    }
    if "block_out_channels" in changes:
        changes["attention_head_dim"] = _heads(full["attention_head_dim"], changes["block_out_channels"])
        if full["time_embedding_dim"] is not None:
            changes["time_embedding_dim"] = 4 * changes["block_out_channels"][0]
    return changes


def _narrow_vae(config: Config, depth: int | None) -> dict[str, Any]:
    return _channels({**vae.DEFAULTS, **config}, VAE_STEP)


def _narrow_text_encoder(config: Config, depth: int | None) -> dict[str, Any]:
    full = {**clip.DEFAULTS, **config}
    changes = {
        "projection_dim": _text_width(full["projection_dim"]),
        "num_hidden_layers": _capped(full["num_hidden_layers"], depth),
        **_vocabulary(full),
    }
    width = _text_width(full["hidden_size"])
    if width != full["hidden_size"]:
        changes["hidden_size"] = width
        changes["intermediate_size"] = width * full["intermediate_size"] // full["hidden_size"]
        changes["num_attention_heads"] = width // HEAD_SIZE
    return changes


_NARROW: Mapping[str, Callable[[Config, int | None], dict[str, Any]]] = {
    "UNet2DConditionModel": _narrow_unet,
    "AutoencoderKL": _narrow_vae,
    "CLIPTextModel": _narrow_text_encoder,
    "CLIPTextModelWithProjection": _narrow_text_encoder,
}


def _channels(full: Config, step: int) -> dict[str, Any]:
    """Widths and groups of the convolutions; nothing where they are narrow already."""
    widths = full["block_out_channels"]
    ranks = sorted(set(widths))
    narrowed = [step * (ranks.index(width) + 1) for width in widths]
    if all(new >= width for new, width in zip(narrowed, widths, strict=True)):
        return {}
    return {"block_out_channels": narrowed, "norm_num_groups": step // 2}


def _heads(heads: int | Sequence[int], widths: Sequence[int]) -> int | list[int]:
    """As many heads as before in form: one number for all stages, or one for each."""
    if isinstance(heads, int):
        return min(heads, HEADS)
    return [width // HEAD_SIZE for width in widths]


def _capped_transformers(full: Config, depth: int | None) -> dict[str, Any]:
    keys = ("transformer_layers_per_block", "reverse_transformer_layers_per_block")
    return {key: _capped(full[key], depth) for key in keys if full[key] is not None}


def _capped(found: Any, depth: int | None) -> Any:
    """A depth, or a nested list of them, with none above `depth`."""
    if isinstance(found, (list, tuple)):
        return [_capped(item, depth) for item in found]
    return found if depth is None else min(found, depth)


def _condition(full: Config) -> dict[str, Any]:
    """Widths of SDXL's added condition and of LCM's guidance embedding, for a model that has them."""
    changes: dict[str, Any] = {}
    if full["time_cond_proj_dim"] is not None:
        changes["time_cond_proj_dim"] = _text_width(full["time_cond_proj_dim"])
    wave, total = full["addition_time_embed_dim"], full["projection_class_embeddings_input_dim"]
    if full["addition_embed_type"] is not None and _text_width(wave) != wave:
        changes["addition_time_embed_dim"] = _text_width(wave)
        changes["projection_class_embeddings_input_dim"] = _text_width(total)
    return changes


def _text_widths(width: int | Sequence[int]) -> int | list[int]:
    return _text_width(width) if isinstance(width, int) else [_text_width(item) for item in width]


def _text_width(width: int) -> int:
    """1/32 of a width, rounded up to whole heads."""
    if width <= NARROW_TEXT:
        return width
    return -(-width // (TEXT_FACTOR * HEAD_SIZE)) * HEAD_SIZE


def _vocabulary(full: Config) -> dict[str, Any]:
    """A small vocabulary; the special ids at the end of the large one stay at the end."""
    lost = full["vocab_size"] - VOCABULARY
    if lost <= 0:
        return {}
    moved = {
        key: full[key] - lost
        for key in ("bos_token_id", "eos_token_id", "pad_token_id")
        if isinstance(full.get(key), int) and full[key] >= VOCABULARY
    }
    return {"vocab_size": VOCABULARY, **moved}
