"""The components of a pipeline: where each lies in a checkpoint, and how its graph is authored.

A new component (a transformer denoiser, a ControlNet) is one entry in COMPONENTS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from onnxsd.models import clip, unet, unet_config, vae
from onnxsd.models.conditioning import Prepared, Projections
from onnxsd.ops import Ops, Target, Tensor, ops_for
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.tensors import Dim, DType, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """Everything that a component's graph depends on besides its sizes, target and precision."""

    component: Component
    # The content of the component's config.json.
    config: Mapping[str, Any]
    # How many time ids a request has (UNet with an added condition).
    time_ids: int = 6
    # What the VAE's residual stream is kept times.
    scale: float = 1.0

    def author(self, target: Target, dtype: DType, sizes: Mapping[str, Dim] | None = None) -> AuthoredGraph:
        """The component's graph; sizes that are not given stay symbolic under their own names."""
        wanted = sizes or {}
        bound = {name: wanted.get(name, Size.symbol(name)) for name in self.component.symbols}
        ops = ops_for(target, self.component.name, dtype)
        self.component.author(ops, self, bound)
        return ops.finish()


Author = Callable[[Ops, Blueprint, Mapping[str, Dim]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepwise:
    """A denoiser authored for a loop that calls it many times: what sees the latent, and what does not.

    `body` makes one call's output of its sample, over what `conditions` computes before the loop; it takes
    the sizes "calls", "batch" and "sequence".
    """

    body: Callable[[Ops, Blueprint, Tensor, Prepared], Tensor]
    conditions: Callable[[Ops, Blueprint, Projections, Mapping[str, int]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One model of a pipeline, as the exported folder names it."""

    name: str
    # The folder of its config.json and weights in a checkpoint, and the weights' file name without ending.
    source: str
    weights_name: str
    author: Author
    # The symbolic sizes of its inputs.
    symbols: tuple[str, ...]
    # Tensors of the same files that belong to another component; every other one is this one's to use.
    others: tuple[str, ...] = ()
    # Tensors of older checkpoints that are buffers, not weights.
    ignored: tuple[str, ...] = ()
    # What a tensor that other versions of diffusers or transformers saved is called here.
    rename: Callable[[str], str] = str
    # How a loop of steps calls it (denoisers).
    stepwise: Stepwise | None = None
    # Its pixels for latents that are divided by the scaling factor already (decoders).
    decode: Callable[[Ops, Blueprint, Tensor], Tensor] | None = None

    def owns(self, tensor: str) -> bool:
        """Whether a tensor of the checkpoint is this component's to use."""
        return not tensor.startswith(self.others) and not tensor.endswith(self.ignored or ("\0",))


def _unet(ops: Ops, blueprint: Blueprint, sizes: Mapping[str, Dim]) -> None:
    unet.author(ops, unet_config.parse(blueprint.config, time_ids=blueprint.time_ids), **sizes)


def _unet_body(ops: Ops, blueprint: Blueprint, sample: Tensor, prepared: Prepared) -> Tensor:
    config = unet_config.parse(blueprint.config, time_ids=blueprint.time_ids)
    return unet.author_body(ops, config, sample, prepared)


def _unet_conditions(ops: Ops, blueprint: Blueprint, wanted: Projections, sizes: Mapping[str, int]) -> None:
    config = unet_config.parse(blueprint.config, time_ids=blueprint.time_ids)
    unet.author_conditions(ops, config, wanted, **sizes)


def _vae_pixels(ops: Ops, blueprint: Blueprint, latents: Tensor) -> Tensor:
    return vae.decode(ops, vae.parse(blueprint.config), latents, scale=blueprint.scale)


def _vae_decoder(ops: Ops, blueprint: Blueprint, sizes: Mapping[str, Dim]) -> None:
    vae.author_decoder(ops, vae.parse(blueprint.config), **sizes, scale=blueprint.scale)


def _vae_encoder(ops: Ops, blueprint: Blueprint, sizes: Mapping[str, Dim]) -> None:
    vae.author_encoder(ops, vae.parse(blueprint.config), **sizes, scale=blueprint.scale)


def _text_encoder(ops: Ops, blueprint: Blueprint, sizes: Mapping[str, Dim]) -> None:
    clip.author(ops, clip.parse(blueprint.config), **sizes)


def _rename_vae(tensor: str) -> str:
    """Checkpoints made before diffusers 0.18 call the attention's parts by other names."""
    for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
        tensor = tensor.replace(f".attentions.0.{old}.", f".attentions.0.{new}.")
    return tensor


def _rename_text_encoder(tensor: str) -> str:
    """transformers 5 saves CLIPTextModel without the prefix that every published checkpoint has."""
    return (
        f"text_model.{tensor}"
        if tensor.startswith(("embeddings.", "encoder.", "final_layer_norm."))
        else tensor
    )


# transformers before 4.31 saved the positions 0…76 as a tensor.
_POSITION_IDS = ("embeddings.position_ids",)

# SDXL has two text encoders, which differ in their configurations only.
_TEXT_ENCODERS = tuple(
    Component(
        name=name,
        source=name,
        weights_name="model",
        author=_text_encoder,
        symbols=("batch", "sequence"),
        ignored=_POSITION_IDS,
        rename=_rename_text_encoder,
    )
    for name in ("text_encoder", "text_encoder_2")
)

COMPONENTS: tuple[Component, ...] = (
    *_TEXT_ENCODERS,
    Component(
        name="unet",
        source="unet",
        weights_name="diffusion_pytorch_model",
        author=_unet,
        symbols=("batch", "height", "width", "sequence"),
        stepwise=Stepwise(body=_unet_body, conditions=_unet_conditions),
    ),
    Component(
        name="vae_decoder",
        source="vae",
        weights_name="diffusion_pytorch_model",
        author=_vae_decoder,
        symbols=("batch", "height", "width"),
        others=("encoder.", "quant_conv."),
        rename=_rename_vae,
        decode=_vae_pixels,
    ),
    Component(
        name="vae_encoder",
        source="vae",
        weights_name="diffusion_pytorch_model",
        author=_vae_encoder,
        symbols=("batch", "height", "width"),
        others=("decoder.", "post_quant_conv."),
        rename=_rename_vae,
    ),
)


def component(name: str) -> Component:
    """The component called `name`."""
    return next(entry for entry in COMPONENTS if entry.name == name)
