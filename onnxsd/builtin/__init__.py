"""Models inside the package: beside this file a folder in diffusers' layout for each, with its model card."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from onnxsd.errors import UsageError

if TYPE_CHECKING:
    from importlib.abc import Traversable

MARKER = "model_index.json"
# The model card is no part of the model.
CARD = "README.md"


def names() -> tuple[str, ...]:
    """The models that this installation holds, sorted."""
    entries = resources.files(__name__).iterdir()
    return tuple(sorted(entry.name for entry in entries if entry.joinpath(MARKER).is_file()))


@functools.cache
def folder(name: str) -> Path:
    """The model's folder on this machine; out of a zipped package it is unpacked until the program ends.

    Raises:
        UsageError: this installation holds no such model.
    """
    inside = _inside(name)
    if isinstance(inside, Path):
        return inside
    unpacked = contextlib.ExitStack()
    atexit.register(unpacked.close)
    out = Path(unpacked.enter_context(tempfile.TemporaryDirectory(prefix=f"onnxsd-{name}-")))
    for path, file in _files(inside):
        there = out / path
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(file.read_bytes())
    return out


def digest(name: str) -> str:
    """SHA-256 over the names and contents of the model's files, without its card.

    Raises:
        UsageError: this installation holds no such model.
    """
    found = hashlib.sha256()
    for path, file in sorted(_files(_inside(name)), key=lambda entry: entry[0]):
        if path != CARD:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            found.update(f"{path} {content}\n".encode())
    return found.hexdigest()


def _inside(name: str) -> Traversable:
    present = names()
    if name not in present:
        raise UsageError(
            f"this installation of onnxsd holds no model {name}",
            hint=f"it holds {', '.join(present) or 'none: install it again'}",
        )
    return resources.files(__name__).joinpath(name)


def _files(inside: Traversable, at: str = "") -> Iterator[tuple[str, Traversable]]:
    """Every file below, with its path from the model's folder."""
    for entry in inside.iterdir():
        path = f"{at}{entry.name}"
        if entry.is_dir():
            yield from _files(entry, f"{path}/")
        else:
            yield path, entry
