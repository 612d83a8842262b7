"""A checkpoint becomes a verified folder of ONNX files, or nothing that looks like one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
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
from onnxsd.errors import ResourceError, UsageError, VerificationError
from onnxsd.export import plan as plans
from onnxsd.export.plan import ExportPlan, Part
from onnxsd.export.source import Source
from onnxsd.ops import Target
from onnxsd.ops.graph import IR_VERSION, OPSET
from onnxsd.session import Choice
from onnxsd.tensors import DType, Shape
from onnxsd.verify import shapes
from onnxsd.weights import stream
from onnxsd.weights.stream import DataFile
from onnxsd.weights.transform import NO_LOSS

# The oldest onnxruntime that the exports are tested with.
RUNTIME_FLOOR = "1.24"
# What checks may take on a CPU beside the export itself; `onnxsd verify` uses what the machine has.
CHECK_MEMORY_BYTES = 512 << 20
COPIED_FOLDERS = ("scheduler", "tokenizer", "tokenizer_2")


class Reporter(Protocol):
    """Who is told how far an export is."""

    def stage(self, text: str) -> None:
        """A step begins."""

    def total(self, size_bytes: int) -> None:
        """So many bytes of weights will be written."""

    def wrote(self, size_bytes: int) -> None:
        """So many bytes were written."""


def export(
    source: Source,
    out: Path,
    *,
    target: Target,
    precision: DType,
    choice: Choice | None,
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
        vae_folder: a VAE to take in place of the checkpoint's.
        force: replace an existing folder.
        report: is told how far the export is.

    Raises:
        UsageError: `out` exists.
        VerificationError: a check failed; nothing is left behind.
        ResourceError: no room, or no permission.
    """
    refuse_existing(out, force=force)
    report.stage("reading configurations and weights")
    plan = plans.make(source, target=target, precision=precision, vae_folder=vae_folder)
    with _unfinished(out, plan.size_bytes) as folder:
        report.total(plan.size_bytes - plans.OTHER_BYTES)
        components = tuple(_write(part, folder, report) for part in plan.parts)
        _copy_settings(plan, folder)
        manifest = _manifest(plan, components)
        checks = _check(Folder(path=folder, manifest=manifest), choice, report)
        manifest = _manifest(plan, components, checks)
        manifests.save(manifest, folder)
        _replace(out, folder)
    return Folder(path=out, manifest=manifest)


def refuse_existing(out: Path, *, force: bool) -> None:
    """Refuse a folder that is there already; what is not a folder is refused even with `force`."""
    if out.exists() and not (force and out.is_dir()):
        raise UsageError(f"{out} exists already", hint="give another folder, or --force to replace it")


@contextlib.contextmanager
def _unfinished(out: Path, needed_bytes: int) -> Iterator[Path]:
    """A folder beside `out` that is gone afterwards, whatever happens, unless it was renamed."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.unfinished-", dir=out.parent))
    except OSError as error:
        raise ResourceError(
            f"cannot write to {out.parent}: {error.strerror}", hint="give a folder that you may write to"
        ) from error
    try:
        free = shutil.disk_usage(folder).free
        if free < needed_bytes:
            raise ResourceError(
                f"{out} needs {needed_bytes:,} bytes, {free:,} are free on its disk",
                hint="free some, or give a folder on another disk",
            )
        # mkdtemp makes it private; the result is as any other folder of the user.
        folder.chmod(0o777 & ~_umask())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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

    A pipeline of diffusers' reads `force_upcast` and would turn the VAE to float32, which a graph cannot follow.
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


def _copy_settings(plan: ExportPlan, folder: Path) -> None:
    """Scheduler, tokenizers and the index, so that other tools read the folder too."""
    for name in COPIED_FOLDERS:
        if (plan.source.folder / name).is_dir():
            shutil.copytree(plan.source.folder / name, folder / name)
    index = _index(plan.index, {part.blueprint.component.source for part in plan.parts})
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _index(index: Mapping[str, Any], written: set[str]) -> dict[str, Any]:
    """model_index.json without the components that were not exported (safety checker, feature extractor)."""
    kept = written | set(COPIED_FOLDERS)
    return {
        key: value if key in kept or not isinstance(value, list) else [None, None]
        for key, value in index.items()
    }


def _manifest(
    plan: ExportPlan, components: tuple[ComponentRecord, ...], checks: tuple[CheckRecord, ...] = ()
) -> Manifest:
    return Manifest(
        schema=manifests.SCHEMA,
        onnxsd=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        source=plan.source.hub_id or plan.source.model,
        commit=plan.source.commit,
        pipeline=str(plan.index.get("_class_name")),
        target=plan.target.value,
        precision=plan.precision,
        runtime_floor=RUNTIME_FLOOR,
        latent=plan.latent,
        components=components,
        checks=checks,
    )


def _check(folder: Folder, choice: Choice | None, report: Reporter) -> tuple[CheckRecord, ...]:
    """The checks of every component.

    Raises:
        VerificationError: at least one failed; the first is told, the others are counted.
    """
    if choice is None:
        return ()
    made: list[CheckRecord] = []
    for component in folder.manifest.components:
        report.stage(f"checking {component.name}")
        made.extend(shapes.check(folder, component.name, choice=choice, memory_bytes=CHECK_MEMORY_BYTES))
    failed = [check for check in made if not check.passed]
    if failed:
        first, more = failed[0], len(failed) - 1
        raise VerificationError(
            f"{first.component}: check {first.check} of the {first.subject} failed: {first.detail}"
            + (f"; {more} more failed" if more else ""),
            hint="nothing was written",
        )
    return tuple(made)


def _replace(out: Path, finished: Path) -> None:
    """Put the finished folder in the place of `out`; on failure what was there is put back."""
    aside = None
    try:
        if out.exists():
            aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.replaced-", dir=out.parent)) / out.name
            out.rename(aside)
        finished.rename(out)
    except OSError as error:
        if aside is not None and aside.exists() and not out.exists():
            aside.rename(out)
        raise ResourceError(f"cannot put the export at {out}: {error.strerror}") from error
    finally:
        if aside is not None and out.exists():
            shutil.rmtree(aside.parent, ignore_errors=True)
