"""What contenders that run on torch share: inputs as tensors, outputs as files, a call kept for later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class Kept:
    """A model's call in a pipeline's place, which keeps the arguments of the first call of each shape.

    Calls are repeated with exactly what the pipeline gave: to a compiled model another type, stride or
    keyword is another program. Only the first call is copied, so that timed images are not slowed.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._calls: dict[tuple[int, ...], tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        shape = tuple(args[0].shape)
        if shape not in self._calls:
            # Copies: a captured graph writes its next inputs over these.
            self._calls[shape] = (_copied(args), _copied(kwargs))
        return self._inner(*args, **kwargs)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the first arguments that were seen."""
        return list(self._calls)

    def call(self, shape: tuple[int, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the first call whose first one had this shape."""
        if shape not in self._calls:
            raise LookupError(f"no image was made yet with inputs of {shape}; there were {self.shapes}")
        return self._calls[shape]

    def repeat(self, shape: tuple[int, ...]) -> Any:
        """Call again with what was kept."""
        args, kwargs = self.call(shape)
        return self._inner(*args, **kwargs)


def _copied(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_copied, value))
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return value.clone() if hasattr(value, "clone") else value


def like(array: Any, example: Any) -> Any:
    """A numpy array as a tensor of the example's type, on its device."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)).to(device=example.device, dtype=example.dtype)


def with_inputs(
    call: tuple[tuple[Any, ...], dict[str, Any]], inputs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a denoiser's call with other numbers in every tensor."""
    (sample, timestep, *rest), kwargs = call
    named = dict(kwargs)
    hidden = "encoder_hidden_states"
    named[hidden] = like(inputs[hidden], kwargs[hidden])
    if kwargs.get("added_cond_kwargs"):
        named["added_cond_kwargs"] = {
            name: like(inputs[name], tensor) for name, tensor in kwargs["added_cond_kwargs"].items()
        }
    return [like(inputs["sample"], sample), like(inputs["timestep"], timestep), *rest], named


def save_unet_output(unet: Kept, inputs: str, out: str) -> None:
    """Write what a pipeline's denoiser gives for other inputs."""
    import torch

    given = np.load(inputs)
    args, kwargs = with_inputs(unet.call(given["sample"].shape), given)
    with torch.no_grad():  # as the pipeline calls it: a compiled model knows
        save_output(unet(*args, **kwargs)[0], out)


def save_vae_output(decode: Kept, inputs: str, out: str) -> None:
    """Write what a pipeline's decoder gives for other latents."""
    import torch

    given = np.load(inputs)["latent_sample"]
    (latent, *_), kwargs = decode.call(given.shape)
    with torch.no_grad():  # as the pipeline calls it: a compiled model knows
        save_output(decode(like(given, latent), **kwargs)[0], out)


def save_output(output: Any, path: str) -> None:
    """Write a tensor as .npy in float32."""
    with Path(path).open("wb") as file:
        np.save(file, output.float().cpu().numpy())


def save_images(images: list[Any], path: str) -> None:
    """Write PIL images as one .npy, (B, H, W, 3) in 0…255."""
    with Path(path).open("wb") as file:
        np.save(file, np.stack([np.asarray(image.convert("RGB")) for image in images]))
