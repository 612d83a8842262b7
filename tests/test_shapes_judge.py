"""The judge of `shapes`: right about rendered pictures, also soft, noisy and shifted ones, and no guesser."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from shapes import scene as scenes
from shapes.judge import Judgement, Seen, judge
from shapes.packing import PAIR_RADII, SINGLE_RADII
from shapes.palette import BASE, Colour
from shapes.scene import Fill, Scene, Thing
from shapes_drawing import draw, rounded

Pixels = npt.NDArray[np.uint8]

RIGHT_MIN_SHARE = 0.995


def sample(
    count: int, *, height: int = 128, width: int = 128, softness: float = 1.0, seed: int = 0
) -> tuple[list[Scene], npt.NDArray[np.float64]]:
    """Scenes, half of them of held-out combinations, and their pictures."""
    rng = np.random.default_rng(seed)
    drawn = [scenes.sample_scene(rng, pairs=0.3, held_out=bool(index % 2)) for index in range(count)]
    return drawn, draw(drawn, rng, height=height, width=width, softness=softness)


def is_right(scene: Scene, found: Judgement, *, fill: bool = True) -> bool:
    """Whether every attribute of every object is what was drawn; each object has a place of its own."""
    if found.background is not scene.background or len(found.things) != len(scene.things):
        return False
    by_place = {seen.position: seen for seen in found.things}
    return all(
        (seen := by_place.get(thing.position)) is not None and is_seen(thing, seen, fill=fill)
        for thing in scene.things
    )


def is_seen(thing: Thing, seen: Seen, *, fill: bool) -> bool:
    striped = thing.fill is Fill.STRIPED
    return seen.shape is thing.shape and seen.colour is thing.colour and (not fill or seen.striped == striped)


def share_right(drawn: Sequence[Scene], pictures: Pixels, *, fill: bool = True) -> float:
    pairs = zip(drawn, pictures, strict=True)
    return sum(is_right(scene, judge(picture), fill=fill) for scene, picture in pairs) / len(drawn)


@pytest.mark.reference
@pytest.mark.parametrize(("count", "height", "width"), [(1_200, 128, 128), (400, 96, 160), (400, 192, 128)])
def test_the_judge_is_right_about_rendered_pictures(count: int, height: int, width: int) -> None:
    drawn, pictures = sample(count, height=height, width=width)

    assert share_right(drawn, rounded(pictures)) >= RIGHT_MIN_SHARE


@pytest.mark.reference
def test_noise_softness_and_shifted_colours_do_not_mislead_it() -> None:
    drawn, pictures = sample(300, softness=2.0, seed=1)
    rng = np.random.default_rng(2)
    noisy = pictures + rng.normal(0, 5, pictures.shape) + rng.uniform(-10, 10, (len(drawn), 1, 1, 3))

    assert share_right(drawn, rounded(noisy)) >= RIGHT_MIN_SHARE


@pytest.mark.reference
def test_soft_edges_of_three_pixels_leave_all_but_the_fill_clear() -> None:
    drawn, pictures = sample(300, softness=3.0, seed=3)

    assert share_right(drawn, rounded(pictures), fill=False) >= RIGHT_MIN_SHARE


@pytest.mark.reference
def test_places_and_radii_are_measured() -> None:
    drawn, pictures = sample(200, seed=4)
    for scene, picture in zip(drawn, rounded(pictures), strict=True):
        radii = SINGLE_RADII if len(scene.things) == 1 else PAIR_RADII
        by_place = {seen.position: seen for seen in judge(picture).things}
        for thing in scene.things:
            seen = by_place[thing.position]
            right, down = seen.x - 0.5, seen.y - 0.5
            assert max(abs(right), abs(down)) < 0.27
            assert seen.radius == pytest.approx(radii[thing.size], rel=0.11)


@pytest.mark.reference
def test_a_wrong_scene_is_called_wrong() -> None:
    drawn, pictures = sample(200, seed=5)
    others = [*drawn[1:], drawn[0]]
    same = [scene == other for scene, other in zip(drawn, others, strict=True)]

    assert share_right(others, rounded(pictures)) == sum(same) / len(same)


def plain(rgb: tuple[int, int, int], size: int = 128) -> Pixels:
    return np.full((size, size, 3), rgb, dtype=np.uint8)


def test_an_empty_picture_has_a_background_and_nothing_on_it() -> None:
    assert judge(plain(BASE[Colour.GREEN])) == Judgement(background=Colour.GREEN, things=())


def test_what_is_like_no_colour_of_the_world_has_none() -> None:
    picture = plain((120, 190, 200))
    picture[40:88, 40:88] = (240, 130, 200)

    found = judge(picture)

    assert found.background is None
    assert [seen.colour for seen in found.things] == [None]


def test_a_blob_is_no_shape() -> None:
    picture = plain(BASE[Colour.WHITE])
    picture[60:68, 20:108] = BASE[Colour.RED]  # a bar

    (seen,) = judge(picture).things

    assert seen.colour is Colour.RED
    assert seen.shape is None


def test_noise_is_no_object() -> None:
    rng = np.random.default_rng(0)
    picture = plain(BASE[Colour.BLACK])
    picture[rng.random(picture.shape[:2]) < 0.02] = BASE[Colour.WHITE]

    assert judge(picture).things == ()


@pytest.mark.parametrize("colour", Colour)
def test_every_background_is_told_from_every_other(colour: Colour) -> None:
    picture = plain(BASE[colour])
    other = next(other for other in Colour if other is not colour)
    picture[44:84, 44:84] = BASE[other]

    found = judge(picture)

    assert found.background is colour
    assert [(seen.shape, seen.colour) for seen in found.things] == [(scenes.Shape.SQUARE, other)]
