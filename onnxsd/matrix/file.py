"""`compat_matrix.yaml`: loaded with all its faults at once, dumped byte for byte as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from onnxsd.errors import BadInputError
from onnxsd.matrix.rows import Matrix
from onnxsd.records import decode, encode

NAME = "compat_matrix.yaml"
SCHEMA = 2
_WIDTH = 110  # characters; lists of plain values stay on one line up to here


def load(path: Path | None = None) -> Matrix:
    """The matrix in a file, or the one that this installation came with."""
    text = path.read_text(encoding="utf-8") if path else _shipped_text()
    return parse(text, source=str(path or NAME))


def parse(text: str, *, source: str) -> Matrix:
    """The matrix that a text holds.

    Raises:
        BadInputError: lists every fault.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one, where PyYAML was built with it
    try:
        plain = yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise BadInputError(f"{source} is not YAML: {error}") from error
    matrix = decode(Matrix, plain, source=source)
    faults = list(faults_of(matrix))
    if faults:
        raise BadInputError(f"{source} cannot be used: " + "; ".join(faults))
    return matrix


def dump(matrix: Matrix) -> str:
    """The text of the file: every text quoted, a list of plain values on one line."""
    return yaml.dump(encode(matrix), Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)


def faults_of(matrix: Matrix) -> Iterator[str]:
    """What is wrong although every field has its type."""
    if matrix.schema != SCHEMA:
        yield f"schema: this onnxsd reads {SCHEMA}, found {matrix.schema}"
    for name, rows in tables_of(matrix).items():
        if not rows:
            yield f"{name}: empty"
        yield from (f"{name}[{at}]: no source" for at, row in enumerate(rows) if not row.source.strip())
    yield from _faults_of_releases(matrix)
    yield from _faults_between_rows(matrix)


def tables_of(matrix: Matrix) -> dict[str, tuple[Any, ...]]:
    """Every list of rows by its name; each row has a `source` and a `checked` date."""
    values = {field.name: getattr(matrix, field.name) for field in dataclasses.fields(matrix)}
    return {name: value for name, value in values.items() if isinstance(value, tuple)}


def _faults_of_releases(matrix: Matrix) -> Iterator[str]:
    versions = [row.version for row in matrix.releases]
    if sorted(set(versions), reverse=True) != versions:
        yield "releases: wanted each once, newest first"
    majors = {row.major for row in matrix.drivers}
    for release in matrix.releases:
        if release.cuda_major not in majors:
            yield f"releases {release.version}: no row of drivers for CUDA {release.cuda_major}"
        if not release.wheels or not all(wheel.tags and wheel.abis for wheel in release.wheels):
            yield f"releases {release.version}: a wheel without tags or without Python ABIs"


def _faults_between_rows(matrix: Matrix) -> Iterator[str]:
    there = {row.version for row in matrix.releases}
    for row in matrix.vanished:
        if row.instead not in there:
            yield f"vanished {row.versions}: instead {row.instead} is not among the releases"
        yield from (f"vanished {row.versions}: {one} is there" for one in there if one in row.versions)
    for floor in matrix.floors:
        if floor.package not in {row.package for row in matrix.runtimes}:
            yield f"floors {floor.package}: no row of runtimes"


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
