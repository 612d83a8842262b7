"""Optimum's pipeline over a portable export, in whatever environment has Optimum."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from onnxsd.bench.contenders.contender import Answer, Contender, timed_blocks, versions_of
from onnxsd.bench.contenders.torch_tools import Kept, save_images, save_unet_output, save_vae_output

WARM_UP = 3
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


def load(*, export: str, provider: str, device_id: int, **_: Any) -> tuple[OptimumOrt, Answer]:
    """The pipeline of a portable folder."""
    started = time.perf_counter()
    contender = OptimumOrt(Path(export), provider, device_id)
    versions = versions_of(
        "optimum-onnx", "optimum", "onnxruntime-gpu", "onnxruntime", "diffusers", "transformers", "torch"
    )
    return contender, {"seconds": time.perf_counter() - started, "versions": versions}


class OptimumOrt(Contender):
    """A pipeline of Optimum; on CUDA with IO binding, so that tensors stay on the GPU."""

    def __init__(self, export: Path, provider: str, device_id: int) -> None:
        import torch
        from optimum import onnxruntime

        self._torch = torch
        self._on_gpu = provider == "cuda"
        index = json.loads((export / "model_index.json").read_text(encoding="utf-8"))
        kind = getattr(onnxruntime, f"ORT{index['_class_name']}")
        self._pipe = kind.from_pretrained(
            export,
            provider=PROVIDERS[provider],
            provider_options={"device_id": device_id} if self._on_gpu else None,
            use_io_binding=self._on_gpu,
        )
        self._pipe.set_progress_bar_config(disable=True)
        self._require(PROVIDERS[provider])
        self._factor = int(self._pipe.vae_scale_factor)
        self._unet = Kept(self._pipe.unet)
        self._decode = Kept(self._pipe.vae.decode)
        self._pipe.unet, self._pipe.vae.decode = self._unet, self._decode

    def image(
        self, *, size: int, batch: int, steps: int, guidance: float, prompt: str, seed: int, save: str | None
    ) -> Answer:
        """Seconds of one call of the pipeline, PIL images at its end."""
        torch = self._torch
        started = time.perf_counter()
        images = self._pipe(
            prompt,
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=guidance,
            num_images_per_prompt=batch,
            generator=[torch.Generator("cpu").manual_seed(seed + at) for at in range(batch)],
        ).images
        seconds = time.perf_counter() - started
        if save is not None:
            save_images(images, save)
        return {"seconds": seconds}

    def denoise(self, *, size: int, batch: int, guidance: float, calls: int, blocks: int) -> Answer:
        """Seconds of a UNet call on what the pipeline gave it."""
        rows = batch * (2 if guidance > 1 else 1)
        return {"seconds": self._timed(self._unet, rows, size, calls, blocks)}

    def decode(self, *, size: int, batch: int, calls: int, blocks: int) -> Answer:
        """Seconds of decoding the batch."""
        return {"seconds": self._timed(self._decode, batch, size, calls, blocks)}

    def unet_output(self, *, inputs: str, out: str) -> Answer:
        """The UNet's output."""
        save_unet_output(self._unet, inputs, out)
        return {}

    def vae_output(self, *, inputs: str, out: str) -> Answer:
        """The decoder's output."""
        save_vae_output(self._decode, inputs, out)
        return {}

    def _timed(self, kept: Kept, rows: int, size: int, calls: int, blocks: int) -> list[float]:
        side = size // self._factor
        key = next(shape for shape in kept.shapes if (shape[0], *shape[2:]) == (rows, side, side))
        for _ in range(WARM_UP):
            kept.repeat(key)
        return timed_blocks(lambda: kept.repeat(key), self._wait, calls=calls, blocks=blocks)

    def _wait(self) -> None:
        if self._on_gpu:
            self._torch.cuda.synchronize()

    def _require(self, provider: str) -> None:
        """Refuse a pipeline whose sessions fell back to another provider."""
        actual = self._pipe.unet.session.get_providers()[0]
        if actual != provider:
            raise RuntimeError(f"asked for {provider}, and Optimum's sessions run on {actual}")
