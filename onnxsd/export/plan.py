"""What an export will do, decided and proved before a byte is written."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsd.artifact.manifest import LatentRecord
from onnxsd.errors import BadInputError, UsageError, VerificationError, WeightsError
from onnxsd.export.selection import WEIGHT_STEMS
from onnxsd.export.source import Source
from onnxsd.models import unet_config, vae
from onnxsd.models.components import COMPONENTS, Blueprint
from onnxsd.models.config import read_json
from onnxsd.ops import EXPORTED, Target
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.tensors import DType
from onnxsd.verify.calibrate import calibrate
from onnxsd.weights.checkpoint import WeightSource
from onnxsd.weights.stream import layout

# Room for configurations, tokenizers, graphs and the manifest beside the weights.
OTHER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One component to be written."""

    blueprint: Blueprint
    config_path: Path
    weights: tuple[Path, ...]
    graph: AuthoredGraph
    # The peak that the VAE's scale was chosen for; None where nothing was calibrated.
    peak: float | None

    @property
    def name(self) -> str:
        """The component's name."""
        return self.blueprint.component.name

    @contextlib.contextmanager
    def open_weights(self) -> Iterator[WeightSource]:
        """The component's tensors; an error about one of them names the component."""
        component = self.blueprint.component
        try:
            with WeightSource(self.weights, rename=component.rename, owns=component.owns) as source:
                yield source
        except WeightsError as error:
            raise WeightsError(f"{self.name}: {error.message}", hint=error.hint) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """A whole export: every graph is authored, every weight is where it should be."""

    source: Source
    index: Mapping[str, Any]
    parts: tuple[Part, ...]
    latent: LatentRecord
    target: Target
    precision: DType
    # The VAE that was asked for in place of the checkpoint's own.
    vae_folder: Path | None

    @property
    def size_bytes(self) -> int:
        """Bytes that the folder will need."""
        return OTHER_BYTES + sum(layout(part.graph.recipes)[1] for part in self.parts)


def make(source: Source, *, target: Target, precision: DType, vae_folder: Path | None = None) -> ExportPlan:
    """The plan for a checkpoint.

    Raises:
        UsageError: a target whose operators a plain ONNX Runtime does not have.
        ConfigurationError: a configuration that is not supported; the value is named.
        WeightsError: weights that are missing, misshapen or left over; each is named.
    """
    if target not in EXPORTED:
        raise UsageError(
            f"no file is written in {target.value}: only this package's own sessions run its operators",
            hint=f"export in {' or '.join(each.value for each in EXPORTED)}",
        )
    index = _index(source)
    parts = tuple(
        _part(blueprint, config, weights, target, precision)
        for blueprint, config, weights in _blueprints(source, index, vae_folder)
    )
    if not {"unet", "vae_decoder"} <= {part.name for part in parts}:
        raise BadInputError(
            f"{source.folder} has no unet or no vae",
            hint="only pipelines with a UNet and an AutoencoderKL are exported",
        )
    latent = _latent(source, {part.name: part.blueprint for part in parts})
    return ExportPlan(
        source=source,
        index=index,
        parts=parts,
        latent=latent,
        target=target,
        precision=precision,
        vae_folder=vae_folder,
    )


def _index(source: Source) -> dict[str, Any]:
    """The checkpoint's model_index.json, which has to say what pipeline it is of."""
    path = source.folder / "model_index.json"
    index = read_json(path)
    if not isinstance(index.get("_class_name"), str):
        raise BadInputError(
            f"{path} has no _class_name", hint="it names the pipeline's class, as StableDiffusionXLPipeline"
        )
    return index


def _blueprints(
    source: Source, index: Mapping[str, Any], vae_folder: Path | None
) -> Sequence[tuple[Blueprint, Path, tuple[Path, ...]]]:
    """Every component that the checkpoint has, with its config.json and its weights."""
    time_ids = 5 if index.get("requires_aesthetics_score") else 6
    found = []
    for component in COMPONENTS:
        if component.source not in source.components:
            continue
        folder, weights = source.folder / component.source, source.weights(component.source)
        if component.source == "vae" and vae_folder is not None:
            folder, weights = other_vae(vae_folder)
        config = folder / "config.json"
        blueprint = Blueprint(component=component, config=read_json(config), time_ids=time_ids)
        found.append((blueprint, config, weights))
    return found


def other_vae(path: Path) -> tuple[Path, tuple[Path, ...]]:
    """The folder and weights of a VAE that was asked for in place of the checkpoint's own."""
    folder = path / "vae" if (path / "vae").is_dir() else path
    # Published VAEs often hold their weights once more under older names, as sdxl_vae.safetensors.
    stem = WEIGHT_STEMS["vae"]
    found = (tuple(sorted(folder.glob(f"{stem}{end}.safetensors"))) for end in ("", "-*-of-*", ".*"))
    weights = next(filter(None, found), ())
    if not (folder / "config.json").is_file() or not weights:
        raise BadInputError(
            f"{path} is not a VAE in diffusers' layout",
            hint=f"it needs config.json and {stem}.safetensors",
        )
    return folder, weights


def _part(
    blueprint: Blueprint, config: Path, weights: tuple[Path, ...], target: Target, precision: DType
) -> Part:
    """Author the component and hold its weights against what the graph asks for."""
    part = Part(
        blueprint=blueprint,
        config_path=config,
        weights=weights,
        graph=blueprint.author(target, precision),
        peak=None,
    )
    with part.open_weights() as source:
        source.check(part.graph.recipes)
        if not _may_overflow(blueprint, precision):
            return part
        found = calibrate(blueprint, source)
    if found.peak != found.peak or found.peak == float("inf"):
        raise VerificationError(
            f"{part.name} gives NaN or infinity in float32 already", hint="the checkpoint is damaged"
        )
    scaled = dataclasses.replace(blueprint, scale=found.scale)
    return dataclasses.replace(
        part, blueprint=scaled, graph=scaled.author(target, precision), peak=found.peak
    )


def _may_overflow(blueprint: Blueprint, precision: DType) -> bool:
    """Whether this is a VAE that says of itself that it overflows in fp16."""
    if precision is not DType.FLOAT16 or blueprint.component.source != "vae":
        return False
    return vae.parse(blueprint.config).force_upcast


def _latent(source: Source, blueprints: Mapping[str, Blueprint]) -> LatentRecord:
    denoiser = unet_config.parse(blueprints["unet"].config, time_ids=blueprints["unet"].time_ids)
    decoder = vae.parse(blueprints["vae_decoder"].config)
    scheduler = read_json(source.folder / "scheduler" / "scheduler_config.json")
    return LatentRecord(
        denoiser="unet",
        prediction_type=str(scheduler.get("prediction_type", "epsilon")),
        in_channels=denoiser.in_channels,
        channels=decoder.latent_channels,
        factor=decoder.factor,
        scaling_factor=decoder.scaling_factor,
    )
