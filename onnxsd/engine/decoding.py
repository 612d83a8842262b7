"""Pictures from clean latents, one at a time: a VAE at 1024² takes more memory than the denoiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.engine.bound import Bound
from onnxsd.engine.engine import Engine, require_finite
from onnxsd.engine.gpu import Gpu
from onnxsd.engine.pixel_graph import author_pixels
from onnxsd.imaging.pixels import from_bytes, to_images

Array = npt.NDArray[Any]
DECODER = "vae_decoder"


def decode(engine: Engine, latents: Array, output_type: str) -> list[Any]:
    """One picture for each row: PIL images, or arrays (H, W, 3) in 0…1 for `np`.

    Args:
        latents: (B, C, H, W) float32, as the loop leaves them.
        output_type: `pil` or `np`.

    Raises:
        VerificationError: NaN or infinity came out.
    """
    if output_type == "pil" and engine.gpu is not None:
        return [_on_gpu(engine.gpu, row[None]) for row in latents]
    scaling = np.float32(engine.folder.manifest.latent.scaling_factor)
    pictures: list[Any] = []
    for row in latents / scaling:
        sizes = {"batch": 1, "height": row.shape[1], "width": row.shape[2]}
        sample = engine.run(DECODER, sizes, {"latent_sample": row[None]})["sample"].astype(np.float32)
        require_finite(sample, DECODER)
        pictures.extend(to_images(sample) if output_type == "pil" else _unit_range(sample))
    return pictures


def _on_gpu(gpu: Gpu, latents: Array) -> Any:
    bound = decoder_for(gpu, latents.shape)
    bound.set("latents", latents)
    bound.run()
    require_finite(bound.get("spoilt"), DECODER)
    return from_bytes(bound.get("pixels")[0])


def decoder_for(gpu: Gpu, latent: tuple[int, ...]) -> Bound:
    """The decoder of latents (B, C, H, W), down to bytes of pixels; made on first use."""
    manifest = gpu.folder.manifest
    batch, channels, height, width = latent

    def author() -> Any:
        graph = author_pixels(
            gpu.folder.blueprint(DECODER),
            gpu.target,
            manifest.precision,
            latent=(batch, channels, height, width),
            scaling_factor=manifest.latent.scaling_factor,
        )
        return (graph,)

    return gpu.bound((DECODER, "pixels", latent), DECODER, author)


def _unit_range(sample: Array) -> Array:
    """(B, 3, H, W) in −1…1 as (B, H, W, 3) in 0…1."""
    pixels: Array = np.clip(sample / 2 + 0.5, 0, 1).transpose(0, 2, 3, 1)
    return pixels
