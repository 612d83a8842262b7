"""`compat_matrix.yaml`: loaded with all its faults at once, dumped byte for byte as it was."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from onnxsd.errors import BadInputError
from onnxsd.matrix import lines
from onnxsd.matrix.faults import faults_of
from onnxsd.matrix.rows import Matrix
from onnxsd.records import decode, encode

NAME = "compat_matrix.yaml"
_WIDTH = 110  # characters; lists of plain values stay on one line up to here


def load(path: Path | None = None) -> Matrix:
    """The matrix in a file, or the one that this installation came with."""
    text = path.read_text(encoding="utf-8") if path else _shipped_text()
    return parse(text, source=str(path or NAME))


def parse(text: str, *, source: str) -> Matrix:
    """The matrix that a text holds.

    Raises:
        BadInputError: lists every fault with its line.
    """
    try:
        plain, twice = lines.read(text)
    except yaml.YAMLError as error:
        raise BadInputError(f"{source} is not YAML: {error}") from error
    try:
        matrix = decode(Matrix, plain, source=source, locate=lambda fault: _located(fault, text))
    except BadInputError as error:
        raise BadInputError("; ".join([error.message, *twice])) from None
    faults = [*twice, *(_located(fault, text) for fault in faults_of(matrix))]
    if faults:
        raise BadInputError(f"{source} cannot be used: " + "; ".join(faults))
    return matrix


def dump(matrix: Matrix) -> str:
    """The text of the file: every text quoted, a list of plain values on one line."""
    return yaml.dump(encode(matrix), Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)


def _located(fault: str, text: str) -> str:
    return lines.located(fault, _lines_of(text))


@functools.lru_cache(maxsize=1)
def _lines_of(text: str) -> dict[str, int]:
    return lines.lines_of(text)


def _shipped_text() -> str:
    inside = resources.files("onnxsd") / NAME
    if inside.is_file():
        return inside.read_text(encoding="utf-8")
    # A checkout, or an editable install of one: setup.py copies the root's file only into wheels.
    return (Path(__file__).parents[2] / NAME).read_text(encoding="utf-8")


class _Dumper(yaml.SafeDumper):
    """Block style, with plain keys, quoted texts, and lists of plain values on one line."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style=False)
        for key, _ in node.value:
            key.style = None
        return node

    def represent_sequence(
        self, tag: str, sequence: Any, flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        plain = not any(isinstance(item, (dict, list)) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=plain)

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # a list's dashes stand under their key, indented


_Dumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)
