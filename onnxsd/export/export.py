"""A checkpoint becomes a verified folder of ONNX files, or nothing that looks like one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from onnxsd import __version__
from onnxsd.artifact import manifest as manifests
from onnxsd.artifact.folder import Folder, record_of
from onnxsd.artifact.manifest import (
    CheckRecord,
    ComponentRecord,
    FileRecord,
    InitializerRecord,
    LoweringRecord,
    Manifest,
    TensorRecord,
)
from onnxsd.artifact.onnx_file import DATA_NAME, MODEL_NAME, write_model
from onnxsd.errors import VerificationError
from onnxsd.export import plan as plans
from onnxsd.export.placing import check_replaceable, new_folder
from onnxsd.export.plan import ExportPlan, Part
from onnxsd.export.source import Source
from onnxsd.ops import Target
from onnxsd.ops.graph import IR_VERSION, OPSET
from onnxsd.session import Choice
from onnxsd.session.runtime import MINIMUM, MINIMUM_CUDA12
from onnxsd.tensors import DType, Shape
from onnxsd.verify import shapes
from onnxsd.weights import stream
from onnxsd.weights.stream import DataFile
from onnxsd.weights.transform import NO_LOSS

# The oldest onnxruntime that reads an export; on CUDA 13 the session asks for more.
RUNTIME_FLOORS = {Target.PORTABLE: str(MINIMUM), Target.CUDA: str(MINIMUM_CUDA12)}
# What checks may take on a CPU beside the export itself; `onnxsd verify` uses what the machine has.
CHECK_MEMORY_BYTES = 512 << 20
# Checks that other layers make, of a folder that is complete but for its place.
FurtherChecks = Callable[[Folder], Iterable[CheckRecord]]
COPIED_FOLDERS = ("scheduler", "tokenizer", "tokenizer_2")


class Reporter(Protocol):
    """Who is told how far an export is."""

    def stage(self, text: str) -> None:
        """A step begins."""

    def total(self, size_bytes: int) -> None:
        """So many bytes of weights will be written."""

    def wrote(self, size_bytes: int) -> None:
        """So many bytes were written."""


class Silent(Reporter):
    """Who wants to hear nothing of how far an export is."""

    def stage(self, text: str) -> None:
        """Not told."""

    def total(self, size_bytes: int) -> None:
        """Not told."""

    def wrote(self, size_bytes: int) -> None:
        """Not told."""


def export(
    source: Source,
    out: Path,
    *,
    target: Target,
    precision: DType,
    choice: Choice | None,
    further: FurtherChecks | None = None,
    vae_folder: Path | None = None,
    force: bool = False,
    report: Reporter,
) -> Folder:
    """Write `source` as ONNX into the folder `out`.

    Args:
        source: the checkpoint, complete on this machine.
        out: the folder to make; what is there already is only replaced with `force`, and only at the end.
        target: the operators to write in.
        precision: FLOAT16 or FLOAT32.
        choice: the provider to run the checks on; None to make none.
        further: checks to make after those of shapes, before the folder appears.
        vae_folder: a VAE to take in place of the checkpoint's.
        force: replace an export that is there; a checkpoint never, which may be the only copy.
        report: is told how far the export is.

    Raises:
        UsageError: `out` exists, or is no folder that may be replaced.
        VerificationError: a check failed; nothing is left behind.
        ResourceError: no room, or no permission.
    """
    check_replaceable(out, force=force, marker=manifests.NAME)
    report.stage("reading configurations and weights")
    plan = plans.make(source, target=target, precision=precision, vae_folder=vae_folder)
    with new_folder(out, needed_bytes=plan.size_bytes, force=force, marker=manifests.NAME) as folder:
        report.total(plan.size_bytes - plans.OTHER_BYTES)
        components = tuple(_write(part, folder, report) for part in plan.parts)
        manifest = _manifest(plan, components, _copy_settings(plan, folder))
        checks = _check(Folder(path=folder, manifest=manifest), choice, further, report)
        manifest = dataclasses.replace(manifest, checks=checks)
        manifests.save(manifest, folder)
    return Folder(path=out, manifest=manifest)


def _write(part: Part, root: Path, report: Reporter) -> ComponentRecord:
    """Write one component: its weights, its graph, its configuration."""
    report.stage(f"writing {part.name}")
    folder = root / part.name
    folder.mkdir()
    with part.open_weights() as source:
        data = stream.write(folder / DATA_NAME, part.graph.recipes, source, progress=report.wrote)
    write_model(part.graph, data.offsets, folder / MODEL_NAME)
    _write_config(part, folder / "config.json")
    return _record(part, data, root)


def _write_config(part: Part, path: Path) -> None:
    """The checkpoint's configuration; what a scaled VAE no longer needs is taken out of it.

    A pipeline of diffusers' reads `force_upcast` and would turn the VAE to float32; a graph cannot follow.
    """
    if part.peak is None:
        shutil.copyfile(part.config_path, path)
        return
    config = {**part.blueprint.config, "force_upcast": False}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _record(part: Part, data: DataFile, root: Path) -> ComponentRecord:
    folder = root / part.name
    return ComponentRecord(
        name=part.name,
        model=record_of(folder / MODEL_NAME, root),
        data=FileRecord(path=f"{part.name}/{DATA_NAME}", size_bytes=data.size_bytes, sha256=data.sha256),
        config=record_of(folder / "config.json", root),
        opset=OPSET,
        ir_version=IR_VERSION,
        time_ids=part.blueprint.time_ids,
        scale=part.blueprint.scale,
        peak=part.peak,
        inputs=_tensors(part.graph.inputs),
        outputs=_tensors(part.graph.outputs),
        lowerings=tuple(
            LoweringRecord(op=op, lowering=lowering, count=count)
            for op, counts in part.graph.lowerings.items()
            for lowering, count in counts.items()
        ),
        initializers=_initializers(part, data),
    )


def _initializers(part: Part, data: DataFile) -> tuple[InitializerRecord, ...]:
    records = []
    for recipe in part.graph.recipes:
        loss = data.losses.get(recipe.name, NO_LOSS)
        records.append(
            InitializerRecord(
                recipe=recipe,
                offset=data.offsets[recipe.name],
                overflowed=loss.overflowed,
                zeroed=loss.zeroed,
            )
        )
    return tuple(records)


def _tensors(specs: tuple[tuple[str, DType, Shape], ...]) -> tuple[TensorRecord, ...]:
    return tuple(
        TensorRecord(name=name, dtype=dtype, shape=tuple(str(size) for size in shape))
        for name, dtype, shape in specs
    )


def _copy_settings(plan: ExportPlan, folder: Path) -> tuple[FileRecord, ...]:
    """The index, the scheduler's configuration and the tokenizers, for other tools and for `generate`."""
    index = _index(plan.index, {part.blueprint.component.source for part in plan.parts})
    written = [folder / "model_index.json"]
    written[0].write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    for file in plan.source.selection.files:
        if file.name.startswith(tuple(f"{name}/" for name in COPIED_FOLDERS)):
            written.append(folder / file.name)
            written[-1].parent.mkdir(exist_ok=True)
            shutil.copyfile(plan.source.folder / file.name, written[-1])
    return tuple(record_of(path, folder) for path in written)


