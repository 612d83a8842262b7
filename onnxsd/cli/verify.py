"""`onnxsd verify`: repeat the checks of an exported folder anywhere."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("verify")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--against", type=click.Choice(["diffusers"]), help="Compare numbers with a reference too.")
@click.option("--source", metavar="MODEL", help="The checkpoint to compare with, as `export` takes it.")
@click.option("--provider", type=click.Choice(["cuda", "cpu", "auto"]), default="auto", show_default=True)
@click.option("--offline", is_flag=True, help="Take only what is on this machine already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    folder: Path,
    against: str | None,
    source: str | None,
    provider: str,
    offline: bool,
    as_json: bool,
) -> None:
    """Repeat the checks of an exported folder.

    File hashes, valid ONNX, sizes at several shapes and batches, NaN and infinity; with --against diffusers each
    component and one seeded image are compared with the checkpoint's own numbers. Exits with 1 if a check failed.
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
    opened = open_folder(folder)
    choice = resolve(provider)
    click.echo(f"running on {choice.provider.value}: {choice.reason}", err=True)
    checks = []
    for check in verify(opened, choice=choice):
        checks.append(check)
        click.echo(check_lines((check,))[0], err=as_json)
    if source is not None:
        checks += _against(opened, source, offline=offline, as_json=as_json)
    passed = all(check.passed for check in checks)
    if as_json:
        made = [records.encode(check) for check in checks]
        print_object({"schema": SCHEMA, "folder": str(folder), "passed": passed, "checks": made})
    ctx.exit(0 if passed else 1)
