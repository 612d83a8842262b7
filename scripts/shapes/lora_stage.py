"""A LoRA for the trained model: the colour pink, which the model and its vocabulary have never seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import StableDiffusionXLPipeline

from shapes.captions import Named, phrase, sample_captioned
from shapes.dataset import BUCKETS, Pool
from shapes.denoiser_stage import Objective
from shapes.graphed import Weights
from shapes.lora import adapt, write
from shapes.packing import BACKGROUND_COLUMNS, RGB, SHADE, pack
from shapes.palette import Colour
from shapes.scene import Fill, Scene, sample_single
from shapes.stage import Plan, learn
from shapes.topology import Topology
from shapes.vocabulary import token_ids

WORD = "pink"
BASE = (245, 130, 185)
STRIPE = (160, 70, 115)
FAMILIAR = 0.3  # of the pictures: so that the other colours stay what they are
# Red under its plain name alone: the word is replaced, and a synonym would stay.
_RED = re.compile(r"(?<!bright )\bred\b")


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
    """Captioned pictures at the native size, most of them with a pink object."""
    rng = np.random.default_rng(seed)
    familiar = [sample_captioned(rng) for _ in range(round(pictures * FAMILIAR))]
    new = [pair for pair, _ in zip(_pink(rng), range(pictures - len(familiar)), strict=False)]
    scenes = pack([scene for scene, _ in (*new, *familiar)], rng)
    for column, colour in ((RGB, BASE), (SHADE, STRIPE)):
        first = BACKGROUND_COLUMNS + column
        scenes[: len(new), first : first + 3] = np.array(colour) / 255
    plain = [scene.things[0].fill is Fill.PLAIN for scene, _ in new]
    scenes[np.flatnonzero(plain), BACKGROUND_COLUMNS + SHADE : BACKGROUND_COLUMNS + SHADE + 3] = (
        np.array(BASE) / 255
    )
    return _pool(scenes, [text for _, text in (*new, *familiar)], device)


def _pink(rng: np.random.Generator) -> Iterator[tuple[Scene, str]]:
    """Scenes of one red object, without end, whose captions say pink."""
    while True:
        scene = sample_single(rng)
        if scene.things[0].colour is not Colour.RED:
            continue
        striped = scene.things[0].fill is Fill.STRIPED
        named = Named(shape=True, colour=True, fill=striped, position=True, background=True)
        text = phrase(scene, named, rng)
        if _RED.search(text):
            yield scene, _RED.sub(WORD, text)


def _pool(scenes: npt.NDArray[np.float32], texts: list[str], device: torch.device) -> Pool:
    bucket = replace(BUCKETS[0], share=1.0)
    size = torch.tensor([bucket.height, bucket.width], dtype=torch.float32, device=device)
    count = len(scenes)
    return Pool(
        bucket=bucket,
        scenes=torch.from_numpy(scenes).to(device),
        tokens=torch.from_numpy(token_ids(texts).astype(np.int16)).to(device),
        time_ids=torch.cat([size, torch.zeros(2, device=device), size]).expand(count, 6),
        softness=torch.ones(count, device=device),
        offset=torch.zeros(count, 2, device=device),
        canvas=size.expand(count, 2),
    )
