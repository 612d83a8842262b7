"""A terminal as an SVG picture: what `onnxsd doctor` prints for a recorded machine, with its colours."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from click.testing import CliRunner

from onnxsd.cli import main

_COLUMNS = 80
_CHARACTER = 8.4  # units a column takes at this font size; `textLength` holds every font to it
_LINE = 20
_SIZE = 14
_MARGIN = 20
_BACKGROUND, _TEXT = "#11151c", "#d5dbe6"
_COLOURS = {31: "#ff6b6b", 32: "#7bd88f", 33: "#f5c451", 35: "#c792ea", 36: "#6bc5d2"}
_DIM = "#8a93a3"
_BOLD, _FAINT = 1, 2
_STYLE = re.compile(r"\x1b\[([0-9;]*)m")


def picture_of(machine: Path) -> str:
    """The SVG of the doctor's text for a recorded machine."""
    shown = ["doctor", "--facts", machine.as_posix()]
    result = CliRunner(env={"COLUMNS": str(_COLUMNS)}).invoke(main, shown, color=True)
    return drawn(f"\x1b[1m$ onnxsd doctor\x1b[0m\n{result.stdout}")


def drawn(text: str) -> str:
    """A text with terminal colours as an SVG picture."""
    lines = text.rstrip("\n").split("\n")
    columns = max(_COLUMNS, *(len(_STYLE.sub("", line)) for line in lines))
    width = round(columns * _CHARACTER + 2 * _MARGIN)
    height = len(lines) * _LINE + 2 * _MARGIN
    body = [line for at, row in enumerate(lines) for line in _row(row, _MARGIN + _LINE * at + _SIZE)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img">',
            f"<title>{html.escape(_STYLE.sub('', lines[0]))}</title>",
            f'<rect width="100%" height="100%" rx="8" fill="{_BACKGROUND}"/>',
            f'<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="{_SIZE}" '
            f'fill="{_TEXT}" xml:space="preserve">',
            *body,
            "</g>",
            "</svg>",
            "",
        ]
    )


def _row(row: str, y: int) -> Iterator[str]:
    """One element for each run of letters in one style."""
    column = 0
    codes: set[int] = set()
    for at, piece in enumerate(_STYLE.split(row)):
        if at % 2:
            new = {int(code or 0) for code in piece.split(";")}
            codes = set() if 0 in new else codes | new
            continue
        blanks = len(piece) - len(piece.lstrip(" "))
        shown = piece.strip(" ")
        if shown:
            x = _MARGIN + (column + blanks) * _CHARACTER
            length = len(shown) * _CHARACTER
            yield (
                f'<text x="{x:.1f}" y="{y}" textLength="{length:.1f}" lengthAdjust="spacingAndGlyphs"'
                f"{_attributes(codes)}>{html.escape(shown, quote=False)}</text>"
            )
        column += len(piece)


def _attributes(codes: set[int]) -> str:
    colour = next((_COLOURS[code] for code in codes if code in _COLOURS), _DIM if _FAINT in codes else None)
    return (f' fill="{colour}"' if colour else "") + (' font-weight="bold"' if _BOLD in codes else "")
