"""The words and turns of phrase of captions: tables of what is said to the ways of saying it.

Words in braces are filled in by captions.py. Write "a", never "an": it is mended where a vowel follows.
"""

from __future__ import annotations

from collections.abc import Mapping

from shapes.palette import Colour
from shapes.scene import Fill, Position, Relation, Shape, Size
from shapes.ways import Ways, ways

SHAPES: Mapping[Shape, Ways] = {
    Shape.CIRCLE: ways({"circle": 10, "disc": 2, "disk": 2, "dot": 2, "ball": 2, "round shape": 1}),
    Shape.SQUARE: ways({"square": 10, "box": 2, "block": 2, "square shape": 1, "cube": 1}),
    Shape.TRIANGLE: ways({"triangle": 10, "triangle shape": 1, "triangular shape": 1, "pyramid": 1}),
    Shape.STAR: ways({"star": 10, "star shape": 1, "five pointed star": 1, "starfish": 1}),
    Shape.RING: ways({"ring": 10, "donut": 2, "doughnut": 2, "hoop": 2, "ring shape": 1}),
    Shape.CROSS: ways({"cross": 10, "plus": 2, "plus sign": 2, "plus symbol": 1, "cross shape": 1}),
}
ANY_SHAPE = ways({"shape": 4, "object": 2, "thing": 2, "figure": 1, "form": 1})

COLOURS: Mapping[Colour, Ways] = {
    Colour.RED: ways({"red": 12, "crimson": 1, "scarlet": 1, "bright red": 1}),
    Colour.ORANGE: ways({"orange": 12, "tangerine": 1, "bright orange": 1}),
    Colour.YELLOW: ways({"yellow": 12, "lemon": 1, "golden": 1, "bright yellow": 1}),
    Colour.GREEN: ways({"green": 12, "emerald": 1, "grass green": 1}),
    Colour.BLUE: ways({"blue": 12, "azure": 1, "royal blue": 1}),
    Colour.PURPLE: ways({"purple": 10, "violet": 4, "lilac": 1}),
    Colour.BLACK: ways({"black": 12, "jet black": 1, "pitch black": 1}),
    Colour.WHITE: ways({"white": 12, "snow white": 1, "pure white": 1}),
}

SIZES: Mapping[Size, Ways] = {
    Size.SMALL: ways({"small": 6, "little": 2, "tiny": 2, "mini": 1}),
    Size.MEDIUM: ways({"medium": 4, "medium sized": 3, "mid sized": 1, "normal sized": 1}),
    Size.LARGE: ways({"large": 5, "big": 4, "huge": 1, "giant": 1}),
}

FILLS: Mapping[Fill, Ways] = {
    Fill.PLAIN: ways({"plain": 4, "solid": 3, "filled": 2, "flat": 1, "unstriped": 1}),
    Fill.STRIPED: ways({"striped": 8, "stripy": 2, "lined": 1}),
}
FILLS_BEHIND: Mapping[Fill, Ways] = {
    Fill.PLAIN: ways({"without stripes": 3, "with no stripes": 1, "in one colour": 1, "in one color": 1}),
    Fill.STRIPED: ways({"with stripes": 5, "with diagonal stripes": 2, "with a striped pattern": 1}),
}
FILL_BEHIND_SHARE = 0.2

POSITIONS: Mapping[Position, Ways] = {
    Position.CENTER: ways(
        {
            "in the center": 4,
            "in the middle": 4,
            "in the centre": 2,
            "at the center": 2,
            "centered": 2,
            "in the middle of the picture": 1,
        }
    ),
    Position.LEFT: ways(
        {
            "on the left": 6,
            "at the left": 2,
            "to the left": 2,
            "on the left side": 2,
            "in the left half": 1,
            "on the left side of the picture": 1,
            "at the left edge": 1,
        }
    ),
    Position.RIGHT: ways(
        {
            "on the right": 6,
            "at the right": 2,
            "to the right": 2,
            "on the right side": 2,
            "in the right half": 1,
            "on the right side of the picture": 1,
            "at the right edge": 1,
        }
    ),
    Position.TOP: ways(
        {
            "at the top": 6,
            "on top": 1,
            "near the top": 2,
            "in the upper part": 2,
            "in the upper half": 1,
            "at the top of the picture": 1,
            "at the top edge": 1,
        }
    ),
    Position.BOTTOM: ways(
        {
            "at the bottom": 6,
            "near the bottom": 2,
            "in the lower part": 2,
            "in the lower half": 1,
            "at the bottom of the picture": 1,
            "at the bottom edge": 1,
        }
    ),
}

