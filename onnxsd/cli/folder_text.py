"""An exported folder as text, and as the JSON object that the text is rendered from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from onnxsd import records
from onnxsd.artifact.folder import Folder
from onnxsd.artifact.manifest import CheckRecord, ComponentRecord

SCHEMA = 1


def as_object(folder: Folder) -> dict[str, Any]:
    """What `--json` prints of a folder: the manifest without the list of weights."""
    manifest = folder.manifest
    return {
        "schema": SCHEMA,
        "folder": str(folder.path),
        "source": manifest.source,
        "commit": manifest.commit,
        "vae": manifest.vae,
        "pipeline": manifest.pipeline,
        "target": manifest.target,
        "precision": manifest.precision.numpy_name,
        "onnxsd": manifest.onnxsd,
        "created": manifest.created,
        "runtime_floor": manifest.runtime_floor,
        "latent": records.encode(manifest.latent),
        "defaults": _defaults(folder),
        "components": [_component(record) for record in manifest.components],
        "checks": [records.encode(check) for check in manifest.checks],
    }


def _defaults(folder: Folder) -> dict[str, Any] | None:
    """What `generate` takes for what is not said; None for a pipeline that it does not know."""
    family = folder.family()
    if family is None:
        return None
    return {
        "width": family.native_size,
        "height": family.native_size,
        "steps": family.steps,
        "guidance_scale": family.guidance_scale,
    }


def _component(record: ComponentRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "size_bytes": record.data.size_bytes + record.model.size_bytes,
        "weights": len(record.initializers),
        "opset": record.opset,
        "ir_version": record.ir_version,
        "scale": record.scale,
        "peak": record.peak,
        "overflowed": record.overflowed,
        "zeroed": record.zeroed,
        "inputs": [records.encode(tensor) for tensor in record.inputs],
        "outputs": [records.encode(tensor) for tensor in record.outputs],
        "lowerings": [records.encode(entry) for entry in record.lowerings],
    }


def summary(folder: Folder) -> str:
    """A few lines: what it is, its components, what was checked."""
    manifest = folder.manifest
    other_vae = f" with the VAE of {manifest.vae}" if manifest.vae else ""
    head = (
        f"{folder.path}: {manifest.pipeline} from {manifest.source}{other_vae},"
        f" target {manifest.target}, {manifest.precision.numpy_name}"
    )
    lines = [head, *(f"  {_component_line(record)}" for record in manifest.components)]
    if defaults := _defaults(folder):
        lines.append(
            "  unless told otherwise: {width}×{height}, {steps} steps, guidance {guidance_scale:g}".format(
                **defaults
            )
        )
    lines.append(f"  needs onnxruntime {manifest.runtime_floor} or newer; made by onnxsd {manifest.onnxsd}")
    if not manifest.checks:
        return "\n".join([*lines, "  not checked"])
    return "\n".join([*lines, *check_lines(manifest.checks)])


def _component_line(record: ComponentRecord) -> str:
    size = (record.data.size_bytes + record.model.size_bytes) / 1e6
    notes = [f"{record.name:<15} {size:>9,.1f} MB, {len(record.initializers)} weights"]
    if record.peak is not None:
        notes.append(f"residual stream ×{record.scale:g} (float32 peak {record.peak:,.0f})")
    if record.overflowed:
        notes.append(f"{record.overflowed:,} values overflow in fp16")
    if record.zeroed:
        notes.append(f"{record.zeroed:,} values too small for fp16 became 0")
    return "; ".join(notes)


def check_lines(checks: tuple[CheckRecord, ...]) -> list[str]:
    """A line for each check."""
    return [
        f"  {'ok    ' if check.passed else 'FAILED'} {check.component:<15} {check.check:<9} "
        f"{check.subject}: {check.detail}"
        for check in checks
    ]


def print_object(content: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))
