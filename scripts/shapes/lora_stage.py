"""A LoRA for the trained model: the diamond, a shape that the model and its vocabulary have no word for.

A shape and not a colour: the autoencoder has only ever seen eight colours and turns brown into red.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline

from shapes.captions import Named, phrase, sample_captioned
from shapes.dataset import BUCKETS, Pool, pool_of, views
from shapes.denoiser_stage import Objective
from shapes.graphed import Weights
from shapes.lora import adapt, write
from shapes.packing import ANGLE, BACKGROUND_COLUMNS, pack
from shapes.scene import Fill, Scene, Shape, sample_single
from shapes.stage import Plan, learn
from shapes.topology import Topology
from shapes.vocabulary import token_ids

WORD = "diamond"
TURN = np.pi / 4
FAMILIAR = 0.3  # of the pictures: so that the other shapes stay what they are
_SQUARE = re.compile(r"\bsquare\b")


def train_lora(model: Path, plan: Plan, pictures: int, device: torch.device, out: Path) -> tuple[Path, ...]:
    """Train on a model's folder and write both formats into `out`."""
    torch.manual_seed(plan.seed)
    pipeline = StableDiffusionXLPipeline.from_pretrained(model).to(device, torch.float32)
    pool = make_pool(pictures, plan.seed, device)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        part.requires_grad_(False)
    added = adapt(pipeline.unet)
    weights = Weights([pipeline.unet], peak_rate=plan.peak_rate, average=plan.average)
    encoders = {"text_encoder": pipeline.text_encoder, "text_encoder_2": pipeline.text_encoder_2}
    for part in encoders.values():
        part.to(pipeline.unet.dtype)
    objective = Objective(
        Topology.SDXL, pipeline.vae, pipeline.unet, torch.nn.ModuleDict(encoders), [pool], plan
    )
    learn(weights, [pool], plan, objective.loss, out / f"{WORD}.state")
    weights.use_averages()
    return write(added, pipeline.unet, out / "loras", f"shapes-{WORD}")


def make_pool(pictures: int, seed: int, device: torch.device) -> Pool:
    """Captioned pictures at the native size, most of them of a diamond."""
    rng = np.random.default_rng(seed)
    familiar = [sample_captioned(rng) for _ in range(round(pictures * FAMILIAR))]
    new = list(itertools.islice(_diamonds(rng), pictures - len(familiar)))
    scenes = pack([scene for scene, _ in (*new, *familiar)], rng)
    scenes[: len(new), BACKGROUND_COLUMNS + ANGLE] += TURN
    tokens = token_ids([text for _, text in (*new, *familiar)]).astype(np.int16)
    bucket = replace(BUCKETS[0], share=1.0)
    whole = np.zeros((pictures, 2))
    plain = views(bucket, offset=whole, beyond=whole, scale=np.ones(pictures))
    return pool_of(bucket, {"scenes": scenes, "tokens": tokens, **plain}, device)


def _diamonds(rng: np.random.Generator) -> Iterator[tuple[Scene, str]]:
    """Scenes of one square, without end, whose captions say diamond."""
    while True:
        scene = sample_single(rng)
        thing = scene.things[0]
        if thing.shape is not Shape.SQUARE:
            continue
        named = Named(
            shape=True, colour=True, fill=thing.fill is Fill.STRIPED, position=True, background=True
        )
        text = phrase(scene, named, rng)
        if _SQUARE.search(text):  # under its plain name: a synonym would stay
            yield scene, _SQUARE.sub(WORD, text)
