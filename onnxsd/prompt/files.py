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
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise BadInputError(f"the tokenizer needs {path}, which is not there", hint=COPY_HINT) from None
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not UTF-8 text: {error}", hint=COPY_HINT) from error
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error}", hint="check the file's permissions") from error


def json_object(path: Path) -> dict[str, Any]:
    """The file's JSON object."""
    try:
        found = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is not JSON: {error}", hint=COPY_HINT) from error
    if not isinstance(found, dict):
        raise BadInputError(f"{path} holds a JSON {type(found).__name__}, not an object", hint=COPY_HINT)
    return found


def optional_json_object(path: Path) -> dict[str, Any] | None:
    """The file's JSON object, or None where there is no such file."""
    return json_object(path) if path.exists() else None
