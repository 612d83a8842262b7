"""What was read of wheels, kept in the user's cache folder: a wheel on an index never changes."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_SCHEMA = 3  # raised whenever a reader reads more, or reads it in another way


def default_folder() -> Path:
    """Where this user's programs keep what they can make again."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("onnxsd")) / "wheels"


class Cache:
    """Records by wheel and kind; one that is damaged, or of another reader, counts as absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, kind: type[T], file: str, digest: str | None) -> T | None:
        """The record of a wheel; None where it has not been read."""
        try:
            saved = json.loads(self._path(kind, file).read_text(encoding="utf-8"))
            if (saved["schema"], saved["digest"]) != (_SCHEMA, digest):
                return None
            return kind(**{name: _frozen(value) for name, value in saved["record"].items()})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, record: Any, file: str, digest: str | None) -> None:
        """Keep a record; what is written is whole or not there."""
        path = self._path(type(record), file)
        path.parent.mkdir(parents=True, exist_ok=True)
        saved = {"schema": _SCHEMA, "digest": digest, "record": dataclasses.asdict(record)}
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(saved, out)
        Path(name).replace(path)

    def _path(self, kind: type[Any], file: str) -> Path:
        return self._folder / f"{file}.{kind.__name__}.json"


def _frozen(value: Any) -> Any:
    """Lists as tuples, as the records hold them."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {name: _frozen(item) for name, item in value.items()}
    return value
