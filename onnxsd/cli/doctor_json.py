"""The doctor's answers as JSON."""

from __future__ import annotations

import json
from typing import Any

import click


def print_json(plain: dict[str, Any]) -> None:
    """Print one JSON object and nothing else."""
    click.echo(json.dumps(plain, indent=2, ensure_ascii=False))
