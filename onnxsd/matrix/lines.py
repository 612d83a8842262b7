"""YAML as plain values, quickly; the keys that stand twice, and the line of every place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import yaml

# The C parser, where PyYAML was built with it (as its wheels are): ten times as fast.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_WORDS: dict[str, bool | None] = {"null": None, "true": True, "false": False}


def read(text: str) -> tuple[Any, list[str]]:
    """The plain value of a text, and a fault for each key that stands twice in a mapping.

    Built from the parser's events, in a third of the time that PyYAML's constructors take; they also keep
    the last of two equal keys in silence.

    Raises:
        yaml.YAMLError: it is not YAML, or has anchors, tags or two documents, which the file does without.
    """
    loader = _Base(text)
    try:
        reader = _Reader(loader.get_event)
        return reader.document(), reader.twice
    finally:
        loader.dispose()


class _Reader:
    """Makes values of events."""

    def __init__(self, following: Callable[[], Any]) -> None:
        self._following = following
        self.twice: list[str] = []

    def document(self) -> Any:
        self._following()  # the stream's start
        if isinstance(self._following(), yaml.StreamEndEvent):
            return None
        value = self._value(self._following())
        self._following()  # the document's end
        if not isinstance(end := self._following(), yaml.StreamEndEvent):
            raise _unexpected(end)
        return value

    def _value(self, event: Any) -> Any:
        kind = type(event)
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise _unexpected(event)
        if kind is yaml.ScalarEvent:
            return event.value if event.style else _plain(event.value)
        if kind is yaml.MappingStartEvent:
            return self._mapping()
        if kind is yaml.SequenceStartEvent:
            return self._sequence()
        raise _unexpected(event)

    def _mapping(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while type(key := self._following()) is not yaml.MappingEndEvent:
            if type(key) is not yaml.ScalarEvent:
                raise _unexpected(key)
            if key.value in found:
                mark: Any = key.start_mark
                self.twice.append(f"line {mark.line + 1}: {key.value} a second time")
            found[key.value] = self._value(self._following())
        return found

    def _sequence(self) -> list[Any]:
        found = []
        while type(item := self._following()) is not yaml.SequenceEndEvent:
            found.append(self._value(item))
        return found


def _plain(text: str) -> Any:
    """What stands without quotes: a word or a number, else what YAML makes of it (1.31 is no text)."""
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if text.isdecimal() and text[0] != "0" else yaml.safe_load(text)


def _unexpected(event: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=f"unexpected {event}", problem_mark=event.start_mark)


def lines_of(text: str) -> dict[str, int]:
    """The line, from 1, of every place of a text: `releases[0].version`."""
    node = yaml.compose(text, Loader=_Base)
    return dict(_places(node, "")) if node else {}


def located(fault: str, lines: dict[str, int]) -> str:
    """A fault with the line of its place in front, or of the nearest place around it that is there."""
    place = fault.partition(":")[0]
    while place and place not in lines:
        place = place[: max(place.rfind("."), place.rfind("["), 0)]
    return f"line {lines[place]}: {fault}" if place else fault


def _places(node: yaml.Node, place: str) -> Iterator[tuple[str, int]]:
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _places(value, f"{place}.{key.value}" if place else str(key.value))
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            yield from _places(value, f"{place}[{at}]")
