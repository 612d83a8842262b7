"""One image from the same initial latent, through diffusers' own pipeline and through the export's."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.artifact.folder import Folder
from onnxsd.artifact.manifest import CheckRecord, LatentRecord
from onnxsd.models.config import read_json
from onnxsd.tensors import DType
from onnxsd.verify.reference import CHECK
from onnxsd.verify.torch_models import Checkpoint, load, quiet

Array = npt.NDArray[Any]
PIPELINE = "pipeline"
# 40 dB is 1 % of the pixels' range, root mean square: the same picture to every eye. In fp16 each step's
# rounding is carried on and amplified by guidance: narrow twins gave 58 to 67 dB on an H200, where float32
# gave 123 and more; trained models, whose guidance changes more, get room for a part of that.
BOUNDS_DB: Mapping[DType, float] = {DType.FLOAT32: 40.0, DType.FLOAT16: 35.0}
# Small, oblong, and no multiple of what the denoiser halves three times: every path of the sizes is taken.
LATENT_HEIGHT, LATENT_WIDTH = 16, 13
SEED = 0
# What a pipeline can do without: parts that change no pixel, and are not exported.
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One image, by diffusers' names.

    latents: (1, C, H, W), unit variance. seed: of the noise that a sampler adds at its steps, if it does.
    """

    latents: Array
    seed: int = SEED
    prompt: str = "a red lighthouse in a storm"
    negative_prompt: str = "blurry"
    num_inference_steps: int = 4
    guidance_scale: float = 5.0


# Gives one image, (H, W, 3) in 0…1.
MakeImage = Callable[[ImageRequest], Array]


def compare_image(
    folder: Folder, checkpoint: Checkpoint, make: MakeImage, *, computed_in: DType
) -> CheckRecord:
    """The record of one seeded image; both sides start from the same latent.

    Args:
        folder: the export.
        checkpoint: what it was made of.
        make: makes an image with the export.
        computed_in: what `make` computes in: on a CPU, fp16 weights are widened.
    """
    request = ImageRequest(latents=initial_latent(folder.manifest.latent))
    expected = reference_image(checkpoint, request)
    found = make(request)
    bound = BOUNDS_DB[folder.manifest.precision]
    ratio = psnr(found, expected) if found.shape == expected.shape else -math.inf
    return CheckRecord(
        check=CHECK,
        component=PIPELINE,
        subject="seeded image",
        passed=ratio >= bound,
        detail=f"PSNR {ratio:.1f} dB, computed in {computed_in.numpy_name} against float32,"
        f" {found.shape[1]}×{found.shape[0]}, {request.num_inference_steps} steps,"
        f" contrast {expected.std():.2f}; {bound:g} dB is needed",
    )


def initial_latent(latent: LatentRecord) -> Array:
    """Seeded noise of unit variance, float32."""
    shape = (1, latent.channels, LATENT_HEIGHT, LATENT_WIDTH)
    return np.random.default_rng(SEED).standard_normal(shape, np.float32)


def psnr(found: Array, expected: Array) -> float:
    """Peak signal-to-noise ratio in decibels of images in 0…1; infinite for equal ones, NaN if one is."""
    error = float(np.mean((found.astype(np.float64) - expected.astype(np.float64)) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


def reference_image(checkpoint: Checkpoint, request: ImageRequest) -> Array:
    """The image that diffusers' own pipeline makes in float32 on the CPU."""
    import torch

    with quiet(), torch.inference_mode():
        pipeline = _pipeline(checkpoint)
        pipeline.set_progress_bar_config(disable=True)
        factor = pipeline.vae_scale_factor
        images = pipeline(
            request.prompt,
            negative_prompt=request.negative_prompt,
            height=request.latents.shape[2] * factor,
            width=request.latents.shape[3] * factor,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            latents=torch.from_numpy(request.latents),
            generator=torch.Generator("cpu").manual_seed(request.seed),
            output_type="np",
        ).images
    return np.asarray(images[0])


def _pipeline(checkpoint: Checkpoint) -> Any:
    """The checkpoint's pipeline with its models in float32, without the parts that change no pixel."""
    import diffusers

    index = read_json(checkpoint.folder / "model_index.json")
    kind = getattr(diffusers, index["_class_name"])
    models = {name: load(part) for name, part in checkpoint.parts.items()}
    left_out = {name: None for name in LEFT_OUT if name in index}
    settings = {"requires_safety_checker": False, "add_watermarker": False}
    taken = {key: value for key, value in settings.items() if key in inspect.signature(kind).parameters}
    return kind.from_pretrained(checkpoint.folder, **models, **left_out, **taken, local_files_only=True)
