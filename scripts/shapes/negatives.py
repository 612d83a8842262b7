"""What a negative prompt does: how often a colour goes when it is named there, all else equal."""

from __future__ import annotations

from collections.abc import Sequence

from shapes.cases import Open
from shapes.figures import Figure, share
from shapes.judge import Pixels, Seen, judge
from shapes.painter import Painter, Picture, painted

KEPT_MAX = 50.0  # percent of pictures that may keep the colour that the negative prompt names


def negative_effect(
    paint: Painter, cases: Sequence[Open], before: Sequence[Pixels], guidance: float
) -> tuple[list[Figure], list[Picture]]:
    """Each picture is painted twice from one seed: alone, then with its object's colour as negative prompt.

    Without an effect every picture would keep its colour; the shape, which the prompt names, should stay.
    before: the pictures of the cases alone.
    """
    if not cases:
        return [], []
    first = [_largest(picture) for picture in before]
    colours = [_colour(seen) for seen in first]
    negatives = [colour or "" for colour in colours]
    after = painted(paint, cases, guidance, negatives)
    then = [_largest(picture) for picture in after]
    told = [index for index, colour in enumerate(colours) if colour]
    figures = [
        share("no negative prompt: an object in some colour", [colour is not None for colour in colours]),
        share(
            "negative colour: kept all the same",
            [_colour(then[index]) == colours[index] for index in told],
            at_most=KEPT_MAX,
        ),
        share(
            "negative colour: shape unchanged",
            [_shape(then[index]) == _shape(first[index]) for index in told],
        ),
    ]
    return figures, [*_pictures(cases, before, [""] * len(cases)), *_pictures(cases, after, negatives)]


def _pictures(cases: Sequence[Open], pixels: Sequence[Pixels], negatives: Sequence[str]) -> list[Picture]:
    return [
        Picture(
            name=f"negative-{case.seed:03}-{negative or 'none'}", prompt=case.prompt, pixels=picture, wrong=()
        )
        for case, picture, negative in zip(cases, pixels, negatives, strict=True)
    ]


def _largest(picture: Pixels) -> Seen | None:
    return next(iter(judge(picture).things), None)


def _colour(seen: Seen | None) -> str | None:
    return seen.colour.value if seen is not None and seen.colour is not None else None


def _shape(seen: Seen | None) -> str | None:
    return seen.shape.value if seen is not None and seen.shape is not None else None
