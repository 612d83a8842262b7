"""A config.json is read as diffusers and transformers write it; a value without a graph is an error."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from onnxsd.errors import ConfigurationError, ResourceError
from onnxsd.models import catalogue, clip, unet_config, vae
from onnxsd.models.completion import CLIP_DEFAULTS, DIFFUSERS_DEFAULTS, complete
from onnxsd.models.config import read_json
from onnxsd.tensors import DType

PARTS = [(name, part) for name in catalogue.names() for part in catalogue.load(name).models]
SCHEDULERS = tuple(name for name in DIFFUSERS_DEFAULTS if name.endswith("Scheduler"))
# Keys of the files' writers.
WRITERS = {"_diffusers_version", "transformers_version", "dtype"}

Config = Mapping[str, Any]

# For every key that only its default is supported of: another value that its class takes or once took.
UNET_UNSUPPORTED: Config = {
    "center_input_sample": True,
    "only_cross_attention": [True, True, True, True],
    "downsample_padding": 0,
    "mid_block_scale_factor": 2,
    "act_fn": "gelu",
    "encoder_hid_dim": 768,
    "encoder_hid_dim_type": "text_proj",
    "num_attention_heads": 8,
    "dual_cross_attention": True,
    "class_embed_type": "timestep",
    "num_class_embeds": 1000,
    "resnet_time_scale_shift": "scale_shift",
    "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 0.5,
    "time_embedding_type": "fourier",
    "time_embedding_act_fn": "silu",
    "timestep_post_act": "silu",
    "conv_in_kernel": 5,
    "conv_out_kernel": 5,
    "attention_type": "gated",
    "class_embeddings_concat": True,
    "cross_attention_norm": "layer_norm",
}
VAE_UNSUPPORTED: Config = {
    "act_fn": "relu",
    "shift_factor": 0.1159,
    "latents_mean": [0.0, 0.0, 0.0, 0.0],
    "latents_std": [1.0, 1.0, 1.0, 1.0],
}
# Keys that take several values, at one that has no graph.
OTHER_UNSUPPORTED: tuple[tuple[str, str, Any], ...] = (
    ("unet", "down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["AttnDownBlock2D"]),
    ("unet", "up_block_types", ["UpBlock2D", "SimpleCrossAttnUpBlock2D"] + ["CrossAttnUpBlock2D"] * 2),
    ("unet", "mid_block_type", "UNetMidBlock2DSimpleCrossAttn"),
    ("unet", "addition_embed_type", "image"),
    ("unet", "cross_attention_dim", [768, 768, 1024, 1024]),
    ("unet", "block_out_channels", [320, 640, 0, 1280]),
    ("unet", "layers_per_block", [2, 2]),
    ("unet", "attention_head_dim", [7, 7, 7, 7]),
    ("unet", "attention_head_dim", [0, 8, 8, 8]),
    ("unet", "attention_head_dim", [None, 8, 8, 8]),
    ("unet", "transformer_layers_per_block", [1, 1, [1, 2, 3], 1]),
    ("unet", "transformer_layers_per_block", [None, 1, 1, 1]),
    ("unet", "down_block_types", [["DownBlock2D"]] * 4),
    ("unet", "norm_eps", "1e-5"),
    ("unet", "freq_shift", None),
    ("vae", "scaling_factor", None),
    ("vae", "scaling_factor", math.nan),
    ("vae", "down_block_types", ["DownEncoderBlock2D"] * 3 + ["AttnDownEncoderBlock2D"]),
    ("vae", "latent_channels", "4"),
    ("text_encoder", "hidden_act", "relu"),
    ("text_encoder", "model_type", "t5"),
    ("text_encoder", "architectures", ["CLIPModel"]),
    ("text_encoder", "architectures", [["CLIPTextModel"]]),
    ("text_encoder", "layer_norm_eps", None),
    ("text_encoder", "eos_token_id", [2, 3]),
    ("text_encoder", "num_attention_heads", 7),
)


def parser_of(part: str, time_ids: int = 6) -> Callable[[Config], Any]:
    """What reads a part's config.json."""
    if part == "unet":
        return lambda config: unet_config.parse(config, time_ids=time_ids)
    return vae.parse if part == "vae" else clip.parse


def config_of(part: str) -> dict[str, Any]:
    """Stable Diffusion 1.5's configuration of a part, complete."""
    return complete(catalogue.load("sd-1.5").models[part], DType.FLOAT16)


