"""The script that paints the README's picture: each prompt once, below its picture, no letter cut off."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import make_pictures

PAPER = make_pictures.PAPER
ROOT = make_pictures.ROOT


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script's arguments, for two prompts and a file of ours; that file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(make_pictures, "PROMPTS", ("a red circle", "a blue square on white"))
    monkeypatch.setattr(sys, "argv", ["make_pictures.py", "--out", str(tmp_path / "docs" / "x.png")])
    return tmp_path / "docs" / "x.png"


def test_it_paints_the_built_in_model(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_pictures.main() == 0

    assert capsys.readouterr().out == f"{asked}: 2 prompts, seed 1\n"
    with Image.open(asked) as sheet:
        assert sheet.width == 2 * (128 + 2 * make_pictures.MARGIN)
        assert np.asarray(sheet)[20:100, 20:100].std() > 0


def test_a_model_that_is_not_there(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--model", "nowhere"])

    assert make_pictures.main() == 3
    assert "error: nowhere is not a folder" in capsys.readouterr().err
    assert not asked.exists()


@pytest.mark.parametrize("prompt", make_pictures.PROMPTS)
def test_every_label_is_whole(prompt: str) -> None:
    made = np.asarray(make_pictures.labelled(Image.new("RGB", (128, 128)), prompt)).astype(int)

    label = made[128 + 2 * make_pictures.MARGIN - 1 :]
    inked = np.abs(label - PAPER).sum(axis=2) > 100
    assert inked.any()
    assert not inked[:, -2:].any(), "a letter runs over the right edge"
    assert not inked[-1].any(), "a letter runs over the lower edge"


def test_lines_break_between_words() -> None:
    assert make_pictures.wrapped("a b cc incomprehensible d", lambda line: len(line) <= 4) == [
        "a b",
        "cc",
        "incomprehensible",
        "d",
    ]
    assert make_pictures.wrapped("", lambda line: True) == []


def test_the_readme_shows_pictures_that_are_there() -> None:
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))

    assert make_pictures.OUT.relative_to(ROOT).as_posix() in shown
    assert [path for path in shown if not (ROOT / path).is_file()] == []
