"""Reads the files of a checkpoint's tokenizer folder; a missing or damaged one is an error that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onnxsd.errors import BadInputError, ResourceError

COPY_HINT = (
    "copy the checkpoint's tokenizer folder whole: vocab.json and merges.txt, or tokenizer.json, "
    "and with them tokenizer_config.json and special_tokens_map.json"
)


def text_of(path: Path) -> str:
    """The file's text, with line ends as newlines."""
    found = _optional_text(path)
    if found is None:
        raise BadInputError(f"the tokenizer needs {path}, which is not there", hint=COPY_HINT)
    return found


def json_object(path: Path) -> dict[str, Any]:
    """The file's JSON object."""
    return _parsed(path, text_of(path))


def optional_json_object(path: Path) -> dict[str, Any] | None:
    """The file's JSON object, or None where there is no such file."""
    text = _optional_text(path)
    return None if text is None else _parsed(path, text)


def _optional_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not UTF-8 text: {error}", hint=COPY_HINT) from error
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error}", hint="check the file's permissions") from error


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
        if "\\ud" in text.lower():  # JSON can escape half of a surrogate pair, which no token can hold
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is not JSON: {error}", hint=COPY_HINT) from error
    if not isinstance(found, dict):
        raise BadInputError(f"{path} holds a JSON {type(found).__name__}, not an object", hint=COPY_HINT)
    return found
