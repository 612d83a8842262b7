"""The doctor: recorded machines and what it says of them, the matrix, the facts, the probe."""

from __future__ import annotations

from pathlib import Path

import pytest
from doctor_cases import MATRIX

from onnxsd import matrix
from onnxsd.errors import BadInputError
from onnxsd.matrix.file import parse

ROOT = Path(__file__).parents[1]


def test_the_matrix_is_dumped_as_it_was_read() -> None:
    text = (ROOT / "compat_matrix.yaml").read_text(encoding="utf-8")

    assert matrix.dump(parse(text, source="the file")) == text


def test_every_row_of_the_matrix_has_a_source_and_a_date() -> None:
    assert len(MATRIX.releases) == 35
    for rows in (MATRIX.floors, MATRIX.drivers, MATRIX.branches, MATRIX.systems, MATRIX.releases):
        assert all(row.source and row.checked for row in rows)


def test_faults_of_a_matrix_are_reported_together() -> None:
    text = (ROOT / "compat_matrix.yaml").read_text(encoding="utf-8")
    text = text.replace('version: "1.31.1"', "version: 1.31", 1).replace(
        "cuda_major: 13", 'cuda_major: "13"', 1
    )
    text = text.replace('glibc: "2.17"', 'glibc: "two"').replace("extras_fault:", "extra_fault:")

    with pytest.raises(BadInputError) as caught:
        parse(text, source="matrix.yaml")

    for part in (
        "matrix.yaml",
        "releases[0].version: expected quoted text (Version), found 1.31",
        "floors[0].cuda_major: expected int, found '13'",
        "systems[0].glibc: expected a Dotted, found 'two'",
        "extra_fault: there is no such field",
    ):
        assert part in str(caught.value)


def test_the_matrix_asks_for_what_the_run_extra_asks_for() -> None:
    from configparser import ConfigParser

    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options.extras_require"]["run"].split()

    assert [f"{row.name}>={row.minimum}" for row in MATRIX.requirements] == wanted
