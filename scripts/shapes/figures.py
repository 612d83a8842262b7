"""Figures with their bars: as text, as JSON, in a model card, and against those of another run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsd.errors import BadInputError

CARD_START, CARD_END = "<!-- scores -->", "<!-- end of scores -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure.

    at_least, at_most: the bars, where there are any. count: of pictures that it was counted on.
    """

    name: str
    value: float
    unit: str
    count: int | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def passed(self) -> bool:
        """Whether it reaches its bars."""
        low = self.at_least is not None and not self.value >= self.at_least
        high = self.at_most is not None and not self.value <= self.at_most
        return not low and not high

    @property
    def bar(self) -> str:
        """The bars as a person writes them."""
        low = "" if self.at_least is None else f"≥ {self.at_least:g}"
        high = "" if self.at_most is None else f"≤ {self.at_most:g}"
        return f"{low}{high}"

    @property
    def shown(self) -> str:
        """The value with its unit."""
        return f"{self.value:.1f} {self.unit}"


def share(
    name: str, rights: Sequence[bool], *, at_least: float | None = None, at_most: float | None = None
) -> Figure:
    """The percentage of `rights` that hold; of none, not a number, which no bar lets pass."""
    value = 100 * sum(rights) / len(rights) if rights else float("nan")
    return Figure(name=name, value=value, unit="%", count=len(rights), at_least=at_least, at_most=at_most)


def as_text(figures: Iterable[Figure]) -> str:
    """A line a figure: value, bar, and whether it is met."""
    lines = []
    for figure in figures:
        verdict = "" if not figure.bar else "ok" if figure.passed else "MISSED"
        count = "" if figure.count is None else f"of {figure.count}"
        lines.append(f"{figure.name:<52} {figure.shown:>12} {count:<7} {figure.bar:<7} {verdict}".rstrip())
    return "\n".join(lines)


def as_json(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """What `from_json` reads; JSON has no NaN, so the share of nothing is null."""
    return [
        {
            "name": figure.name,
            "value": None if math.isnan(figure.value) else figure.value,
            "unit": figure.unit,
            "count": figure.count,
            "at_least": figure.at_least,
            "at_most": figure.at_most,
            "passed": figure.passed,
        }
        for figure in figures
    ]


def from_json(found: Iterable[Mapping[str, Any]]) -> tuple[Figure, ...]:
    """Figures that an earlier run wrote."""
    return tuple(
        Figure(
            name=str(entry["name"]),
            value=math.nan if entry["value"] is None else float(entry["value"]),
            unit=str(entry["unit"]),
            count=entry["count"],
            at_least=entry["at_least"],
            at_most=entry["at_most"],
        )
        for entry in found
    )


def apart(figures: Iterable[Figure], others: Iterable[Figure], points: float) -> tuple[str, ...]:
    """A line for each score that differs by more than `points` from the other run's, or is not there.

    Scores are the figures that were counted and must reach a bar. A difference between two figures, or a
    share of few pictures that may only stay below one, jumps by more than that with a single picture.
    """
    before = {figure.name: figure for figure in others}
    lines = []
    for figure in figures:
        if figure.at_least is None or figure.count is None:
            continue
        other = before.get(figure.name)
        if other is None:
            lines.append(f"{figure.name}: {figure.shown}, not in the other run")
        elif not abs(figure.value - other.value) <= points:
            lines.append(f"{figure.name}: {figure.shown}, {other.shown} in the other run")
    return tuple(lines)


def write_card(card: Path, figures: Iterable[Figure], heading: str) -> None:
    """Puts the figures between the two marks of a model card, in place of what stood there."""
    text = card.read_text(encoding="utf-8")
    before, start, rest = text.partition(CARD_START)
    _, end, after = rest.partition(CARD_END)
    if not start or not end:
        raise BadInputError(
            f"{card} has no {CARD_START} with {CARD_END} after it", hint="write the two marks into the card"
        )
    rows = [f"| {figure.name} | {figure.shown} | {figure.bar} |" for figure in figures]
    table = "\n".join(["| | value | bar |", "|---|---|---|", *rows])
    card.write_text(f"{before}{start}\n{heading}\n\n{table}\n{end}{after}", encoding="utf-8", newline="\n")
