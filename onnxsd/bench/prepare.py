"""What contenders run: a checkpoint on this machine, what is known of it, and its exports."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from onnxsd.bench.inputs import TOKENS, latent_factor
from onnxsd.bench.report import Case, Settings, Workload
from onnxsd.errors import BadInputError
from onnxsd.export import synthetic
from onnxsd.export.source import resolve
from onnxsd.models import catalogue
from onnxsd.models.components import Blueprint, component
from onnxsd.models.config import read_json
from onnxsd.models.families import FAMILIES, Family, family_of, with_own_defaults
from onnxsd.ops import Target
from onnxsd.ops.flops import count
from onnxsd.session import Provider
from onnxsd.tensors import DType

Say = Callable[[str], None]
INDEX = "model_index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A model that was asked for: a checkpoint by its name, or an architecture with random weights."""

    name: str
    random: bool = False
    # An export of it that is there already.
    export: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A checkpoint on this machine, ready for every contender."""

    name: str
    folder: Path
    weights: str
    pipeline: str
    family: Family
    factor: int
    checkpoint_s: float | None = None

    def steps(self, settings: Settings) -> int:
        """How many steps an image takes."""
        return self.family.steps if settings.steps is None else settings.steps

    def guidance_scale(self, settings: Settings) -> float:
        """How strictly the prompt is followed; above 1 each call has a row for the negative prompt too."""
        asked = settings.guidance_scale
        return self.family.guidance_scale if asked is None else asked

    def rows(self, case: Case, settings: Settings) -> int:
        """How many rows a call of the denoiser has."""
        return case.batch * (2 if self.guidance_scale(settings) > 1 else 1)

    def cases(self, settings: Settings) -> tuple[Case, ...]:
        """What is measured: by default one image of the model's own size."""
        sizes = settings.sizes_px or (self.family.native_size,)
        wrong = [size for size in sizes if size % self.factor]
        if wrong:
            raise BadInputError(f"a size of {wrong[0]} is no multiple of {self.factor}, as {self.name} needs")
        return tuple(Case(size_px=size, batch=batch) for size in sizes for batch in settings.batches)

    def workload(self, case: Case, settings: Settings) -> Workload:
        """The arithmetic of a case, counted from the authored graphs."""
        side = case.size_px // self.factor
        sizes = {"batch": self.rows(case, settings), "height": side, "width": side, "sequence": TOKENS}
        return Workload(
            case=case,
            unet_flops=self._flops("unet", "unet", sizes),
            vae_flops=self._flops("vae_decoder", "vae", {"batch": 1, "height": side, "width": side})
            * case.batch,
        )

    def _flops(self, name: str, part: str, sizes: dict[str, int]) -> int:
        blueprint = Blueprint(component=component(name), config=read_json(self.folder / part / "config.json"))
        # The portable target: whatever an engine computes in advance, the model asks for all of it.
        return count(blueprint.author(Target.PORTABLE, DType.FLOAT16, sizes)).total


def target_for(provider: Provider) -> tuple[Target, str]:
    """The target and the precision of an export for a provider."""
    return (Target.CUDA, "fp16") if provider is Provider.CUDA else (Target.PORTABLE, "fp32")


def find(wanted: Wanted, say: Say) -> Model:
    """The checkpoint of that name: an alias, a built-in model, a Hub id or a folder."""
    source = resolve(wanted.name, progress=say)
    return describe(source.folder, name=Path(source.name).name, weights=f"those of {Path(source.name).name}")


def describe(folder: Path, *, name: str, weights: str, checkpoint_s: float | None = None) -> Model:
    """What is known of a checkpoint in diffusers' layout.

    Raises:
        BadInputError: its pipeline is not one that makes images from a prompt alone.
    """
    index = read_json(folder / INDEX)
    pipeline = index.get("_class_name", "")
    family = family_of(pipeline, read_json(folder / "scheduler" / "scheduler_config.json"))
    if family is None or family.needs is not None:
        usable = ", ".join(known for known, entry in FAMILIES.items() if entry.needs is None)
        raise BadInputError(
            f"{folder} is a {pipeline}, which cannot be measured", hint=f"use one of {usable}"
        )
    factor = latent_factor(folder)
    sample = read_json(folder / "unet" / "config.json").get("sample_size")
    if isinstance(sample, int):
        family = replace(family, native_size=sample * factor)
    return Model(
        name=name,
        folder=folder,
        weights=weights,
        pipeline=pipeline,
        family=with_own_defaults(family, index, source=str(folder / INDEX)),
        factor=factor,
        checkpoint_s=checkpoint_s,
    )


def random_checkpoint(
    name: str, work: Path, initialise: Callable[[Path], str | None], say: Say, *, tiny: bool = False
) -> Model:
    """A checkpoint with random weights in the folder `work`, where one that is there is taken as it is.

    Args:
        name: of the catalogue.
        initialise: gives a folder's UNet and VAE their weights, and says which; None where it cannot.
        tiny: its narrow twin.
    """
    full = catalogue.load(name).name
    folder, note = work / full, work / f"{full}.weights"
    if folder.is_dir() and note.is_file():
        say(f"taking the checkpoint {folder}")
        return describe(folder, name=full, weights=note.read_text(encoding="utf-8").strip())
    if folder.exists():
        raise BadInputError(f"{folder} is in the way", hint="name another --work folder")
    say(f"writing a checkpoint of {full} with random weights")
    started = time.perf_counter()
    plan, unfinished = synthetic.plan(name, tiny=tiny), work / f"{full}.unfinished"
    # UNet and VAE are written once, by `initialise`.
    shapes = {part: {} if part in ("unet", "vae") else held for part, held in plan.shapes.items()}
    synthetic.write(replace(plan, shapes=shapes), unfinished, force=True)
    weights = initialise(unfinished)
    if weights is None:
        synthetic.write(plan, unfinished, force=True)
        weights = f"those of make_checkpoint.py, seed {plan.seed}"
    unfinished.rename(folder)
    note.write_text(weights + "\n", encoding="utf-8")
    return describe(folder, name=full, weights=weights, checkpoint_s=time.perf_counter() - started)
