"""How scenes of `shapes` become pictures: outlines, edges, stripes, and windows of a larger canvas."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from shapes.packing import exact
from shapes.palette import BASE, STRIPE, Colour
from shapes.scene import Fill, Position, Scene, Shape, Size, Thing
from shapes.templates import templates

pytestmark = pytest.mark.reference

Array = npt.NDArray[np.float64]


def single(shape: Shape, *, fill: Fill = Fill.PLAIN, position: Position = Position.CENTER) -> Scene:
    thing = Thing(shape=shape, colour=Colour.BLACK, size=Size.LARGE, fill=fill, position=position)
    return Scene(background=Colour.WHITE, things=(thing,), relation=None)


def draw(scenes: list[Scene], **how: Any) -> Array:
    """Pictures without jitter, (N, H, W, 3) in 0…255."""
    import torch
    from shapes.render import render

    size = {"height": 128, "width": 128} | how
    rows = torch.from_numpy(exact(scenes).astype(np.float32))
    pictures: Array = render(rows, **size).permute(0, 2, 3, 1).double().numpy() * 255
    return pictures


def ink(picture: Array) -> Array:
    """How black each pixel is between white and black, 0…1."""
    white, black = BASE[Colour.WHITE][0], BASE[Colour.BLACK][0]
    return (white - picture[..., 0]) / (white - black)


@pytest.mark.parametrize("template", templates(), ids=lambda template: template.shape.value)
def test_each_outline_has_the_area_and_centroid_of_its_template(template: Any) -> None:
    radius = 0.24 * 128
    (drawn,) = ink(draw([single(template.shape)]))
    rows, _ = np.indices(drawn.shape)
    down = (rows * drawn).sum() / drawn.sum() + 0.5 - 64

    assert drawn.sum() == pytest.approx(template.area * radius**2, rel=0.01)
    assert down / radius == pytest.approx(template.centroid_down, abs=0.01)


def test_a_window_shows_its_part_of_the_canvas() -> None:
    import torch

    scenes = [single(Shape.STAR, position=Position.LEFT), single(Shape.CROSS, fill=Fill.STRIPED)]
    corners, canvas = torch.tensor([[16, 24], [40, 0]]), torch.tensor([[160, 144], [160, 144]])

    parts = draw(scenes, height=64, width=80, offset=corners, canvas=canvas)

    whole = draw(scenes, height=160, width=144)
    assert parts[0] == pytest.approx(whole[0, 16:80, 24:104], abs=0.1)
    assert parts[1] == pytest.approx(whole[1, 40:104, 0:80], abs=0.1)


def test_softness_is_the_width_of_edges() -> None:
    import torch

    scenes = [single(Shape.SQUARE)] * 3
    drawn = ink(draw(scenes, softness=torch.tensor([1.0, 2.0, 6.0])))
    mixed = [((row > 0.02) & (row < 0.98)).sum() / 2 for row in drawn[:, 64]]  # two edges

    assert mixed[0] <= 1
    assert mixed[2] == pytest.approx(6, abs=1)
    assert mixed == sorted(mixed)
    assert drawn.sum(axis=(1, 2)) == pytest.approx(drawn[0].sum(), rel=0.01)


def test_stripes_are_half_the_colour_and_half_its_shade() -> None:
    (picture,) = draw([single(Shape.SQUARE, fill=Fill.STRIPED)], height=256, width=256)
    within = picture[90:166, 90:166].reshape(-1, 3)
    shares = [
        np.isclose(within, np.array(rgb), atol=1).all(axis=1).mean()
        for rgb in (BASE[Colour.BLACK], STRIPE[Colour.BLACK])
    ]

    assert min(shares) > 0.4
    assert sum(shares) > 0.85


@pytest.mark.parametrize(("height", "width"), [(96, 160), (192, 128)])
def test_a_circle_stays_round_at_other_aspect_ratios(height: int, width: int) -> None:
    (drawn,) = ink(draw([single(Shape.CIRCLE)], height=height, width=width))

    assert drawn.max(axis=0).sum() == pytest.approx(drawn.max(axis=1).sum(), abs=0.5)
    assert drawn.sum() == pytest.approx(np.pi * (0.24 * min(height, width)) ** 2, rel=0.01)


def test_where_nothing_is_the_background_shows() -> None:
    (picture,) = draw([single(Shape.RING)])

    assert picture[[0, 0, -1, -1], [0, -1, 0, -1]] == pytest.approx(np.full((4, 3), 245), abs=0.01)
    assert picture[64, 64] == pytest.approx(np.full(3, 245), abs=0.01)  # the ring's hole
