"""docs/doctor.md and the README's picture are what the checks, the symptoms and the options say now."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from onnxsd.doctor import CHECKS
from onnxsd.doctor.symptoms import catalogue

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "write_doctor_docs.py"
sys.path.insert(0, str(SCRIPT.parent))

from doctor_picture import drawn  # noqa: E402  (a script's own helper)


def test_the_docs_are_not_stale() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_each_check_and_each_symptom_has_its_place() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")

    for check in CHECKS:
        assert f"\n#### {check.id}\n" in page
    for symptom in catalogue():
        assert f"\n| {symptom.id} |" in page


def test_a_link_leads_to_a_heading_that_there_is() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    named = {line.split("](#")[1].split(")")[0] for line in page.splitlines() if "](#" in line}

    assert named
    assert named <= {check.id for check in CHECKS}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", ["plain"]),
        ("\x1b[31m\x1b[1mred & bold\x1b[0m then", ["red & bold", "then"]),
        ("one\n\n  two", ["one", "two"]),
    ],
)
def test_a_terminal_is_drawn_with_its_words(text: str, expected: list[str]) -> None:
    picture = ElementTree.fromstring(drawn(text))
    texts = picture.findall(".//{http://www.w3.org/2000/svg}text")

    assert [one.text for one in texts] == expected
    assert ("font-weight" in texts[0].attrib) is ("1m" in text)
    assert "http" not in drawn(text).replace("http://www.w3.org/2000/svg", "")
