"""Scenes as rows of numbers, all that drawing them needs, with the jitter of each picture drawn by lot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shapes.palette import BASE, STRIPE, Colour
from shapes.scene import Fill, Position, Scene, Shape, Size

# Columns of one object. Lengths are in units of the canvas: x and y of its width and height, the radius
# of its short side; angles in radians, colours 0…1; the phase of the stripes in periods.
PRESENT, SHAPE, X, Y, RADIUS, ANGLE, PHASE, RGB, SHADE, THING_COLUMNS = 0, 1, 2, 3, 4, 5, 6, 7, 10, 13
THINGS_MAX = 2
BACKGROUND_COLUMNS = 3
PARAMETERS = BACKGROUND_COLUMNS + THINGS_MAX * THING_COLUMNS

SINGLE_RADII = {Size.SMALL: 0.115, Size.MEDIUM: 0.17, Size.LARGE: 0.24}
PAIR_RADII = {Size.SMALL: 0.10, Size.MEDIUM: 0.14, Size.LARGE: 0.18}
OFF_CENTER = 0.23

CENTER_JITTER = 0.02
RADIUS_JITTER = 0.06  # of the radius
ANGLE_JITTER = np.deg2rad(5)
COLOUR_JITTER = 3 / 255

_DIRECTIONS = {
    Position.CENTER: (0, 0),
    Position.LEFT: (-1, 0),
    Position.RIGHT: (1, 0),
    Position.TOP: (0, -1),
    Position.BOTTOM: (0, 1),
}
_CENTERS = {place: (0.5 + OFF_CENTER * x, 0.5 + OFF_CENTER * y) for place, (x, y) in _DIRECTIONS.items()}
_SHAPES = {shape: index for index, shape in enumerate(Shape)}
_NOTHING = (0.0,) * THING_COLUMNS


def _unit(rgb: tuple[int, int, int]) -> tuple[float, ...]:
    return tuple(value / 255 for value in rgb)


_BASE = {colour: _unit(BASE[colour]) for colour in Colour}
_SHADE = {colour: _unit(STRIPE[colour]) for colour in Colour}


def pack(scenes: Sequence[Scene], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """One row of PARAMETERS numbers for each scene, jittered by lot: (N, PARAMETERS)."""
    rows = exact(scenes)
    count = len(scenes)
    rows[:, :BACKGROUND_COLUMNS] += _jitter(rng, (count, BACKGROUND_COLUMNS), COLOUR_JITTER)
    things = rows[:, BACKGROUND_COLUMNS:].reshape(count, THINGS_MAX, THING_COLUMNS)
    things[:, :, [X, Y]] += _jitter(rng, (count, THINGS_MAX, 2), CENTER_JITTER)
    things[:, :, RADIUS] *= 1 + _jitter(rng, (count, THINGS_MAX), RADIUS_JITTER)
    things[:, :, ANGLE] = _jitter(rng, (count, THINGS_MAX), ANGLE_JITTER)
    things[:, :, PHASE] = rng.random((count, THINGS_MAX))
    # One shift for both, so that an object without stripes keeps a shade equal to its colour.
    shift = _jitter(rng, (count, THINGS_MAX, 3), COLOUR_JITTER)
    things[:, :, RGB : RGB + 3] += shift
    things[:, :, SHADE : SHADE + 3] += shift
    return rows.astype(np.float32)


def exact(scenes: Sequence[Scene]) -> npt.NDArray[np.float64]:
    """The rows without jitter."""
    return np.array([_row(scene) for scene in scenes]).reshape(len(scenes), PARAMETERS)


def _row(scene: Scene) -> tuple[float, ...]:
    radii = SINGLE_RADII if len(scene.things) == 1 else PAIR_RADII
    row = _BASE[scene.background]
    for thing in scene.things:
        base = _BASE[thing.colour]
        shade = _SHADE[thing.colour] if thing.fill is Fill.STRIPED else base
        center = _CENTERS[thing.position]
        row += (1.0, _SHAPES[thing.shape], *center, radii[thing.size], 0.0, 0.0, *base, *shade)
    return row + _NOTHING * (THINGS_MAX - len(scene.things))


def _jitter(rng: np.random.Generator, size: tuple[int, ...], most: float) -> npt.NDArray[np.float64]:
    """Evenly spread between -most and most."""
    return rng.uniform(-most, most, size)
