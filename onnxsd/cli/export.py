"""`onnxsd export`: a checkpoint becomes a verified folder of ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from onnxsd.artifact.folder import Folder
    from onnxsd.export.export import FurtherChecks
    from onnxsd.export.source import Source
    from onnxsd.ops import Target
    from onnxsd.session import Choice


@click.command("export")
@click.argument("model")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--target",
    type=click.Choice(["cuda", "portable", "auto"]),
    default="auto",
    show_default=True,
    help="Operators to write in; auto is cuda where an NVIDIA GPU is seen.",
)
@click.option("--precision", type=click.Choice(["fp16", "fp32"]), default="fp16", show_default=True)
@click.option(
    "--vae",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A VAE's folder, to take in place of the checkpoint's.",
)
@click.option("--revision", help="Branch, tag or commit of a Hub id.")
@click.option("--variant", help="Which weights of the checkpoint, as in unet/….fp16.safetensors.")
@click.option("--offline", is_flag=True, help="Take only what is on this machine already.")
@click.option(
    "--check",
    "checks",
    type=click.Choice(["none", "shapes", "reference"]),
    default="shapes",
    show_default=True,
    help="What to prove before the folder appears.",
)
@click.option("--force", is_flag=True, help="Replace OUT if it is an export already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str,
    out: Path,
    target: str,
    precision: str,
    vae: Path | None,
    revision: str | None,
    variant: str | None,
    offline: bool,
    checks: str,
    force: bool,
    as_json: bool,
) -> None:
    """Turn a checkpoint into verified ONNX.

    MODEL is an alias (see `onnxsd models`), a Hub id, or a folder in diffusers' layout. OUT is the folder to
    make.
    """
    from onnxsd.artifact.manifest import NAME
    from onnxsd.cli.progress import export_progress
    from onnxsd.cli.state import remember_export
    from onnxsd.export.export import export
    from onnxsd.export.placing import check_replaceable
    from onnxsd.export.source import resolve
    from onnxsd.tensors import DType
    from onnxsd.verify import torch_models

    check_replaceable(out, force=force, marker=NAME)
    if checks == "reference":
        torch_models.require()
    wanted = {"fp16": DType.FLOAT16, "fp32": DType.FLOAT32}[precision]
    with export_progress() as report:
        source = resolve(
            model,
            revision=revision,
            variant=variant,
            offline=offline,
            precision=wanted,
            progress=report.stage,
        )
        choice = None if checks == "none" else _choice()
        folder = export(
            source,
            out,
            target=_target(target),
            precision=wanted,
            choice=choice,
            further=_further(source, vae, choice, report.stage) if choice and checks == "reference" else None,
            vae_folder=vae,
            force=force,
            report=report,
        )
    remember_export(folder.path)
    _warn(folder)
    _print(folder, as_json=as_json)


def _target(asked: str) -> Target:
    """The target that was asked for; `auto` looks for an NVIDIA GPU, not for a working runtime."""
    from onnxsd.machine.nvidia import Nvml
    from onnxsd.machine.reader import Reader
    from onnxsd.ops import Target

    if asked != "auto":
        return Target(asked)
    # A broken driver shows none: the portable target runs everywhere, and the doctor says what is wrong.
    seen = Nvml().driver(Reader(), None).gpus
    found = Target.CUDA if seen else Target.PORTABLE
    because = f"{seen[0].name} is here" if seen else "no NVIDIA GPU is seen"
    click.echo(f"target {found.value}: {because}", err=True)
    return found


def _choice() -> Choice:
    from onnxsd.session import resolve

    choice = resolve("auto")
    click.echo(f"checks run on {choice.provider.value}: {choice.reason}", err=True)
    return choice


def _further(source: Source, vae: Path | None, choice: Choice, say: Callable[[str], None]) -> FurtherChecks:
    """The comparison with the checkpoint, for which there is memory enough."""
    from onnxsd.cli.against import checkpoint_of, checks
    from onnxsd.verify.reference import require_memory

    checkpoint = checkpoint_of(source, vae)
    require_memory(checkpoint, choice)
    return lambda folder: checks(folder, checkpoint, choice, say)


def _warn(folder: Folder) -> None:
    """Say now what `generate` would refuse later; other tools may know it."""
    from onnxsd.errors import ConfigurationError
    from onnxsd.models.families import FAMILIES
    from onnxsd.samplers import parse

    if folder.manifest.pipeline not in FAMILIES:
        known = ", ".join(FAMILIES)
        click.echo(
            f"warning: `onnxsd generate` does not know {folder.manifest.pipeline}; it knows {known}", err=True
        )
    try:
        parse(folder.json("scheduler/scheduler_config.json"))
    except ConfigurationError as error:
        click.echo(f"warning: `onnxsd generate` will want a --sampler: {error.message}", err=True)


def _print(folder: Folder, *, as_json: bool) -> None:
    from onnxsd.cli.folder_text import as_object, print_object, summary

    if as_json:
        print_object(as_object(folder))
    else:
        click.echo(summary(folder))
