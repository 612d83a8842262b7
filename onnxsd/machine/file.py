"""A machine as a JSON file: written by `--save-facts`, read by `--facts` and by tests."""

from __future__ import annotations

import json
import re
from pathlib import Path

from onnxsd.errors import BadInputError
from onnxsd.machine.facts import SCHEMA, Machine

# A list of numbers and of texts without spaces or brackets, over several lines.
_PLAIN_LIST = re.compile(r'\[((?:\s+(?:"[^"\\\s\[\]]*"|[-\d.e]+),?)+)\s+\]')


def load(path: Path) -> Machine:
    """The machine that a file describes."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(
            f"{path} is not JSON: {error}", hint="`onnxsd doctor --save-facts FILE` writes one"
        ) from error
    schema = plain.get("schema") if isinstance(plain, dict) else None
    if schema != SCHEMA:
        raise BadInputError(
            f"{path} holds facts of schema {schema!r}; this onnxsd reads {SCHEMA}",
            hint="save them again with `onnxsd doctor --save-facts FILE`",
        )
    return Machine.from_json(plain, source=str(path))


def save(machine: Machine, path: Path) -> None:
    """Write the facts as indented JSON."""
    path.write_text(text_of(machine), encoding="utf-8")


def text_of(machine: Machine) -> str:
    """The facts as JSON that people can read: indented, with a list of plain values on one line."""
    text = json.dumps(machine.to_json(), indent=2)
    return _PLAIN_LIST.sub(lambda found: f"[{' '.join(found.group(1).split())}]", text) + "\n"
