"""What is wrong with a matrix although every field has its type."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from onnxsd.matrix.rows import Matrix

SCHEMA = 2


def faults_of(matrix: Matrix) -> Iterator[str]:
    """Every fault, each beginning with its place (`releases[3]: …`)."""
    if matrix.schema != SCHEMA:
        yield f"schema: this onnxsd reads {SCHEMA}, found {matrix.schema}"
    for name, rows in tables_of(matrix).items():
        if not rows:
            yield f"{name}: empty"
        yield from (f"{name}[{at}]: no source" for at, row in enumerate(rows) if not row.source.strip())
    yield from _of_releases(matrix)
    yield from _between_rows(matrix)


def tables_of(matrix: Matrix) -> dict[str, tuple[Any, ...]]:
    """Every list of rows by its name; each row has a `source` and a `checked` date."""
    values = {field.name: getattr(matrix, field.name) for field in dataclasses.fields(matrix)}
    return {name: value for name, value in values.items() if isinstance(value, tuple)}


def _of_releases(matrix: Matrix) -> Iterator[str]:
    versions = [row.version for row in matrix.releases]
    if sorted(set(versions), reverse=True) != versions:
        yield "releases: wanted each once, newest first"
    majors = {row.major for row in matrix.drivers}
    for at, release in enumerate(matrix.releases):
        if release.cuda_major not in majors:
            yield f"releases[{at}]: {release.version} has no row of drivers for CUDA {release.cuda_major}"
        if not release.wheels or not all(wheel.tags and wheel.abis for wheel in release.wheels):
            yield f"releases[{at}]: {release.version} has a wheel without tags or without Python ABIs"
        platforms = [wheel.platform for wheel in release.wheels]
        if len(set(platforms)) < len(platforms):
            yield f"releases[{at}]: {release.version} names a platform twice"


def _between_rows(matrix: Matrix) -> Iterator[str]:
    there = {row.version for row in matrix.releases}
    for at, row in enumerate(matrix.vanished):
        if row.instead not in there:
            yield f"vanished[{at}]: {row.instead} is not among the releases"
        yield from (f"vanished[{at}]: {one} is among the releases" for one in there if one in row.versions)
    packages = {row.package for row in matrix.runtimes}
    for at, floor in enumerate(matrix.floors):
        if floor.package not in packages:
            yield f"floors[{at}]: {floor.package} has no row of runtimes"
