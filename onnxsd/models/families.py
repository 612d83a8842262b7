"""What suits a model when the user does not say: steps, guidance, size; by its family, or its own word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from onnxsd.errors import ConfigurationError

# In model_index.json, what this very model is used with: {"num_inference_steps": 20, "guidance_scale": 5.0}.
# diffusers passes over keys that begin with an underscore.
OWN_DEFAULTS = "_onnxsd_defaults"


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


def with_own_defaults(family: Family, index: Mapping[str, Any], *, source: str) -> Family:
    """The family with what a model says of itself in its model_index.json, if it does.

    Args:
        index: the content of model_index.json.
        source: its path, for errors.

    Raises:
        ConfigurationError: what it says is no number of steps or no guidance scale.
    """
    own = index.get(OWN_DEFAULTS, {})
    if isinstance(own, dict):
        steps = own.get("num_inference_steps", family.steps)
        scale = own.get("guidance_scale", family.guidance_scale)
        if _is_count(steps) and _is_number(scale):
            return replace(family, steps=steps, guidance_scale=float(scale))
    raise ConfigurationError(
        f"{source} has {OWN_DEFAULTS} {own!r}",
        hint="it holds num_inference_steps, a whole number from 1, and guidance_scale, a number",
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
