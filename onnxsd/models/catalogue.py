"""The pipelines whose architecture is known here: each NAME is one file in `configurations/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsd.errors import UsageError
from onnxsd.models.config import read_json

FOLDER = Path(__file__).parent / "configurations"
# The short names of `onnxsd models` that stand for an architecture in the catalogue.
SHORT_NAMES: Mapping[str, str] = {
    "sdxl": "sdxl-base-1.0",
    "sdxl-turbo": "sdxl-base-1.0",
    "sdxl-refiner": "sdxl-refiner-1.0",
    "sd15": "sd-1.5",
    "sd21": "sd-2.1",
}
MODELS = ("text_encoder", "text_encoder_2", "unet", "vae")
# What model_index.json says of a pipeline besides its parts.
SETTINGS = ("force_zeros_for_empty_prompt", "requires_aesthetics_score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One pipeline's architecture: diffusers' class, and what each part's config.json says."""

    name: str
    pipeline_class: str
    # By the part's folder in a checkpoint; a part that the pipeline lacks is not here.
    models: Mapping[str, Mapping[str, Any]]
    scheduler: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def time_ids(self) -> int:
        """How many time ids a request has: the refiner's score stands in the place of two sizes."""
        return 5 if self.settings.get("requires_aesthetics_score") else 6


def names() -> tuple[str, ...]:
    """Every NAME of the catalogue, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def load(name: str) -> Pipeline:
    """The pipeline called `name`, which may also be a short name.

    Raises:
        UsageError: there is none; the message lists those that are there.
    """
    known = names()
    full = SHORT_NAMES.get(name.lower(), name.lower())
    if full not in known:
        raise UsageError(
            f"there is no configuration called {name!r}",
            hint=f"known are {', '.join(known)}; short names are {', '.join(SHORT_NAMES)}",
        )
    content = read_json(FOLDER / f"{full}.json")
    return Pipeline(
        name=full,
        pipeline_class=content["pipeline"],
        models={part: content[part] for part in MODELS if content.get(part) is not None},
        scheduler=content["scheduler"],
        settings={key: content[key] for key in SETTINGS if key in content},
    )
