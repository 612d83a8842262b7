"""The networks of `shapes`: SDXL's topology, and Stable Diffusion 1.5's, at widths that fit a package.

All widths are multiples of 16 and the groups are 8, so that a group has an even number of channels, which
ONNX Runtime's GroupNorm asks for; heads are 8, 16 or 32 wide, a multiple of 8, as fused attention wants.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

SIZE = 128  # pixels a side that the model is made for
FACTOR = 8  # pixels a side of one latent position
LATENT_CHANNELS = 4
POSITIONS = 77  # tokens of a prompt, as CLIP
GROUPS = 8
TIME_IDS = 6  # SDXL: original height and width, crop's top and left, target height and width
TIME_ID_WIDTH = 32


class Topology(enum.Enum):
    """Whose block kinds the denoiser has."""

    SDXL = "sdxl"
    SD15 = "sd15"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """One CLIP text encoder, by the name of its folder."""

    name: str
    width: int
    layers: int
    activation: str
    projected: bool


ENCODERS = {
    Topology.SDXL: (
        Encoder(name="text_encoder", width=64, layers=3, activation="quick_gelu", projected=False),
        Encoder(name="text_encoder_2", width=96, layers=3, activation="gelu", projected=True),
    ),
    Topology.SD15: (
        Encoder(name="text_encoder", width=96, layers=3, activation="quick_gelu", projected=False),
    ),
}


def make_vae() -> AutoencoderKL:
    """A fresh AutoencoderKL: (B, 3, H, W) in -1…1 to (B, 4, H/8, W/8) and back."""
    return AutoencoderKL(
        block_out_channels=(32, 48, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=GROUPS,
        sample_size=SIZE,
        force_upcast=False,  # trained in bfloat16: its activations are small, fp16 holds them
    )


def make_unet(topology: Topology) -> UNet2DConditionModel:
    """A fresh denoiser for latents of (B, 4, H/8, W/8)."""
    return UNet2DConditionModel(**(_sdxl() if topology is Topology.SDXL else _sd15()))


def make_encoders(topology: Topology, *, vocabulary: int) -> torch.nn.ModuleDict:
    """Fresh text encoders, by name; the vocabulary's last two tokens start and end a text."""
    return torch.nn.ModuleDict({one.name: _encoder(one, vocabulary) for one in ENCODERS[topology]})


def make_scheduler(topology: Topology) -> EulerDiscreteScheduler | PNDMScheduler:
    """The noise schedule that Stable Diffusion was trained with, as each pipeline ships it."""
    common: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "steps_offset": 1,
        "timestep_spacing": "leading",
    }
    if topology is Topology.SDXL:
        return EulerDiscreteScheduler(**common)
    return PNDMScheduler(**common, skip_prk_steps=True, set_alpha_to_one=False)


def parameters(*modules: torch.nn.Module) -> int:
    """How many numbers the modules hold."""
    return sum(weight.numel() for module in modules for weight in module.parameters())


def _sdxl() -> dict[str, Any]:
    widths = (64, 96, 96)
    pooled = ENCODERS[Topology.SDXL][-1].width
    return {
        "sample_size": SIZE // FACTOR,
        "block_out_channels": widths,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": tuple(width // 32 for width in widths),  # heads, by diffusers' old name
        "cross_attention_dim": sum(one.width for one in ENCODERS[Topology.SDXL]),
        "norm_num_groups": GROUPS,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": TIME_ID_WIDTH,
        "projection_class_embeddings_input_dim": TIME_IDS * TIME_ID_WIDTH + pooled,
    }


def _sd15() -> dict[str, Any]:
    (encoder,) = ENCODERS[Topology.SD15]
    return {
        "sample_size": SIZE // FACTOR,
        "block_out_channels": (32, 64, 64, 64),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": encoder.width,
        "norm_num_groups": GROUPS,
    }


def _encoder(one: Encoder, vocabulary: int) -> torch.nn.Module:
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=one.width,
        intermediate_size=4 * one.width,
        num_hidden_layers=one.layers,
        num_attention_heads=one.width // 32,
        max_position_embeddings=POSITIONS,
        projection_dim=one.width,
        hidden_act=one.activation,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=0 if one.name.endswith("_2") else vocabulary - 1,
    )
    kind = CLIPTextModelWithProjection if one.projected else CLIPTextModel
    made: torch.nn.Module = kind(config)
    return made
