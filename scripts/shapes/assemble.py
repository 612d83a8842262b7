"""The trained networks as a folder in diffusers' layout, fp16."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTokenizer

from shapes.topology import Topology, make_scheduler
from shapes.vocabulary import write_tokenizers


def write_pipeline(
    topology: Topology,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    encoders: torch.nn.ModuleDict,
    folder: Path,
) -> DiffusionPipeline:
    """Write the pipeline's folder and give the pipeline, its weights rounded to fp16."""
    write_tokenizers(folder)
    parts = {"vae": vae, "unet": unet, "scheduler": make_scheduler(topology), **dict(encoders.items())}
    parts["tokenizer"] = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    if topology is Topology.SDXL:
        parts["tokenizer_2"] = CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
        pipeline = StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.to(torch.float16)
    pipeline.save_pretrained(folder)
    return pipeline
