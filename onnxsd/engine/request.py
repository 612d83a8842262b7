"""What is asked of a pipeline, and what is decided where nothing was asked."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.artifact.manifest import LatentRecord
from onnxsd.errors import UsageError
from onnxsd.models.families import Family
from onnxsd.samplers import Sampler, find

Array = npt.NDArray[Any]
# Seeds of this size can be read aloud and typed.
RANDOM_SEED_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call's options besides the prompts, as they were given; None leaves the choice to the model."""

    height: int | None
    width: int | None
    num_inference_steps: int | None
    guidance_scale: float | None
    num_images: int
    seed: int | Sequence[int] | None
    sampler: str
    noise_schedule: str | None
    latents: Array | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How images are made, with everything that was left open decided."""

    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    sampler: Sampler
    noise_schedule: str | None
    seeds: tuple[int, ...]

    @property
    def schedule_title(self) -> str | None:
        """The noise schedule that was asked for, as A1111 writes it; None for the checkpoint's own."""
        named = self.sampler.noise_schedule.value if self.sampler.noise_schedule else self.noise_schedule
        return None if named is None else named.capitalize()

    @property
    def guided(self) -> bool:
        """Whether the denoiser is called for the negative prompt too."""
        return self.guidance_scale > 1.0


def decide(request: Request, latent: LatentRecord, family: Family) -> Settings:
    """The settings that a request means for a model.

    Raises:
        UsageError: a size, a number of images, a guidance scale, seeds, latents or a sampler that cannot be.
    """
    count, height, width = request.num_images, request.height, request.width
    if request.latents is not None:
        count = _check_latents(request.latents, latent, height, width)
        height, width = (size * latent.factor for size in request.latents.shape[2:])
    if count < 1:
        raise UsageError(f"{count} images were asked for; at least 1 is needed")
    steps = request.num_inference_steps
    return Settings(
        height=_size("height", family.native_size if height is None else height, latent.factor),
        width=_size("width", family.native_size if width is None else width, latent.factor),
        num_inference_steps=family.steps if steps is None else steps,
        guidance_scale=_guidance_scale(request.guidance_scale, family),
        sampler=find(request.sampler),
        noise_schedule=request.noise_schedule,
        seeds=_seeds(request.seed, count),
    )


def _guidance_scale(asked: float | None, family: Family) -> float:
    scale = family.guidance_scale if asked is None else asked
    if not math.isfinite(scale):
        raise UsageError(f"a guidance scale of {scale} was asked for", hint="use a number; 1 or less is off")
    return scale


def _size(name: str, pixels: int, factor: int) -> int:
    """A width or height, which has to divide into latents."""
    if pixels < factor or pixels % factor:
        below = max(factor, pixels // factor * factor)
        raise UsageError(
            f"{name} {pixels} is not a multiple of {factor}", hint=f"use {below} or {below + factor}"
        )
    return pixels


def _check_latents(latents: Array, latent: LatentRecord, height: int | None, width: int | None) -> int:
    """How many images the given noise is for."""
    if latents.ndim != 4 or latents.shape[1] != latent.channels:
        raise UsageError(
            f"latents have shape {list(latents.shape)}; (images, {latent.channels},"
            f" height/{latent.factor}, width/{latent.factor}) is needed"
        )
    if not latents.size or not np.isfinite(latents).all():
        raise UsageError("latents are empty, or hold NaN or infinity")
    found = (latents.shape[2] * latent.factor, latents.shape[3] * latent.factor)
    if height not in (None, found[0]) or width not in (None, found[1]):
        asked = f"{width or found[1]}×{height or found[0]}"
        raise UsageError(f"latents are of {found[1]}×{found[0]} pixels, asked for {asked}")
    return int(latents.shape[0])


def _seeds(seed: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
    """One seed for each image; a single one counts up."""
    if seed is None:
        seed = secrets.randbits(RANDOM_SEED_BITS)
    if isinstance(seed, (int, np.integer)):
        return tuple(range(int(seed), int(seed) + count))
    if len(seed) != count:
        raise UsageError(f"{len(seed)} seeds for {count} images")
    return tuple(int(one) for one in seed)
