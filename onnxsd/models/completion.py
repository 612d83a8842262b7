"""The JSON files of a checkpoint as complete as diffusers and transformers write them.

A configuration in the catalogue holds the keys that matter; `save_pretrained` writes every argument of the
class. A scheduler or a model class that the catalogue starts to use needs its defaults here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxsd.errors import ConfigurationError
from onnxsd.models import clip, unet_config, vae
from onnxsd.models.catalogue import MODELS, Pipeline
from onnxsd.tensors import DType

# Whose files these are: the versions that the tables below were read from.
DIFFUSERS_VERSION = "0.42.1"
TRANSFORMERS_VERSION = "5.23.0"

CLIP_DEFAULTS: Mapping[str, Any] = {
    **clip.DEFAULTS,
    "attention_dropout": 0.0,
    "bos_token_id": 49406,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "pad_token_id": 1,
}
_DIFFUSION: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 0,
}
_DDIM: Mapping[str, Any] = {
    **_DIFFUSION,
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "dynamic_thresholding_ratio": 0.995,
    "rescale_betas_zero_snr": False,
    "sample_max_value": 1.0,
    "set_alpha_to_one": True,
    "thresholding": False,
}
DIFFUSERS_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "UNet2DConditionModel": unet_config.DEFAULTS,
    "AutoencoderKL": vae.DEFAULTS,
    "PNDMScheduler": {**_DIFFUSION, "set_alpha_to_one": False, "skip_prk_steps": False},
    "DDIMScheduler": _DDIM,
    "EulerDiscreteScheduler": {
        **_DIFFUSION,
        "timestep_spacing": "linspace",
        "final_sigmas_type": "zero",
        "interpolation_type": "linear",
        "rescale_betas_zero_snr": False,
        "sigma_max": None,
        "sigma_min": None,
        "timestep_type": "discrete",
        "use_beta_sigmas": False,
        "use_exponential_sigmas": False,
        "use_karras_sigmas": False,
    },
    "LCMScheduler": {
        **_DDIM,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "original_inference_steps": 50,
        "timestep_scaling": 10.0,
    },
}
_TRANSFORMERS_DTYPES = {DType.FLOAT16: "float16", DType.FLOAT32: "float32"}


def complete(config: Mapping[str, Any], dtype: DType) -> dict[str, Any]:
    """A model's or a scheduler's configuration with every argument of its class.

    Args:
        config: the keys that matter, with `_class_name` or, for a text encoder, `architectures`.
        dtype: of the weights beside it, which transformers writes down.

    Raises:
        ConfigurationError: the defaults of this class are not known here.
    """
    if "architectures" in config:
        written = {"dtype": _TRANSFORMERS_DTYPES[dtype], "transformers_version": TRANSFORMERS_VERSION}
        return {**CLIP_DEFAULTS, **config, **written}
    name = str(config.get("_class_name"))
    if name not in DIFFUSERS_DEFAULTS:
        raise ConfigurationError(
            f"the defaults of class {name!r} are not known", hint=f"known are {', '.join(DIFFUSERS_DEFAULTS)}"
        )
    return {**DIFFUSERS_DEFAULTS[name], **config, "_diffusers_version": DIFFUSERS_VERSION}


def model_index(pipeline: Pipeline) -> dict[str, Any]:
    """model_index.json: the pipeline's class and settings, and the library and class of each part."""
    parts = {part: _library_and_class(pipeline.models.get(part)) for part in _possible_parts(pipeline)}
    for number in ("", "_2"):
        if f"text_encoder{number}" in parts:
            has = f"text_encoder{number}" in pipeline.models
            parts[f"tokenizer{number}"] = ["transformers", "CLIPTokenizer"] if has else [None, None]
    settings = dict(pipeline.settings)
    if not _is_xl(pipeline):
        # Without a safety checker diffusers warns unless the pipeline says that it needs none.
        settings["requires_safety_checker"] = False
    return {
        "_class_name": pipeline.pipeline_class,
        "_diffusers_version": DIFFUSERS_VERSION,
        **parts,
        "scheduler": ["diffusers", pipeline.scheduler["_class_name"]],
        **settings,
    }


def _is_xl(pipeline: Pipeline) -> bool:
    return pipeline.pipeline_class.startswith("StableDiffusionXL")


def _possible_parts(pipeline: Pipeline) -> tuple[str, ...]:
    """Every part but tokenizers and scheduler that the pipeline's class takes, whether it is there or not."""
    if _is_xl(pipeline):
        return (*MODELS, "feature_extractor", "image_encoder")
    one_encoder = tuple(part for part in MODELS if part != "text_encoder_2")
    return (*one_encoder, "feature_extractor", "image_encoder", "safety_checker")


def _library_and_class(config: Mapping[str, Any] | None) -> list[str | None]:
    if config is None:
        return [None, None]
    if "architectures" in config:
        return ["transformers", config["architectures"][0]]
    return ["diffusers", config["_class_name"]]
