"""What suits a family of models when the user does not say: steps, guidance, size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One pipeline class of diffusers, and how it is used by default."""

    title: str
    steps: int
    guidance_scale: float
    # Pixels a side where the denoiser's config.json does not say.
    native_size: int
    # Two text encoders, pooled embedding and time ids.
    xl: bool
    # What a prompt alone is not enough for, if anything.
    needs: str | None = None


FAMILIES: Mapping[str, Family] = {
    "StableDiffusionXLPipeline": Family(
        title="SDXL", steps=30, guidance_scale=5.0, native_size=1024, xl=True
    ),
    "StableDiffusionXLImg2ImgPipeline": Family(
        title="SDXL refiner",
        steps=30,
        guidance_scale=5.0,
        native_size=1024,
        xl=True,
        needs="an image to refine",
    ),
    "StableDiffusionPipeline": Family(
        title="Stable Diffusion", steps=30, guidance_scale=7.5, native_size=512, xl=False
    ),
    "StableDiffusionInpaintPipeline": Family(
        title="Stable Diffusion inpainting",
        steps=30,
        guidance_scale=7.5,
        native_size=512,
        xl=False,
        needs="an image and a mask",
    ),
}
# Stability's Turbo models: distilled to one to four steps without guidance.
TURBO = Family(title="SDXL Turbo", steps=4, guidance_scale=0.0, native_size=512, xl=True)


def family_of(pipeline: str, scheduler: Mapping[str, Any]) -> Family | None:
    """The family of a pipeline class with this scheduler_config.json; None for one that is not known."""
    family = FAMILIES.get(pipeline)
    # Turbo has SDXL's class; its scheduler tells it apart: ancestral Euler with trailing timesteps.
    ancestral = scheduler.get("_class_name") == "EulerAncestralDiscreteScheduler"
    if family is not None and family.xl and ancestral and scheduler.get("timestep_spacing") == "trailing":
        return TURBO
    return family
