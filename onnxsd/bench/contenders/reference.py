"""diffusers' models in float32, without TF32: what errors are measured against."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from onnxsd.bench.contenders.contender import Answer, variant_in, versions_of
from onnxsd.bench.contenders.torch_tools import save_output


def load(*, model: str, provider: str, device_id: int, **_: Any) -> tuple[Reference, Answer]:
    """The reference, with no model loaded yet."""
    import diffusers  # noqa: F401  (where it is missing, the bench hears of it now)

    device = f"cuda:{device_id}" if provider == "cuda" else "cpu"
    return Reference(Path(model), device), {"versions": versions_of("torch", "diffusers")}


class Reference:
    """Loads each model for its own runs and lets it go, so that only one takes memory."""

    def __init__(self, model: Path, device: str) -> None:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self._model, self._device = model, device

    def unet_outputs(self, *, pairs: list[list[str]]) -> Answer:
        """What the denoiser gives for each (inputs .npz, output .npy)."""
        import diffusers

        started = time.perf_counter()
        for inputs, out, unet in self._each(diffusers.UNet2DConditionModel, "unet", pairs):
            added = {name: inputs[name] for name in ("text_embeds", "time_ids") if name in inputs}
            answer = unet(
                inputs["sample"],
                inputs["timestep"],
                inputs["encoder_hidden_states"],
                added_cond_kwargs=added or None,
            )
            save_output(answer.sample, out)
        return {"seconds": time.perf_counter() - started}

    def vae_outputs(self, *, pairs: list[list[str]]) -> Answer:
        """What the decoder gives for each (inputs .npz, output .npy), one image after another."""
        import diffusers
        import torch

        started = time.perf_counter()
        for inputs, out, vae in self._each(diffusers.AutoencoderKL, "vae", pairs):
            rows = [vae.decode(row[None]).sample for row in inputs["latent_sample"]]
            save_output(torch.cat(rows), out)
        return {"seconds": time.perf_counter() - started}

    def forget(self) -> None:
        """Give memory back that a failed call held."""
        import torch

        if self._device != "cpu":
            torch.cuda.empty_cache()

    def _each(
        self, kind: Any, part: str, pairs: list[list[str]]
    ) -> Iterator[tuple[dict[str, Any], str, Any]]:
        """Inputs as float32 tensors, the place of the output, and the model."""
        import torch

        model = kind.from_pretrained(
            self._model / part,
            torch_dtype=torch.float32,
            variant=variant_in(self._model),
            use_safetensors=True,
            local_files_only=True,
        ).to(self._device)
        with torch.no_grad():
            for inputs, out in pairs:
                given = np.load(inputs)
                yield {name: torch.from_numpy(given[name]).to(self._device) for name in given}, out, model
        del model
        self.forget()
