"""Narrow twins keep a model's topology and fit each other; an inventory is what diffusers' models hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from onnxsd.errors import ConfigurationError, UsageError
from onnxsd.models import catalogue, clip, unet_config, vae
from onnxsd.models.catalogue import Pipeline
from onnxsd.models.components import COMPONENTS, Blueprint, component
from onnxsd.models.inventory import parameter_count, tensors
from onnxsd.models.twin import narrow, twin_of
from onnxsd.ops import EXPORTED, Target
from onnxsd.tensors import DType

NAMES = catalogue.names()
# How a block's norms see its channels, in every name of a group norm that the models have.
GROUP_NORMS = ("norm1", "norm2", "norm", "conv_norm_out", "group_norm")
# The only ops that are lowered by the width of their operands: BiasSplitGelu is compiled for five widths, and
# no fused attention takes the VAE's head of 512.
BY_WIDTH = {"geglu", "attention"}
PARTS = [(name, part) for name in NAMES for part in catalogue.load(name).models]


def lowerings(pipeline: Pipeline, name: str, target: Target) -> dict[str, set[str]]:
    """Which lowerings were chosen for each op of a component."""
    source = component(name)
    blueprint = Blueprint(component=source, config=pipeline.models[source.source], time_ids=pipeline.time_ids)
    return {op: set(chosen) for op, chosen in blueprint.author(target, DType.FLOAT16).lowerings.items()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", EXPORTED)
def test_a_twin_is_lowered_as_the_whole_model_is(name: str, target: Target) -> None:
    whole = catalogue.load(name)
    twin = twin_of(whole, depth=None)
    for entry in COMPONENTS:
        if entry.source in whole.models:
            expected, found = (lowerings(pipeline, entry.name, target) for pipeline in (whole, twin))
            assert expected.keys() == found.keys()
            differing = {op for op in expected if expected[op] != found[op]}
            assert differing <= BY_WIDTH


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_only_sizes_change(name: str, part: str) -> None:
    whole = catalogue.load(name).models[part]
    twin = narrow(whole, depth=None)
    sizes = {"block_out_channels", "norm_num_groups", "attention_head_dim", "cross_attention_dim"}
    sizes |= {"addition_time_embed_dim", "projection_class_embeddings_input_dim", "time_cond_proj_dim"}
    sizes |= {"hidden_size", "intermediate_size", "num_attention_heads", "projection_dim", "vocab_size"}

    assert {key for key in twin if key in whole and twin[key] != whole[key]} <= sizes
    assert set(whole) <= set(twin)
    for key in sizes & set(whole):
        assert isinstance(twin[key], type(whole[key])), (
            f"{key} is one number, or one for each stage, as before"
        )


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_twin_is_its_own_twin(name: str, part: str) -> None:
    twin = narrow(catalogue.load(name).models[part], depth=2)

    assert narrow(twin, depth=2) == twin


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_a_twin_fit_each_other(name: str) -> None:
    twin = twin_of(catalogue.load(name), depth=2)
    encoders = [clip.parse(twin.models[part]) for part in twin.models if part.startswith("text_encoder")]
    unet = unet_config.parse(twin.models["unet"], time_ids=twin.time_ids)

    assert unet.cross_attention_dim == sum(encoder.hidden_size for encoder in encoders)
    if unet.added is not None:
        assert unet.added.text_width == encoders[-1].projection_dim
    assert vae.parse(twin.models["vae"]).factor == 8
    assert vae.parse(twin.models["vae"]).latent_channels == unet.out_channels


@pytest.mark.parametrize("name", NAMES)
def test_kernels_can_take_a_twins_widths(name: str) -> None:
    """Every group norm has an even number of channels a group, every head a multiple of 8."""
    twin = twin_of(catalogue.load(name), depth=None)
    unet = unet_config.parse(twin.models["unet"], time_ids=twin.time_ids)
    for stage in (*unet.down, *unet.up, *([unet.mid] if unet.mid else [])):
        assert stage.channels // stage.heads % 8 == 0
    for part, groups in (
        ("unet", unet.norm_num_groups),
        ("vae", vae.parse(twin.models["vae"]).norm_num_groups),
    ):
        shapes = tensors(part, twin.models[part], time_ids=twin.time_ids)
        norms = {key: shape for key, shape in shapes.items() if is_group_norm(key)}
        assert norms
        assert all(shape[0] % (2 * groups) == 0 for shape in norms.values()), norms
    for part in twin.models:
        if part.startswith("text_encoder"):
            encoder = clip.parse(twin.models[part])
            assert encoder.hidden_size // encoder.heads % 8 == 0


def is_group_norm(tensor: str) -> bool:
    """Whether a tensor is a group norm's weight, and not a layer norm's in a transformer block."""
    owner, _, kind = tensor.rpartition(".")
    return (
        kind == "weight" and owner.rpartition(".")[2] in GROUP_NORMS and ".transformer_blocks." not in tensor
    )


def test_depth_caps_every_form_that_a_depth_has() -> None:
    unet = narrow(catalogue.load("ssd-1b").models["unet"], depth=2)
    assert unet["transformer_layers_per_block"] == [[0, 0], [2, 2], [2, 2]]
    assert unet["reverse_transformer_layers_per_block"] == [[2, 2, 2], [2, 1, 1], 1]
    assert narrow(catalogue.load("sdxl").models["unet"], depth=2)["transformer_layers_per_block"] == [1, 2, 2]
    refiner = catalogue.load("sdxl-refiner")
    assert narrow(refiner.models["unet"], depth=1)["transformer_layers_per_block"] == 1
    assert narrow(refiner.models["text_encoder_2"], depth=2)["num_hidden_layers"] == 2


def test_no_depth_keeps_all_layers() -> None:
    whole = catalogue.load("sdxl")
    twin = twin_of(whole, depth=None)
    for key in ("transformer_layers_per_block", "layers_per_block"):
        assert twin.models["unet"][key] == whole.models["unet"][key]
    assert twin.models["text_encoder_2"]["num_hidden_layers"] == 32


@pytest.mark.parametrize(
    ("before", "after"), [(2, 2), (49407, 999)], ids=["the largest id", "the id that is named"]
)
def test_the_convention_of_the_end_of_text_stays(before: int, after: int) -> None:
    config = {
        **catalogue.load("sd-1.5").models["text_encoder"],
        "bos_token_id": 49406,
        "eos_token_id": before,
    }
    twin = narrow(config, depth=2)

    assert (twin["vocab_size"], twin["eos_token_id"], twin["bos_token_id"]) == (1000, after, 998)
    expected, found = clip.parse(config).eos_token_id, clip.parse(twin).eos_token_id
    assert (expected is None) is (found is None)


def test_absent_keys_are_narrowed_as_their_defaults() -> None:
    twin = narrow({"_class_name": "UNet2DConditionModel"}, depth=1)

    assert twin["block_out_channels"] == [16, 32, 48, 48]
    assert twin["cross_attention_dim"] == 40
    assert tensors("unet", twin)["conv_in.weight"] == (16, 4, 3, 3)


def test_a_width_that_the_published_models_lack() -> None:
    unet = {
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": [224, 448, 672, 896],
        "cross_attention_dim": 900,
        "attention_head_dim": [7, 14, 21, 28],
        "time_embedding_dim": 1000,
    }
    twin = narrow(unet, depth=None)

    assert twin["block_out_channels"] == [16, 32, 48, 64]
    assert (twin["cross_attention_dim"], twin["time_embedding_dim"]) == (32, 64)
    assert unet_config.parse(twin).down[3].heads == 8


@pytest.mark.parametrize(
    "config", [{"_class_name": "AutoencoderDC"}, {"architectures": ["T5EncoderModel"]}, {}]
)
def test_a_class_without_a_twin_is_an_error_that_names_it(config: Mapping[str, Any]) -> None:
    name = config.get("_class_name") or config.get("architectures", [None])[0]
    with pytest.raises(ConfigurationError, match=repr(str(name))):
        narrow(config, depth=1)


@pytest.mark.parametrize("name", ["sdxl-base-2.0", "", "../config"])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        catalogue.load(name)
    for known in (*NAMES, *catalogue.SHORT_NAMES):
        assert known in str(caught.value)


def test_every_short_name_leads_to_a_configuration() -> None:
    for short, name in catalogue.SHORT_NAMES.items():
        assert catalogue.load(short).name == name
    assert catalogue.load("SDXL").pipeline_class == "StableDiffusionXLPipeline"


# Published, in millions; SSD-1B's authors say 1.3 B.
PARAMETERS = {
    ("sdxl-base-1.0", "unet"): 2567.46,
    ("sdxl-base-1.0", "text_encoder"): 123.06,
    ("sdxl-base-1.0", "text_encoder_2"): 694.66,
    ("sdxl-base-1.0", "vae"): 83.65,
    ("sd-1.5", "unet"): 859.52,
    ("sd-1.5-inpainting", "unet"): 859.54,
    ("sd-2.1", "unet"): 865.91,
    ("sd-2.1", "text_encoder"): 340.39,
    ("ssd-1b", "unet"): 1331.33,
}


@pytest.mark.parametrize(("name", "part"), PARAMETERS)
def test_a_whole_model_has_the_published_number_of_parameters(name: str, part: str) -> None:
    pipeline = catalogue.load(name)
    shapes = tensors(part, pipeline.models[part], time_ids=pipeline.time_ids)

    assert round(parameter_count(shapes) / 1e6, 2) == PARAMETERS[name, part]
    assert all(math.prod(shape) for shape in shapes.values())


@pytest.mark.reference
@pytest.mark.parametrize("size", ["whole", "tiny"])
@pytest.mark.parametrize(("name", "part"), PARTS)
def test_an_inventory_is_what_the_reference_holds(name: str, part: str, size: str) -> None:
    """Every tensor by name and shape; the reference's models are made without memory."""
    pipeline = catalogue.load(name)
    pipeline = pipeline if size == "whole" else twin_of(pipeline, depth=2)
    expected = reference_shapes(part, pipeline.models[part])

    assert tensors(part, pipeline.models[part], time_ids=pipeline.time_ids) == expected


def reference_shapes(part: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of diffusers' or transformers' model, by its published name."""
    import diffusers
    import torch
    import transformers

    with torch.device("meta"):
        if "architectures" in config:
            settings = transformers.CLIPTextConfig(**config)
            model = getattr(transformers, config["architectures"][0])(settings)
        else:
            model = getattr(diffusers, config["_class_name"]).from_config(dict(config))
    rename = next(entry.rename for entry in COMPONENTS if entry.source == part)
    return {rename(key): tuple(tensor.shape) for key, tensor in model.state_dict().items()}
