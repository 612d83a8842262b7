"""Which tensors a checkpoint of some architecture holds: what its graphs ask for, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from onnxsd.models.components import COMPONENTS, Blueprint
from onnxsd.ops import Target
from onnxsd.tensors import DType


def tensors(part: str, config: Mapping[str, Any], *, time_ids: int = 6) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a checkpoint's part, by its published name.

    Args:
        part: the folder in the checkpoint, such as "unet"; "vae" holds decoder and encoder.
        config: the content of its config.json.
        time_ids: as for `unet_config.parse`.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for component in COMPONENTS:
        if component.source == part:
            blueprint = Blueprint(component=component, config=config, time_ids=time_ids)
            graph = blueprint.author(Target.PORTABLE, DType.FLOAT32)
            shapes.update((recipe.source, recipe.source_shape) for recipe in graph.recipes)
    return shapes


def parameter_count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers the tensors hold together."""
    return sum(math.prod(shape) for shape in shapes.values())
