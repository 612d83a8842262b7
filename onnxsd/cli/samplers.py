"""`onnxsd samplers`: what `--sampler` may say."""

from __future__ import annotations

import click


@click.command("samplers")
def command() -> None:
    """List the samplers."""
    from onnxsd.samplers import SAMPLERS

    for sampler in SAMPLERS:
        schedules = ", ".join(schedule.value for schedule in sampler.noise_schedules)
        click.echo(
            f"{sampler.key:<8} {sampler.title:<10} {sampler.description} (noise schedules: {schedules})"
        )
