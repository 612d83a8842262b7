"""The weights that diffusers' classes start with, seed 0: what a random checkpoint's UNet and VAE get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnxsd.bench.contenders.contender import Answer, versions_of

SEED = 0


def load(*, provider: str, device_id: int, **_: Any) -> tuple[Weights, Answer]:
    """What makes them; on the GPU where there is one, for a CPU takes minutes with a large model."""
    import diffusers  # noqa: F401
    import torch

    on_gpu = provider == "cuda" and torch.cuda.is_available()
    return Weights(f"cuda:{device_id}" if on_gpu else "cpu"), {"versions": versions_of("torch", "diffusers")}


class Weights:
    """Writes models as diffusers' classes make them from a configuration."""

    def __init__(self, device: str) -> None:
        self._device = device

    def initialise(self, *, checkpoint: str) -> Answer:
        """Write the weights of `unet` and `vae` into a checkpoint that has their config.json, in fp16."""
        import diffusers
        import torch

        torch.manual_seed(SEED)
        for kind, part in ((diffusers.UNet2DConditionModel, "unet"), (diffusers.AutoencoderKL, "vae")):
            folder = Path(checkpoint) / part
            with torch.device(self._device):
                model = kind.from_config(kind.load_config(folder))
            model.half().cpu().save_pretrained(folder, max_shard_size="20GB")
            del model
        return {"device": self._device}

    def forget(self) -> None:
        """Nothing stays after a failure."""
