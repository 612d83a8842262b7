"""Frozen dataclasses to and from plain values (JSON, YAML), with every fault reported together."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from onnxsd.errors import BadInputError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Dotted:
    """A dotted number that keeps its spelling (`450.80.02`); it compares part by part, as numbers.

    Drivers and C libraries are numbered so. `packaging`'s Version would print 450.80.2.
    """

    parts: tuple[int, ...]
    text: str = dataclasses.field(compare=False)

    @classmethod
    def parse(cls, text: str) -> Dotted:
        """The number that `text` spells."""
        pieces = text.split(".")
        if not all(piece.isdecimal() for piece in pieces):
            raise ValueError(f"{text!r} is not numbers with dots between them")
        return cls(tuple(int(piece) for piece in pieces), text)

    def __str__(self) -> str:
        return self.text


def encode(value: Any) -> Any:
    """The plain value (dict, list, text, number) that stands for a record.

    Fields keep their order; one that is None, and may be left out when read, is left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, Dotted)):
        pairs = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {
            field.name: encode(item) for field, item in pairs if item is not None or field.default is not None
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (Version, SpecifierSet, Dotted, datetime.date)):
        return str(value)
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], value: Any, *, source: str, locate: Callable[[str], str] = str) -> T:
    """The record of class `kind` that a plain value stands for.

    Args:
        locate: adds to a fault where in the file its place is; called only where there are faults.

    Raises:
        BadInputError: names every fault with its place, and `source` as the file it came from.
    """
    faults: list[str] = []
    record = _decode(kind, value, "", faults)
    if faults:
        raise BadInputError(f"{source} cannot be used: " + "; ".join(map(locate, faults)))
    return typing.cast("T", record)


def _decode(kind: Any, value: Any, place: str, faults: list[str]) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_optional(kind, value, place, faults)
    if origin is tuple:
        return _decode_tuple(typing.get_args(kind), value, place, faults)
    if dataclasses.is_dataclass(kind) and kind is not Dotted:
        return _decode_record(kind, value, place, faults)
    return _decode_scalar(kind, value, place, faults)


def _decode_optional(kind: Any, value: Any, place: str, faults: list[str]) -> Any:
    if value is None:
        return None
    (inner,) = (arm for arm in typing.get_args(kind) if arm is not type(None))
    return _decode(inner, value, place, faults)


def _decode_tuple(arms: tuple[Any, ...], value: Any, place: str, faults: list[str]) -> Any:
    if not isinstance(value, list):
        return _fault(faults, place, "a list", value)
    if arms[-1] is Ellipsis:
        arms = (arms[0],) * len(value)
    if len(arms) != len(value):
        return _fault(faults, place, f"a list of {len(arms)}", value)
    pairs = zip(arms, value, strict=True)
    return tuple(_decode(arm, item, f"{place}[{at}]", faults) for at, (arm, item) in enumerate(pairs))


def _decode_record(kind: Any, value: Any, place: str, faults: list[str]) -> Any:
    if not isinstance(value, dict):
        return _fault(faults, place, "a mapping", value)
    fields = _fields_of(kind)
    unknown = [name for name in value if name not in fields]
    faults += [f"{_join(place, str(name))}: there is no such field" for name in unknown]
    known = {}
    for name, (hint, required) in fields.items():
        if name in value:
            known[name] = _decode(hint, value[name], _join(place, name), faults)
        elif required:
            faults.append(f"{_join(place, name)}: missing")
    return None if faults else kind(**known)


@functools.cache
def _fields_of(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Type and need of each field, found once for a class: a matrix has hundreds of rows of few classes."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: (hints[field.name], field.default is dataclasses.MISSING)
        for field in dataclasses.fields(kind)
    }


def _decode_scalar(kind: Any, value: Any, place: str, faults: list[str]) -> Any:
    if kind in (int, float, bool, str):
        # bool is an int to Python, but not to a file.
        fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        return value if fits else _fault(faults, place, kind.__name__, value)
    if not isinstance(value, str):
        return _fault(faults, place, f"quoted text ({kind.__name__})", value)
    try:
        return _PARSERS.get(kind, kind)(value)
    except (InvalidVersion, InvalidSpecifier, ValueError):
        return _fault(faults, place, _describe(kind), value)


_PARSERS: dict[Any, Callable[[str], Any]] = {Dotted: Dotted.parse, datetime.date: datetime.date.fromisoformat}


def _describe(kind: Any) -> str:
    if issubclass(kind, enum.Enum):
        return "one of " + ", ".join(str(member.value) for member in kind)
    return f"a {kind.__name__}"


def _fault(faults: list[str], place: str, expected: str, found: Any) -> None:
    faults.append(f"{place or 'the file'}: expected {expected}, found {found!r:.60}")


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
