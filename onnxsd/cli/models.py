"""`onnxsd models`: the short names of public checkpoints."""

from __future__ import annotations

import click


@click.command("models")
def command() -> None:
    """List the models that an alias names."""
    from onnxsd.models.aliases import ALIASES

    for alias in ALIASES:
        click.echo(alias.line())
