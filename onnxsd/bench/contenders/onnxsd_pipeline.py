"""onnxsd itself, through the pipeline that its users call."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.bench.contenders.contender import Answer, Contender, versions_of
from onnxsd.bench.report import STOCK


def load(*, name: str, export: str, provider: str, device_id: int, **_: Any) -> tuple[OnnxsdPipeline, Answer]:
    """The pipeline of an exported folder; the contender's name says on whose kernels."""
    from onnxsd import __version__

    started = time.perf_counter()
    contender = OnnxsdPipeline(export, provider, device_id, kernels="stock" if name == STOCK else "auto")
    versions = versions_of("onnxruntime-gpu", "onnxruntime", "numpy", "nvidia-cudnn-cu13", "nvidia-cublas")
    return contender, {
        "seconds": time.perf_counter() - started,
        "versions": {"onnxsd": __version__, **versions},
        "kernels": contender.kernels,
    }


class OnnxsdPipeline(Contender):
    """A pipeline, and the engine below it for single calls."""

    def __init__(self, export: str, provider: str, device_id: int, *, kernels: str) -> None:
        from onnxsd.engine.pipeline import Pipeline

        self._pipe = Pipeline.from_pretrained(export, provider=provider, device_id=device_id, kernels=kernels)

    @property
    def kernels(self) -> str | None:
        """Whose kernels it runs on and why, so that a fallback is seen; None where there is no choice."""
        if self._pipe.engine.gpu is None:
            return None
        found = self._pipe.engine.kernels
        return f"{'own' if found.own else 'stock'} ({found.reason})"

    def image(
        self, *, size: int, batch: int, steps: int, guidance: float, prompt: str, seed: int, save: str | None
    ) -> Answer:
        """Seconds of one call of the pipeline, PIL images at its end."""
        started = time.perf_counter()
        images = self._pipe(
            prompt,
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=guidance,
            num_images_per_prompt=batch,
            seed=seed,
        ).images
        seconds = time.perf_counter() - started
        if save is not None:
            _save(np.stack([np.asarray(image) for image in images]), save)
        return {"seconds": seconds}

    def denoise(self, *, size: int, batch: int, guidance: float, calls: int, blocks: int) -> Answer:
        """Seconds of a call of the denoiser."""
        from onnxsd.bench.contenders.onnxsd_engine import unet_seconds
        from onnxsd.bench.inputs import unet_inputs

        engine, rows = self._pipe.engine, batch * (2 if guidance > 1 else 1)
        feeds = unet_inputs(engine.folder.path, size=size, rows=rows)
        return {"seconds": unet_seconds(engine, feeds, guidance_scale=guidance, calls=calls, blocks=blocks)}

    def decode(self, *, size: int, batch: int, calls: int, blocks: int) -> Answer:
        """Seconds of decoding the batch."""
        from onnxsd.bench.contenders.onnxsd_engine import vae_seconds
        from onnxsd.bench.inputs import vae_inputs

        feeds = vae_inputs(self._pipe.engine.folder.path, size=size, rows=batch)
        return {"seconds": vae_seconds(self._pipe.engine, feeds, calls=calls, blocks=blocks)}

    def unet_output(self, *, inputs: str, out: str) -> Answer:
        """The denoiser's output."""
        from onnxsd.bench.contenders.onnxsd_engine import unet_output

        _save(unet_output(self._pipe.engine, np.load(inputs)).astype(np.float32), out)
        return {}

    def vae_output(self, *, inputs: str, out: str) -> Answer:
        """The decoder's output."""
        from onnxsd.bench.contenders.onnxsd_engine import vae_output

        _save(vae_output(self._pipe.engine, np.load(inputs)).astype(np.float32), out)
        return {}


def _save(array: npt.NDArray[Any], path: str) -> None:
    with Path(path).open("wb") as file:
        np.save(file, array)
