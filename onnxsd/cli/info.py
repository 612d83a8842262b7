"""`onnxsd info`: what an exported folder or a made image says of itself."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("info")
@click.argument("path", metavar="DIR|IMAGE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(path: Path, as_json: bool) -> None:
    """Show what an exported folder, or an image, says of itself."""
    if path.is_file():
        _print_image(path, as_json=as_json)
        return
    from onnxsd.artifact.folder import open_folder
    from onnxsd.cli.folder_text import as_object, print_object, summary

    folder = open_folder(path)
    if as_json:
        print_object(as_object(folder))
    else:
        click.echo(summary(folder))


def _print_image(path: Path, *, as_json: bool) -> None:
    from onnxsd.cli.folder_text import SCHEMA, print_object
    from onnxsd.imaging.carrier import read_text
    from onnxsd.imaging.metadata import as_dict, parse_parameters

    text = read_text(path)
    if as_json:
        print_object({"schema": SCHEMA, "image": str(path), "parameters": as_dict(parse_parameters(text))})
    else:
        click.echo(text)
