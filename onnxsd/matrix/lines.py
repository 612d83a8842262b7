"""YAML as plain values, with the keys that stand twice and the line of every place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

# The C parser, where PyYAML was built with it (as its wheels are): ten times as fast.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Notes keys that stand twice in a mapping, of which YAML would take the last in silence."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[str] = []

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                self.twice.append(f"line {key.start_mark.line + 1}: {key.value} a second time")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(text: str) -> tuple[Any, list[str]]:
    """The plain value of a text, and a fault for each key that stands twice."""
    loader = _Loader(text)
    try:
        return loader.get_single_data(), loader.twice
    finally:
        loader.dispose()


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
