"""One image down to its bits: the loop's latents, and the file that they become."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.engine.decoding import decode
from onnxsd.engine.pipeline import Pipeline

Array = npt.NDArray[Any]
PROMPT = "a lighthouse in a storm"
Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """sha256 of an image's latents and of its PNG, in hexadecimal digits."""

    latents: str
    png: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image: latents (C, H, W) in float32, pixels (H, W, 3) in uint8, and the bytes of a PNG."""

    latents: Array
    pixels: npt.NDArray[np.uint8]
    png: bytes

    @property
    def digest(self) -> Digest:
        """What two images have in common only if every bit of them is the same."""
        return Digest(
            latents=hashlib.sha256(self.latents.tobytes()).hexdigest(),
            png=hashlib.sha256(self.png).hexdigest(),
        )


class Painter:
    """Makes images of one prompt by one pipeline, as `onnxsd generate` does."""

    def __init__(self, pipeline: Pipeline, *, steps: int | None) -> None:
        """Steps of None are the model's own."""
        self.pipeline = pipeline
        self._steps = steps

    def paint(self, seeds: Sequence[int], size: Size) -> tuple[Picture, ...]:
        """An image for each seed, all of one batch; the size is width and height in pixels."""
        made = self.pipeline(
            PROMPT,
            width=size[0],
            height=size[1],
            num_inference_steps=self._steps,
            num_images_per_prompt=len(seeds),
            seed=seeds,
            output_type="latent",
        )
        images = self._decoded(np.stack(made.images))
        return tuple(_picture(latents, image) for latents, image in zip(made.images, images, strict=True))

    def _decoded(self, latents: Array) -> list[Any]:
        """The second half of the pipeline's call, which gives either latents or images."""
        engine = self.pipeline.engine
        if engine.gpu is None:
            return decode(engine, latents, "pil")
        return engine.gpu.worker.run(lambda: decode(engine, latents, "pil"))


def _picture(latents: Array, image: Any) -> Picture:
    file = io.BytesIO()
    image.save(file, "PNG")
    return Picture(
        latents=np.ascontiguousarray(latents, np.float32), pixels=np.asarray(image), png=file.getvalue()
    )
