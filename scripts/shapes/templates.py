"""The six outlines as small pictures to compare an object with, made of nothing but their geometry.

Each is drawn around its centroid in units of the square root of its area, so that an object is compared
after the same two measurements, wherever it lies and however large it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from shapes.proportions import (
    CROSS_HALF_WIDTH,
    RING_HOLE,
    SQUARE_HALF_SIDE,
    STAR_RADIUS,
    STAR_SHIFT,
    STAR_WAIST,
    TRIANGLE_RADIUS,
    TRIANGLE_SHIFT,
)
from shapes.scene import Shape

Array = npt.NDArray[np.float64]

SIDE = 36  # samples along a template
REACH = 1.0  # of a template from its middle, in square roots of the area; a star's tip reaches 0.89
ANGLES_DEG = (-9, -6, -3, 0, 3, 6, 9)  # objects are jittered by up to 5 degrees
FINE = 8  # samples within one, along each side


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One outline.

    pictures: (angles, SIDE, SIDE), 0…1. area: of the outline with radius 1.
    centroid_down: how far the centroid lies below the object's centre, in radii.
    """

    shape: Shape
    pictures: Array
    area: float
    centroid_down: float


@cache
def templates() -> tuple[Template, ...]:
    """A template for each shape."""
    return tuple(_template(shape) for shape in Shape)


def grid() -> tuple[Array, Array]:
    """Right and down of each sample of a template, in square roots of the area: (SIDE, SIDE) each."""
    steps = _steps(SIDE, REACH)
    return np.meshgrid(steps, steps, indexing="xy")


def _steps(count: int, reach: float) -> Array:
    return (np.arange(count) + 0.5) / count * 2 * reach - reach


def _template(shape: Shape) -> Template:
    """Measured on a fine grid of radius-1 space, then drawn at each angle."""
    reach = 1.5
    steps = _steps(600, reach)
    u, v = np.meshgrid(steps, steps, indexing="xy")
    inside = INSIDE[shape](u, v)
    area = float(inside.mean() * (2 * reach) ** 2)
    down = float(v[inside].mean())
    pictures = np.stack([_drawn(shape, np.deg2rad(angle), area, down) for angle in ANGLES_DEG])
    return Template(shape=shape, pictures=pictures, area=area, centroid_down=down)


def _drawn(shape: Shape, angle: float, area: float, down: float) -> Array:
    """The outline's share of each sample's area, turned around its centroid."""
    steps = _steps(SIDE * FINE, REACH) * np.sqrt(area)
    right, below = np.meshgrid(steps, steps, indexing="xy")
    u = right * np.cos(angle) + below * np.sin(angle)
    v = below * np.cos(angle) - right * np.sin(angle) + down
    fine: Array = INSIDE[shape](u, v).reshape(SIDE, FINE, SIDE, FINE).astype(np.float64)
    shares: Array = fine.mean(axis=(1, 3))
    return shares


Mask = npt.NDArray[np.bool_]


def _circle(u: Array, v: Array) -> Mask:
    return np.hypot(u, v) < 1


def _square(u: Array, v: Array) -> Mask:
    return np.maximum(np.abs(u), np.abs(v)) < SQUARE_HALF_SIDE


def _triangle(u: Array, v: Array) -> Mask:
    low = v - TRIANGLE_SHIFT
    inside: Mask = np.maximum(low, np.abs(u) * np.sqrt(3) / 2 - low / 2) < TRIANGLE_RADIUS / 2
    return inside


def _star(u: Array, v: Array) -> Mask:
    """Within one of the ten triangles from the middle to a tip and a notch beside it."""
    from_tip = np.abs((np.arctan2(u, STAR_SHIFT - v) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    along = np.hypot(u, v - STAR_SHIFT) * np.cos(from_tip)
    aside = np.hypot(u, v - STAR_SHIFT) * np.sin(from_tip)
    notch = STAR_WAIST * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    inside: Mask = along - STAR_RADIUS < aside * (notch[0] - STAR_RADIUS) / notch[1]
    return inside


def _ring(u: Array, v: Array) -> Mask:
    return (np.hypot(u, v) < 1) & (np.hypot(u, v) > RING_HOLE)


def _cross(u: Array, v: Array) -> Mask:
    wide, tall = np.abs(u), np.abs(v)
    return (np.maximum(wide, tall) < 1) & (np.minimum(wide, tall) < CROSS_HALF_WIDTH)


INSIDE: Mapping[Shape, Callable[[Array, Array], Mask]] = {
    Shape.CIRCLE: _circle,
    Shape.SQUARE: _square,
    Shape.TRIANGLE: _triangle,
    Shape.STAR: _star,
    Shape.RING: _ring,
    Shape.CROSS: _cross,
}
