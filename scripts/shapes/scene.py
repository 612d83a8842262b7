"""What can be on a picture: one or two shapes on a background, and how such scenes are drawn by lot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import TypeVar

import numpy as np

from shapes.palette import Colour


class Shape(Enum):
    """The outline of an object."""

    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"
    RING = "ring"
    CROSS = "cross"


class Size(Enum):
    """How large an object is; in a pair each is a little smaller."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class Position(Enum):
    """Where the centre of an object lies."""

    CENTER = "center"
    LEFT = "left"
    RIGHT = "right"
    TOP = "top"
    BOTTOM = "bottom"


class Fill(Enum):
    """One colour all over, or diagonal stripes of it and of its shade."""

    PLAIN = "plain"
    STRIPED = "striped"


class Relation(Enum):
    """Where the first of two objects is, seen from the second."""

    LEFT_OF = "left of"
    RIGHT_OF = "right of"
    ABOVE = "above"
    BELOW = "below"


# The positions of the first and the second object.
PLACES: Mapping[Relation, tuple[Position, Position]] = {
    Relation.LEFT_OF: (Position.LEFT, Position.RIGHT),
    Relation.RIGHT_OF: (Position.RIGHT, Position.LEFT),
    Relation.ABOVE: (Position.TOP, Position.BOTTOM),
    Relation.BELOW: (Position.BOTTOM, Position.TOP),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One object."""

    shape: Shape
    colour: Colour
    size: Size
    fill: Fill
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One object, or two that differ in shape and in colour, none in the background's colour."""

    background: Colour
    things: tuple[Thing, ...]
    relation: Relation | None


# Combinations that no picture and no caption of the training shows; each shape, colour and background is
# missing from one pair at most, so all of them are learned well and only their combination is new.
HELD_OUT_SHAPES: frozenset[tuple[Shape, Colour]] = frozenset(
    {
        (Shape.CIRCLE, Colour.PURPLE),
        (Shape.SQUARE, Colour.ORANGE),
        (Shape.TRIANGLE, Colour.BLACK),
        (Shape.STAR, Colour.BLUE),
        (Shape.RING, Colour.GREEN),
        (Shape.CROSS, Colour.RED),
    }
)
HELD_OUT_BACKGROUNDS: frozenset[tuple[Colour, Colour]] = frozenset(
    {  # (object, background)
        (Colour.RED, Colour.GREEN),
        (Colour.YELLOW, Colour.BLUE),
        (Colour.GREEN, Colour.PURPLE),
        (Colour.PURPLE, Colour.YELLOW),
        (Colour.BLUE, Colour.ORANGE),
        (Colour.WHITE, Colour.RED),
    }
)

Look = tuple[Shape, Colour, Colour]  # an object's shape and colour, and the background's colour


def is_held_out(shape: Shape, colour: Colour, background: Colour) -> bool:
    """Whether this object on this background is kept from the training."""
    return (shape, colour) in HELD_OUT_SHAPES or (colour, background) in HELD_OUT_BACKGROUNDS


LOOKS: tuple[Look, ...] = tuple(look for look in product(Shape, Colour, Colour) if look[1] is not look[2])
SEEN_LOOKS = tuple(look for look in LOOKS if not is_held_out(*look))
HELD_OUT_LOOKS = tuple(look for look in LOOKS if is_held_out(*look))
_LOOKS_ON = {colour: tuple(look for look in LOOKS if look[2] is colour) for colour in Colour}
_SEEN_ON = {colour: tuple(look for look in SEEN_LOOKS if look[2] is colour) for colour in Colour}

SIZES = tuple(Size)
POSITIONS = tuple(Position)
RELATIONS = tuple(Relation)

STRIPED_SHARE = 0.25

T = TypeVar("T")


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """One of the choices, each as likely (much faster than Generator.choice)."""
    return choices[int(rng.random() * len(choices))]


def sample_scene(rng: np.random.Generator, *, pairs: float = 0.25, held_out: bool = False) -> Scene:
    """A scene by lot: two objects in a share `pairs`, else one, anywhere.

    held_out: at least one object is of a combination that the training never shows; else none is.
    """
    if rng.random() < pairs:
        return sample_pair(rng, held_out=held_out)
    return sample_single(rng, held_out=held_out)


def sample_single(
    rng: np.random.Generator,
    *,
    fill: Fill | None = None,
    position: Position | None = None,
    held_out: bool = False,
) -> Scene:
    """One object by lot, with this fill at this position where they are given."""
    shape, colour, background = pick(rng, HELD_OUT_LOOKS if held_out else SEEN_LOOKS)
    thing = Thing(
        shape=shape,
        colour=colour,
        size=pick(rng, SIZES),
        fill=fill or _fill(rng),
        position=position or pick(rng, POSITIONS),
    )
    return Scene(background=background, things=(thing,), relation=None)


def sample_pair(rng: np.random.Generator, *, held_out: bool = False) -> Scene:
    """Two objects by lot that differ in shape and in colour."""
    first = pick(rng, HELD_OUT_LOOKS if held_out else SEEN_LOOKS)
    others = (_LOOKS_ON if held_out else _SEEN_ON)[first[2]]
    second = first
    while second[0] is first[0] or second[1] is first[1]:
        second = pick(rng, others)
    looks = (first, second) if rng.random() < 0.5 else (second, first)
    relation = pick(rng, RELATIONS)
    things = tuple(
        Thing(shape=look[0], colour=look[1], size=pick(rng, SIZES), fill=_fill(rng), position=position)
        for look, position in zip(looks, PLACES[relation], strict=True)
    )
    return Scene(background=first[2], things=things, relation=relation)


def _fill(rng: np.random.Generator) -> Fill:
    return Fill.STRIPED if rng.random() < STRIPED_SHARE else Fill.PLAIN
