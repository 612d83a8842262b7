"""The eight colours of the world as 8-bit RGB, each with the shade that its stripes are drawn in."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Colour(Enum):
    """A colour of an object or a background."""

    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    GREEN = "green"
    BLUE = "blue"
    PURPLE = "purple"
    BLACK = "black"
    WHITE = "white"


Rgb = tuple[int, int, int]

BASE: Mapping[Colour, Rgb] = {
    Colour.RED: (220, 40, 40),
    Colour.ORANGE: (245, 140, 30),
    Colour.YELLOW: (250, 220, 50),
    Colour.GREEN: (50, 160, 70),
    Colour.BLUE: (40, 90, 210),
    Colour.PURPLE: (140, 60, 170),
    Colour.BLACK: (20, 20, 20),
    Colour.WHITE: (245, 245, 245),
}

# Every second stripe: darker, but lighter for black and grey for white. All sixteen colours of the two
# tables lie at least 60 apart in RGB, so that a stripe tells whose it is.
STRIPE: Mapping[Colour, Rgb] = {
    Colour.RED: (125, 10, 25),
    Colour.ORANGE: (155, 75, 10),
    Colour.YELLOW: (170, 145, 15),
    Colour.GREEN: (15, 85, 40),
    Colour.BLUE: (15, 40, 120),
    Colour.PURPLE: (75, 20, 105),
    Colour.BLACK: (105, 105, 105),
    Colour.WHITE: (175, 175, 175),
}
