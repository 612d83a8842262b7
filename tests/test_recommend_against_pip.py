"""The recommendation equals what pip takes, capped by driver and GPU: by pip's recorded answers."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from doctor_cases import MATRIX, load

ROOT = Path(__file__).parents[1]
# A part of the script's grid: the limits of each CUDA major, GPUs at the ends of what wheels hold.
DRIVERS = ("450.80.02", "535.104.05", "570.86.10", "580.65.06")
GPUS = ("6.1", "8.0", "8.6", "9.0", "10.3", "12.0")


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "check_against_pip", ROOT / "scripts" / "check_against_pip.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
RECORD = json.loads(SCRIPT.ANSWERS.read_text(encoding="utf-8"))
ANSWERS = SCRIPT.answers_of(RECORD)
FACTS = yaml.safe_load(SCRIPT.FACTS.read_text(encoding="utf-8"))
PLACES = {place.name: place for place in SCRIPT.PLACES}


def rows(place: str, python: str, facts: dict[str, Any] = FACTS) -> Iterator[Any]:
    """What pip with the cap, and the doctor, say in one place with one Python."""
    yield from SCRIPT.compare(
        load("healthy_cuda13"),
        PLACES[place],
        python,
        ANSWERS[place, python],
        facts,
        MATRIX,
        drivers=DRIVERS,
        gpus=GPUS,
    )


@pytest.mark.parametrize("place", PLACES)
def test_the_doctor_names_what_pip_takes(place: str) -> None:
    found = [row for python in SCRIPT.PYTHONS for row in rows(place, python)]

    assert len(found) == len(SCRIPT.PYTHONS) * len(DRIVERS) * len(GPUS)
    assert [row for row in found if row.pip != row.doctor] == []


def test_every_release_of_the_matrix_was_there_when_pip_was_asked() -> None:
    """A refreshed matrix needs new answers: python scripts/check_against_pip.py --write."""
    seen = {release for releases in ANSWERS.values() for release in releases}

    assert seen == {str(release.version) for release in MATRIX.releases}


def test_the_grid_holds_every_place_and_python() -> None:
    assert set(ANSWERS) == {(place, python) for place in PLACES for python in SCRIPT.PYTHONS}
    assert ANSWERS["manylinux_2_26_x86_64", "3.10"][0] == "1.16.3"
    assert ANSWERS["musllinux_1_2_x86_64", "3.12"] == ()


def test_a_wheel_that_lost_its_code_would_be_seen() -> None:
    """The cap reads the facts itself: without code for 8.6 in 1.31.1 the two no longer agree."""
    facts = copy.deepcopy(FACTS)
    newest = next(row for row in facts["releases"] if row["version"] == "1.31.1")
    wheel = next(one for one in newest["wheels"] if one["platform"] == "linux_x86_64")
    wheel["sass"] = [code for code in wheel["sass"] if code not in ("80", "86")]

    wrong = [row for row in rows("manylinux_2_35_x86_64", "3.12", facts) if row.pip != row.doctor]

    assert {(row.gpu, row.pip, row.doctor) for row in wrong} == {
        ("8.0", "1.31.0", "1.31.1"),
        ("8.6", "1.31.0", "1.31.1"),
    }


def test_the_page_says_what_the_record_says() -> None:
    text = SCRIPT.PAGE.read_text(encoding="utf-8")

    assert f"on {RECORD['asked']}, with pip {RECORD['pip']}." in text
    assert "**0 differ**" in text
    assert "| manylinux_2_26_x86_64 | 1.16.3 | 1.16.3 | 1.16.3 | 1.16.3 | – |" in text
