"""`onnxsd models`: the short names of checkpoints, on the Hub and inside the package."""

from __future__ import annotations

import click


@click.command("models")
def command() -> None:
    """List the models that an alias names."""
    from onnxsd.models.aliases import usable

    for alias in usable():
        click.echo(alias.line())