def _index(index: Mapping[str, Any], written: set[str]) -> dict[str, Any]:
    """model_index.json without the components that were not exported (safety checker, feature extractor)."""
    kept = written | set(COPIED_FOLDERS)
    return {
        key: value if key in kept or not isinstance(value, list) else [None, None]
        for key, value in index.items()
    }


def _manifest(
    plan: ExportPlan, components: tuple[ComponentRecord, ...], settings: tuple[FileRecord, ...]
) -> Manifest:
    """What is known of the folder before it is checked."""
    return Manifest(
        schema=manifests.SCHEMA,
        onnxsd=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        source=plan.source.name,
        commit=plan.source.commit,
        pipeline=str(plan.index.get("_class_name")),
        target=plan.target.value,
        precision=plan.precision,
        runtime_floor=RUNTIME_FLOORS[plan.target],
        latent=plan.latent,
        components=components,
        settings=settings,
        checks=(),
        vae=None if plan.vae_folder is None else str(plan.vae_folder.absolute()),
    )


def _check(
    folder: Folder, choice: Choice | None, further: FurtherChecks | None, report: Reporter
) -> tuple[CheckRecord, ...]:
    """The checks of every component, and the further ones once those have passed.

    Raises:
        VerificationError: at least one failed; the first is told, the others are counted.
    """
    if choice is None:
        return ()
    made: list[CheckRecord] = []
    for component in folder.manifest.components:
        report.stage(f"checking {component.name}")
        made.extend(shapes.check(folder, component.name, choice=choice, memory_bytes=CHECK_MEMORY_BYTES))
    _require_passed(made)
    if further is not None:
        made.extend(further(folder))
        _require_passed(made)
    return tuple(made)


def _require_passed(made: Sequence[CheckRecord]) -> None:
    failed = [check for check in made if not check.passed]
    if failed:
        first, more = failed[0], len(failed) - 1
        raise VerificationError(
            f"{first.component}: check {first.check} of the {first.subject} failed: {first.detail}"
            + (f"; {more} more failed" if more else ""),
            hint="nothing was written",
        )
