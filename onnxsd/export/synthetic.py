"""Random checkpoints in diffusers' layout, for tests and measurements without a trained model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsd.export.placing import new_folder
from onnxsd.models import catalogue, completion
from onnxsd.models.catalogue import Pipeline
from onnxsd.models.inventory import tensors
from onnxsd.models.twin import twin_of
from onnxsd.prompt.vocabulary import END, write_tokenizer
from onnxsd.tensors import DType
from onnxsd.weights import random_checkpoint
from onnxsd.weights.random_checkpoint import Shapes

# Enough for a second transformer block and for a text encoder's hidden_states[-2] to be a layer's output.
TINY_DEPTH = 2
# Configurations and tokenizers: 1.5 MB at most.
REST_BYTES = 4_000_000
# What OpenAI's tokenizer and OpenCLIP's pad with; OpenCLIP's encoders are those with an exact gelu.
PAD_TOKENS = {"quick_gelu": END, "gelu": "!"}
TRANSFORMERS_WEIGHTS = "model.safetensors"
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCheckpoint:
    """What to write: a pipeline, every tensor of its models, and how their numbers are made."""

    pipeline: Pipeline
    shapes: Mapping[str, Shapes]
    seed: int
    dtype: DType

    @property
    def size_bytes(self) -> int:
        """Bytes of the weights on disk."""
        return sum(random_checkpoint.file_size_bytes(shapes, self.dtype) for shapes in self.shapes.values())


def plan(name: str, *, tiny: bool = False, seed: int = 0, dtype: DType = DType.FLOAT16) -> RandomCheckpoint:
    """The random checkpoint of a pipeline in the catalogue, or of its narrow twin.

    Raises:
        UsageError: no pipeline has this name.
    """
    pipeline = catalogue.load(name)
    if tiny:
        pipeline = twin_of(pipeline, depth=TINY_DEPTH)
    shapes = {
        part: tensors(part, config, time_ids=pipeline.time_ids) for part, config in pipeline.models.items()
    }
    return RandomCheckpoint(pipeline=pipeline, shapes=shapes, seed=seed, dtype=dtype)


def write(
    checkpoint: RandomCheckpoint,
    out: Path,
    *,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the checkpoint into the folder `out`, which appears whole or not at all.

    Weights get the names that diffusers reads without a `variant`, whatever their precision.

    Args:
        force: replace a checkpoint that is there.
        progress: is told each part before it is written.

    Raises:
        UsageError: `out` exists and may not be replaced.
        ResourceError: the disk is too small, or `out` cannot be written.
    """
    pipeline, dtype = checkpoint.pipeline, checkpoint.dtype
    with new_folder(out, needed_bytes=checkpoint.size_bytes + REST_BYTES, force=force) as folder:
        _write_json(folder / "model_index.json", completion.model_index(pipeline))
        scheduler = completion.complete(pipeline.scheduler, dtype)
        _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
        for part, config in pipeline.models.items():
            progress(part)
            _write_json(folder / part / "config.json", completion.complete(config, dtype))
            weights = folder / part / _weights_name(config)
            shapes = checkpoint.shapes[part]
            random_checkpoint.write_random(weights, shapes, scope=part, seed=checkpoint.seed, dtype=dtype)
            if part.startswith("text_encoder"):
                _write_tokenizer(folder / part.replace("text_encoder", "tokenizer"), config)


def _weights_name(config: Mapping[str, Any]) -> str:
    return TRANSFORMERS_WEIGHTS if "architectures" in config else DIFFUSERS_WEIGHTS


def _write_tokenizer(folder: Path, config: Mapping[str, Any]) -> None:
    write_tokenizer(
        folder,
        vocab_size=config["vocab_size"],
        pad_token=PAD_TOKENS[config["hidden_act"]],
        max_length=config["max_position_embeddings"],
    )


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON as diffusers and transformers do: sorted, two spaces, a newline at the end."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
