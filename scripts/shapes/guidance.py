"""What guidance does: how often pictures follow what captions mean but do not say."""

from __future__ import annotations

from collections.abc import Sequence

from shapes.cases import Open
from shapes.figures import Figure, share
from shapes.judge import Pixels, judge
from shapes.painter import Painter, painted
from shapes.scene import Position

GAIN_MIN = 5.0  # points: in the captions 85 % of the unnamed places are the center, so 15 can be gained


def guidance_effect(
    paint: Painter, cases: Sequence[Open], guided: Sequence[Pixels], guidance: float, unguided: float
) -> tuple[Figure, ...]:
    """The share of pictures in whose center the object is, of prompts that name no place.

    What a prompt names is right without guidance too, nearly always, so counting that shows little.
    guided: the pictures of the cases at `guidance`.
    """
    with_it = _centered(guided, guidance)
    without = _centered(painted(paint, cases, unguided), unguided)
    return (
        with_it,
        without,
        Figure(name="guidance: gain", value=with_it.value - without.value, unit="points", at_least=GAIN_MIN),
    )


def _centered(pictures: Sequence[Pixels], guidance: float) -> Figure:
    return share(f"guidance {guidance:g}: an unnamed place is the center", [_center(one) for one in pictures])


def _center(picture: Pixels) -> bool:
    places = [seen.position for seen in judge(picture).things]
    return places == [Position.CENTER]
