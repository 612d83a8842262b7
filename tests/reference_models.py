"""torch's models with random weights, as the references of authored graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.models.components import Blueprint, component
from onnxsd.ops import Target
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.tensors import DType, evaluate

Array = npt.NDArray[Any]
Sizes = Mapping[str, int]
# Standard deviation of a layer's random weights, times √fan-in: what keeps activations near 1 in each class,
# so that neither float32's nor float16's rounding is amplified by a network that nobody trained.
GAINS = {"UNet2DConditionModel": 0.8}


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """A component with random weights, in torch and as a blueprint for authoring."""

    name: str
    component: str
    config: Mapping[str, Any]
    time_ids: int = 6
    scale: float = 1.0
    # What torch made of each size, for all targets and precisions to be held against.
    _expected: dict[tuple[int, ...], dict[str, Array]] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def blueprint(self) -> Blueprint:
        return Blueprint(
            component=component(self.component), config=self.config, time_ids=self.time_ids, scale=self.scale
        )

    @cached_property
    def model(self) -> Any:
        """The torch model, in float32 and evaluation mode."""
        return randomized(torch_model(self.config))

    @cached_property
    def tensors(self) -> dict[str, Array]:
        """The checkpoint's tensors that are this component's, by the names that models use."""
        place = component(self.component)
        named = {place.rename(name): tensor for name, tensor in self.model.state_dict().items()}
        return {name: tensor.numpy() for name, tensor in named.items() if place.owns(name)}

    def author(self, target: Target, dtype: DType, sizes: Mapping[str, int] | None = None) -> AuthoredGraph:
        return self.blueprint.author(target, dtype, sizes)

    def feeds(self, graph: AuthoredGraph, sizes: Sizes) -> dict[str, Array]:
        """Random inputs whose numbers float16 holds exactly."""
        generator = np.random.default_rng(sum(sizes.values()))
        return {name: self._feed(name, evaluate(shape, sizes), generator) for name, _, shape in graph.inputs}

    def _feed(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        if name == "input_ids":
            return prompts(self.config, shape, generator)
        if name == "timestep":
            return np.asarray(generator.integers(0, 1000), np.float32)
        if name == "time_ids":
            return generator.integers(0, 256, shape).astype(np.float32) * 4
        return generator.standard_normal(shape).astype(np.float16).astype(np.float32)

    def expected(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What torch makes of the inputs, by the graph's output names."""
        import torch

        # Inputs follow from their sizes.
        key = tuple(size for name in sorted(feeds) for size in feeds[name].shape)
        if key not in self._expected:
            with torch.no_grad():
                given = {name: torch.from_numpy(np.asarray(array)) for name, array in feeds.items()}
                outputs = REFERENCES[self.component](self.model, given)
            self._expected[key] = {name: tensor.numpy() for name, tensor in outputs.items()}
        return self._expected[key]

    def forget_expected(self) -> None:
        """Let go of what torch made, because the model was changed."""
        self._expected.clear()

    def forget(self) -> None:
        """Let the torch model and its weights go."""
        for name in ("model", "tensors"):
            self.__dict__.pop(name, None)


def torch_model(config: Mapping[str, Any]) -> Any:
    """The class that the configuration names, with weights that are not set yet."""
    import diffusers
    import torch
    import transformers

    if "architectures" in config:
        settings = {key: value for key, value in config.items() if key not in ("architectures", "model_type")}
        return getattr(transformers, config["architectures"][0])(transformers.CLIPTextConfig(**settings))
    # On no device first, since the weights that a class begins with are never looked at.
    with torch.device("meta"):
        model = getattr(diffusers, config["_class_name"]).from_config(config)
    assert not list(model.buffers()), "what is not a weight would stay without a value"
    return model.to_empty(device="cpu")


def randomized(model: Any) -> Any:
    """The model with every parameter drawn anew, norms and biases included, so that each matters."""
    import torch

    gain = GAINS.get(type(model).__name__, 1.0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        spread = 0.1 if parameter.ndim == 1 else gain * parameter[0].numel() ** -0.5
        centre = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
        parameter.data.normal_(centre, spread, generator=generator)
    return model.float().eval()


def prompts(config: Mapping[str, Any], shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Token ids with an end in another place for each, and after it either padding or ends again."""
    ending = config["vocab_size"] - 1 if config["eos_token_id"] == 2 else config["eos_token_id"]
    # Larger ids than the end's are legal where the end has an id of its own.
    ids = generator.integers(3, config["vocab_size"] - 1, shape)
    ids[ids == ending] = 3
    for row, entry in enumerate(ids):
        entry[(7 * row + 5) % shape[1] :: 1 if row % 2 else shape[1]] = ending
    return ids


def _unet(model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    names = ("text_embeds", "time_ids")
    added = {name: given[name] for name in names if name in given}
    result = model(
        given["sample"], given["timestep"], given["encoder_hidden_states"],
        timestep_cond=given.get("timestep_cond"), added_cond_kwargs=added or None,
    )  # fmt: skip
    return {"out_sample": result.sample}


def _text_encoder(model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    result = model(given["input_ids"], output_hidden_states=True)
    layers = {f"hidden_states.{index}": state for index, state in enumerate(result.hidden_states[:-1])}
    pooled = "text_embeds" if hasattr(result, "text_embeds") else "pooler_output"
    return {"last_hidden_state": result.last_hidden_state, pooled: result[pooled], **layers}


REFERENCES = {
    "unet": _unet,
    "text_encoder": _text_encoder,
    "text_encoder_2": _text_encoder,
    "vae_decoder": lambda model, given: {"sample": model.decode(given["latent_sample"]).sample},
    "vae_encoder": lambda model, given: {
        "latent_parameters": model.encode(given["sample"]).latent_dist.parameters
    },
}