# One object: `words` are its adjectives in some order, `noun` its shape.
OBJECTS = ways({"{words} {noun}": 20, "{noun}, {listed}": 1, "{noun} that is {joined}": 1})
ARTICLES = ways({"a ": 6, "the ": 1, "one ": 1, "": 5})

# Two objects; the tables of the four relations turn into each other with `a` and `b` exchanged.
PAIRS: Mapping[Relation, Ways] = {
    Relation.LEFT_OF: ways(
        {
            "{a} left of {b}": 4,
            "{a} to the left of {b}": 3,
            "{a} on the left of {b}": 1,
            "{a} on the left side of {b}": 1,
            "{a} on the left and {b} on the right": 2,
            "{a} on the left, {b} on the right": 1,
            # Without a relation: from left to right, as one reads.
            "{a} and {b}": 4,
            "{a} next to {b}": 1,
            "{a}, {b}": 1,
        }
    ),
    Relation.RIGHT_OF: ways(
        {
            "{a} right of {b}": 4,
            "{a} to the right of {b}": 3,
            "{a} on the right of {b}": 1,
            "{a} on the right side of {b}": 1,
            "{a} on the right and {b} on the left": 2,
            "{a} on the right, {b} on the left": 1,
        }
    ),
    Relation.ABOVE: ways(
        {
            "{a} above {b}": 6,
            "{a} over {b}": 1,
            "{a} on top of {b}": 1,
            "{a} higher than {b}": 1,
            "{a} at the top and {b} at the bottom": 2,
            "{a} at the top, {b} at the bottom": 1,
        }
    ),
    Relation.BELOW: ways(
        {
            "{a} below {b}": 5,
            "{a} under {b}": 2,
            "{a} underneath {b}": 1,
            "{a} beneath {b}": 1,
            "{a} at the bottom and {b} at the top": 2,
            "{a} at the bottom, {b} at the top": 1,
        }
    ),
}

BACKGROUNDS = ways(
    {
        "on a {colour} background": 10,
        "on {colour}": 4,
        "on {colour} background": 2,
        "on the {colour} background": 1,
        "against a {colour} background": 2,
        "against a {colour} backdrop": 2,
        "on a {colour} backdrop": 1,
        "over a {colour} background": 1,
        "with a {colour} background": 2,
        "in front of a {colour} background": 1,
        "on a {colour} canvas": 1,
    }
)
BACKGROUNDS_APART = ways(
    {
        "{colour} background": 6,
        "a {colour} background": 2,
        "{colour} backdrop": 2,
        "the background is {colour}": 1,
        "background: {colour}": 0.5,
        "background {colour}": 0.5,
        "{colour} behind": 0.5,
    }
)

# Whole captions, by whether the background and the place are named. `what` is one object or a pair.
SENTENCES: Mapping[tuple[bool, bool], Ways] = {
    (False, False): ways({"{what}": 1}),
    (True, False): ways(
        {
            "{what} {on}": 14,
            "{what}, {behind}": 3,
            "{behind}, {what}": 2,
            "{on}, {what}": 1,
            "{on}: {what}": 1,
            "{behind} and {what}": 0.5,
            "{what} and {behind}": 0.5,
        }
    ),
    (False, True): ways(
        {"{what} {place}": 8, "{what}, {place}": 2, "{place}, {what}": 1, "{place}: {what}": 1}
    ),
    (True, True): ways(
        {
            "{what} {place} {on}": 6,
            "{what} {on} {place}": 6,
            "{what} {on}, {place}": 2,
            "{what} {place}, {behind}": 3,
            "{what}, {behind}, {place}": 1,
            "{behind}, {what} {place}": 2,
            "{behind}, {place} {what}": 1,
            "{on}, {what} {place}": 1,
            "{on}: {what} {place}": 1,
            "{place} {what} {on}": 1,
            "{place}, {what} {on}": 1,
        }
    ),
}
OPENINGS = ways(
    {
        "": 60,
        "a picture of ": 5,
        "picture of ": 2,
        "an image of ": 3,
        "a drawing of ": 2,
        "an illustration of ": 1,
        "a painting of ": 1,
        "a photo of ": 1,
        "there is ": 1,
        "show me ": 1,
        "draw ": 1,
        "make ": 1,
    }
)
CLOSINGS = ways(
    {"": 88, ".": 6, ", simple": 1, ", flat colors": 1, ", high quality": 1, ", sharp": 1, ", minimal": 1}
)
