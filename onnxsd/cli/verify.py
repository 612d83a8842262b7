"""`onnxsd verify`: repeat the checks of an exported folder anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from onnxsd.artifact.folder import Folder
    from onnxsd.artifact.manifest import CheckRecord
    from onnxsd.session import Choice


@click.command("verify")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--against", type=click.Choice(["diffusers"]), help="Compare numbers with a reference too.")
@click.option("--source", metavar="MODEL", help="The checkpoint to compare with, as `export` takes it.")
@click.option(
    "--vae",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The VAE's folder, where the export took another than MODEL's and it lies elsewhere now.",
)
@click.option("--provider", type=click.Choice(["cuda", "cpu", "auto"]), default="auto", show_default=True)
@click.option("--offline", is_flag=True, help="Take only what is on this machine already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    folder: Path,
    against: str | None,
    source: str | None,
    vae: Path | None,
    provider: str,
    offline: bool,
    as_json: bool,
) -> None:
    """Repeat the checks of an exported folder.

    File hashes, valid ONNX, sizes at several shapes and batches, NaN and infinity; with --against diffusers
    each component and one seeded image are compared with the checkpoint's own numbers. Exits with 1 if a
    check failed.
    """
    from onnxsd import records
    from onnxsd.artifact.folder import open_folder
    from onnxsd.cli.folder_text import SCHEMA, check_lines, print_object
    from onnxsd.errors import UsageError
    from onnxsd.session import resolve
    from onnxsd.verify.folder import verify

    if (against is None) is not (source is None):
        raise UsageError(
            "--against and --source go together", hint="name the checkpoint that the export was made of"
        )
    if vae is not None and source is None:
        raise UsageError("--vae goes with --against", hint="it is part of what the export is compared with")
    opened = open_folder(folder)
    choice = resolve(provider)
    click.echo(f"running on {choice.provider.value}: {choice.reason}", err=True)
    compared = () if source is None else _against(opened, source, vae, choice, offline=offline)
    checks = []
    for check in chain(verify(opened, choice=choice), compared):
        checks.append(check)
        click.echo(check_lines((check,))[0], err=as_json)
    passed = all(check.passed for check in checks)
    if as_json:
        made = [records.encode(check) for check in checks]
        print_object({"schema": SCHEMA, "folder": str(folder), "passed": passed, "checks": made})
    ctx.exit(0 if passed else 1)


def _against(
    folder: Folder, source: str, vae: Path | None, choice: Choice, *, offline: bool
) -> Iterable[CheckRecord]:
    """The comparison with the checkpoint, still to be run; what stands in its way is an error now."""
    from onnxsd.cli.against import checkpoint_of, checks, vae_of
    from onnxsd.export.source import resolve
    from onnxsd.verify import reference, torch_models

    torch_models.require()
    found = resolve(
        source,
        revision=_revision(folder, source),
        offline=offline,
        precision=folder.manifest.precision,
        progress=_say,
    )
    checkpoint = checkpoint_of(found, vae or vae_of(folder))
    reference.require_same_models(folder, checkpoint)
    reference.require_memory(checkpoint, choice)
    return checks(folder, checkpoint, choice, _say)


def _revision(folder: Folder, source: str) -> str | None:
    """The commit that the export was made of, where MODEL names the same repository of the Hub."""
    from onnxsd.models import aliases

    alias = aliases.find(source)
    named = alias.hub_id if alias else source  # None for a built-in model, which has no commit
    return folder.manifest.commit if named == folder.manifest.source and not Path(source).is_dir() else None


def _say(line: str) -> None:
    click.echo(line, err=True)
