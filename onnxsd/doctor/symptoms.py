"""The causes that an error text points to, from the catalogue `symptoms.yaml`."""

from __future__ import annotations

import bisect
import datetime
import enum
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from onnxsd.errors import BadInputError
from onnxsd.records import decode

NAME = "symptoms.yaml"
SCHEMA = 1
_ANY = "*"  # in a phrase: up to so many characters of anything
_ANY_LIMIT = 80
_SHOWN_LENGTH = 300  # characters of a line that is quoted back
# A colour as it is sent, as a log file spells it out, and what is left of it where the escape was lost.
_COLOUR = re.compile(r"(?:\x1b|\\x1b|\\u001b|\\033|\\e)?\[[0-9]{1,3}(?:;[0-9]{1,3})*m", re.IGNORECASE)
_TITLE = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-9;?]*[A-Za-z]")
_QUOTES = re.compile("['\"`\u2018\u2019\u201c\u201d]")
# A log inside JSON spells its line ends out; `\nvidia` in a path of Windows is none.
_LINE_END = re.compile(r"\r\n|\n|\r|\\n(?![a-z])")


class Says(enum.Enum):
    """What a symptom tells; the order is that of the answers."""

    CAUSE = "cause"
    FAILURE = "failure"  # that something failed, and not why
    HARMLESS = "harmless"


class Evidence(enum.Enum):
    """Where a row is known from, beside its source."""

    REPRODUCED = "reproduced"
    REPORTED = "reported"
    STANDARD_TEXT = "standard-text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One row of the catalogue: an error's words, its cause, and what to do.

    It fits a text that holds every phrase of one of its patterns. Quotes, case and line breaks make no
    difference; `*` in a phrase is anything, 80 characters at most.
    """

    id: str
    says: Says
    patterns: tuple[tuple[str, ...], ...]
    cause: str
    check: str | None  # the check that looks whether it is so on a machine
    remedies: tuple[str, ...]  # steps; one that starts with `$ ` is a command
    source: str
    evidence: Evidence
    checked: datetime.date

    def to_json(self) -> dict[str, Any]:
        """What a user needs of the row, as plain values."""
        return {
            "id": self.id,
            "says": self.says.value,
            "cause": self.cause,
            "check": self.check,
            "remedies": list(self.remedies),
            "source": self.source,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A symptom that a text shows, and the lines that show it."""

    symptom: Symptom
    seen: tuple[str, ...]
    specificity: int  # characters that the pattern spells out: the more, the less it fits by chance

    def to_json(self) -> dict[str, Any]:
        """The match as plain values."""
        return {**self.symptom.to_json(), "seen": list(self.seen)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Catalogue:
    schema: int
    symptoms: tuple[Symptom, ...]


@functools.cache
def catalogue() -> tuple[Symptom, ...]:
    """Every symptom that is known."""
    text = (resources.files("onnxsd.doctor") / NAME).read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    read = decode(_Catalogue, yaml.load(text, Loader=loader), source=NAME)
    faults = list(_faults_of(read))
    if faults:
        raise BadInputError(f"{NAME} cannot be used: " + "; ".join(faults))
    return read.symptoms


def matches(text: str) -> tuple[Match, ...]:
    """The symptoms that a text shows: causes before mere failures, and what fits most closely first."""
    lines = _Lines(text)
    found = [match for symptom in catalogue() if (match := _match(symptom, lines))]
    order = tuple(Says)
    return tuple(sorted(found, key=lambda match: (order.index(match.symptom.says), -match.specificity)))


def _match(symptom: Symptom, lines: _Lines) -> Match | None:
    """The closest of the symptom's patterns that the text shows."""
    found = []
    for pattern in symptom.patterns:
        seen = lines.find_all(pattern)
        if seen is not None:
            found.append((_specificity(pattern), seen))
    if not found:
        return None
    specificity, at = max(found)
    return Match(symptom=symptom, seen=tuple(map(lines.shown, at)), specificity=specificity)


def _specificity(pattern: tuple[str, ...]) -> int:
    return sum(len(phrase.replace(_ANY, "")) for phrase in pattern)


class _Lines:
    """A text without colours, quotes, capitals and needless blanks; it knows the line of each place."""

    def __init__(self, text: str) -> None:
        bare = _COLOUR.sub("", _TITLE.sub("", text))
        self.original = [line.strip() for line in _LINE_END.split(bare) if line.strip()]
        plain = [_plain(line) for line in self.original]
        self.joined = " ".join(plain)  # a message may be broken over lines
        self.starts = [0]
        for line in plain[:-1]:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def find_all(self, pattern: tuple[str, ...]) -> tuple[int, ...] | None:
        """The lines of a pattern's phrases; None where the text lacks one of them."""
        found = []
        for phrase in pattern:
            place = self.find(phrase)
            if place is None:
                return None
            found.append(place)
        return tuple(dict.fromkeys(found))

    def find(self, phrase: str) -> int | None:
        """The number of the line on which a phrase starts; None where the text does not have it."""
        pieces = _plain(phrase).split(_ANY)
        if not all(piece in self.joined for piece in pieces):  # many times faster, and nearly always the end
            return None
        found = _compiled(phrase).search(self.joined)
        return bisect.bisect_right(self.starts, found.start()) - 1 if found else None

    def shown(self, number: int) -> str:
        """A line as it was, cut where it is very long."""
        line = self.original[number]
        return line if len(line) <= _SHOWN_LENGTH else line[:_SHOWN_LENGTH] + "…"


def _plain(text: str) -> str:
    return " ".join(_QUOTES.sub("", text).lower().split())


@functools.cache
def _compiled(phrase: str) -> re.Pattern[str]:
    """A phrase that does not start or end within a word or a number: `so.1` is not in `so.12`.

    Nor does it end within a dotted name or one with underscores: `onnxruntime` is not in `onnxruntime.capi`.
    """
    pieces = (re.escape(piece) for piece in _plain(phrase).split(_ANY))
    middle = f".{{0,{_ANY_LIMIT}}}?".join(pieces)
    return re.compile(
        _edge(phrase[0], "(?<!{})") + middle + _edge(phrase[-1], "(?!{})") + _name_ends(phrase[-1])
    )


def _name_ends(last: str) -> str:
    return "(?![_.][a-z])" if last.isalpha() else ""


def _edge(character: str, around: str) -> str:
    if character.isdigit():
        return around.format("[0-9]")
    return around.format("[a-z]") if character.isalpha() else ""


def _faults_of(read: _Catalogue) -> Iterator[str]:
    if read.schema != SCHEMA:
        yield f"schema: this onnxsd reads {SCHEMA}, found {read.schema}"
    ids = [row.id for row in read.symptoms]
    yield from (f"{name}: more than once" for name in sorted({name for name in ids if ids.count(name) > 1}))
    for row in read.symptoms:
        if not row.patterns or not all(_plain(phrase) for pattern in row.patterns for phrase in pattern):
            yield f"{row.id}: a pattern without a phrase"
        if not (row.source and row.cause and row.remedies):
            yield f"{row.id}: wants a source, a cause and a remedy"