@pytest.mark.parametrize(("part", "table"), [("unet", UNET_UNSUPPORTED), ("vae", VAE_UNSUPPORTED)])
def test_every_key_that_must_be_at_its_default_is_tried(part: str, table: Config) -> None:
    assert set(table) == set({"unet": unet_config, "vae": vae}[part].DEFAULT_ONLY)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        *(("unet", key, value) for key, value in UNET_UNSUPPORTED.items()),
        *(("vae", key, value) for key, value in VAE_UNSUPPORTED.items()),
        *OTHER_UNSUPPORTED,
    ],
)
def test_a_value_without_a_graph_is_an_error_that_names_it(part: str, key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parser_of(part)({**config_of(part), key: value})

    assert f"{key} = {json.dumps(value)} is not supported" in str(caught.value)


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_key_at_its_default_may_be_absent(name: str, part: str) -> None:
    pipeline = catalogue.load(name)
    parse = parser_of(part, pipeline.time_ids)
    full = complete(pipeline.models[part], DType.FLOAT32)
    defaults = DIFFUSERS_DEFAULTS.get(full.get("_class_name", ""), CLIP_DEFAULTS)
    at_default = {key for key in defaults if as_json(full[key]) == as_json(defaults[key])}
    assert at_default

    assert parse({key: value for key, value in full.items() if key not in at_default}) == parse(full)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_keys_of_the_writers_and_of_later_versions_are_accepted(part: str) -> None:
    config = config_of(part)
    others = {"_name_or_path": "somewhere", "_use_default_values": ["dropout"], "_commit_hash": None}

    assert parser_of(part)({**config, **others}) == parser_of(part)(config)


def test_the_default_may_be_written_in_other_forms() -> None:
    config = config_of("unet")
    others = {"only_cross_attention": [False] * 4, "resnet_out_scale_factor": 1, "freq_shift": 0.0}

    assert unet_config.parse({**config, **others}) == unet_config.parse(config)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not JSON"),
        (b'{"in_channels": 4,}', "is not JSON"),
        (b"<html>404</html>", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[1, 2]", "holds a list"),
    ],
)
def test_a_file_that_is_no_configuration(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        read_json(tmp_path / "config.json")
    with pytest.raises(ResourceError, match="cannot read"):
        read_json(tmp_path)


def test_no_defaults_are_invented_for_an_unknown_class() -> None:
    with pytest.raises(ConfigurationError, match="'UNet3DConditionModel'"):
        complete({"_class_name": "UNet3DConditionModel"}, DType.FLOAT16)


# What the reference writes.


@pytest.mark.reference
@pytest.mark.parametrize(("name", "part"), PARTS)
def test_what_the_reference_writes_is_read(name: str, part: str, tmp_path: Path) -> None:
    """Both ways: our complete file is the reference's, and the reference's means what the catalogue says."""
    pipeline = catalogue.load(name)
    config, parse = pipeline.models[part], parser_of(part, pipeline.time_ids)
    saved = saved_by_reference(config, tmp_path)

    assert without_writers(saved) == without_writers(as_json(complete(config, DType.FLOAT32)))
    assert parse(saved) == parse(config)


@pytest.mark.reference
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_class_at_its_defaults_is_read_as_an_empty_file(part: str, tmp_path: Path) -> None:
    identity = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    config = {"_class_name": identity[part]} if part in identity else {"architectures": ["CLIPTextModel"]}
    saved = saved_by_reference(config, tmp_path)

    assert len(saved) > 15
    assert parser_of(part)(saved) == parser_of(part)({})


@pytest.mark.reference
@pytest.mark.parametrize("name", DIFFUSERS_DEFAULTS)
def test_the_defaults_are_those_of_the_class(name: str) -> None:
    import diffusers

    arguments = inspect.signature(getattr(diffusers, name).__init__).parameters
    expected = {key: entry.default for key, entry in arguments.items() if key != "self"}

    assert as_json(DIFFUSERS_DEFAULTS[name]) == as_json(expected)


def saved_by_reference(config: Config, folder: Path) -> dict[str, Any]:
    """The config.json that diffusers or transformers writes for a model, which is made without memory."""
    import diffusers
    import torch
    import transformers

    if "architectures" in config:
        transformers.CLIPTextConfig(**config).save_pretrained(folder)
    else:
        with torch.device("meta"):
            model = getattr(diffusers, config["_class_name"]).from_config(dict(config))
        model.save_config(folder)
    return read_json(folder / "config.json")


def without_writers(config: Config) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in WRITERS}


def as_json(value: Any) -> Any:
    """A value as it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(value))
