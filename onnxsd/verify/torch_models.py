"""The reference: a checkpoint's own models in float32, as diffusers and transformers run them.

torch is imported in functions only; it comes with the `reference` extra.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.errors import NotReadyError
from onnxsd.models.components import component
from onnxsd.models.config import read_json
from onnxsd.tensors import DType
from onnxsd.weights.tensor_file import TensorFile

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One model of a checkpoint: the folder of its config.json, its weights, and their variant if any."""

    folder: Path
    weights: tuple[Path, ...]
    variant: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint on this machine: its folder, and its models by their names in it ("unet", "vae")."""

    folder: Path
    parts: Mapping[str, Part]

    @property
    def parameter_count(self) -> int:
        """How many numbers all models together hold."""
        return sum(_parameter_count(path) for part in self.parts.values() for path in part.weights)


def _parameter_count(path: Path) -> int:
    file = TensorFile(path)
    try:
        return sum(math.prod(entry.shape) for entry in file.entries.values())
    finally:
        file.close()


def require() -> None:
    """Refuse to compare where torch, diffusers or transformers cannot be imported."""
    try:
        for name in ("torch", "transformers", "diffusers"):
            importlib.import_module(name)
    except ImportError as error:
        raise NotReadyError(
            f"a comparison with diffusers needs torch, diffusers and transformers: {error}",
            hint="pip install 'onnxsd[reference]'",
        ) from error


def outputs(
    checkpoint: Checkpoint, name: str, runs: Sequence[Feeds], *, dtype: DType = DType.FLOAT32
) -> list[dict[str, Array]]:
    """What the reference computes in `dtype` for each run of a component, by the exported outputs' names.

    The model is loaded for this and let go afterwards.
    """
    import torch

    with quiet(), torch.inference_mode():
        model = load(checkpoint.parts[component(name).source])
        if dtype is DType.FLOAT16:
            model = model.half()
        return [_numpy(_FORWARD[name](model, _tensors(feeds, dtype))) for feeds in runs]


def load(part: Part) -> Any:
    """A model in float32, ready to run; numbers are widened after loading, from whatever type they have."""
    import diffusers
    import torch
    import transformers

    config = read_json(part.folder / "config.json")
    library, names = (
        (transformers, config["architectures"])
        if "architectures" in config
        else (diffusers, [config["_class_name"]])
    )
    model = getattr(library, names[0]).from_pretrained(
        part.folder, variant=part.variant, use_safetensors=True, local_files_only=True
    )
    return model.to(torch.float32).eval()


@contextmanager
def quiet() -> Iterator[None]:
    """The libraries' progress bars, notes and warnings are held back: a user can do nothing about them."""
    import diffusers.utils.logging
    import transformers.utils.logging

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    levels = [library.get_verbosity() for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity_error()
            library.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


def _tensors(feeds: Feeds, dtype: DType) -> dict[str, Any]:
    """The inputs as tensors; floating-point ones in `dtype`."""
    import torch

    cast = {
        name: array.astype(dtype.numpy_name) if array.dtype.kind == "f" else array
        for name, array in feeds.items()
    }
    return {name: torch.from_numpy(np.asarray(array)) for name, array in cast.items()}


def _numpy(named: Mapping[str, Any]) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in named.items()}


def _unet(model: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
    added = {name: feeds[name] for name in ("text_embeds", "time_ids") if name in feeds}
    answer = model(
        feeds["sample"], feeds["timestep"], feeds["encoder_hidden_states"], added_cond_kwargs=added or None
    )
    return {"out_sample": answer.sample}


def _vae_decoder(model: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
    return {"sample": model.decode(feeds["latent_sample"]).sample}


def _vae_encoder(model: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
    return {"latent_parameters": model.encode(feeds["sample"]).latent_dist.parameters}


def _text_encoder(model: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
    answer = model(input_ids=feeds["input_ids"], output_hidden_states=True)
    named = {
        name: answer[name]
        for name in ("last_hidden_state", "pooler_output", "text_embeds")
        if answer.get(name) is not None
    }
    # The last of transformers' hidden states is the last layer's output, which no pipeline takes.
    return named | {f"hidden_states.{index}": state for index, state in enumerate(answer.hidden_states[:-1])}


_FORWARD: Mapping[str, Callable[[Any, Mapping[str, Any]], dict[str, Any]]] = {
    "text_encoder": _text_encoder,
    "text_encoder_2": _text_encoder,
    "unet": _unet,
    "vae_decoder": _vae_decoder,
    "vae_encoder": _vae_encoder,
}
