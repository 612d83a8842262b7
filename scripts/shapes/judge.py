"""What a picture shows, read from its pixels alone: background, objects, their colours, shapes and places.

Nothing is learned and nothing is asked of the prompt. Colours are those nearest in RGB, by area; shapes are
the templates that overlap most. What is like none of them is None: a blob is no circle, and pink no red.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from shapes.palette import BASE, STRIPE, Colour
from shapes.scene import Position, Shape
from shapes.templates import Template, grid, templates

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BORDER_SHARE = 1 / 24  # of the short side: where the background is looked for
OBJECT_CONTRAST = 35.0  # RGB distance from the background; an object's own two colours differ by 65 or more
AREA_MIN_SHARE = 0.0025  # of the short side's square: a quarter of the smallest object
AREA_MIN_OF_LARGEST = 0.08
STRIPED_MIN_SHARE = 0.2  # of the shade within an object; half of a striped one
CENTER_REACH = 0.115  # half of how far a side position lies from the middle
MARGIN = 3  # pixels around an object that are looked at with it

COLOUR_REACH = 60.0  # RGB distance within which a pixel has a colour of the world
COLOURED_MIN_SHARE = 0.5  # of an object, or of the border, that must have one colour
OVERLAP_MIN = 0.75  # objects drawn at 96 pixels, blurred and with noise, reach 0.8

COLOURS = tuple(Colour)
_BASES = np.array([BASE[colour] for colour in COLOURS], dtype=np.float64)
_SHADES = np.array([STRIPE[colour] for colour in COLOURS], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One object as the picture shows it.

    shape, colour: None where it is like none of the world's.
    x, y: its centre in shares of the picture's width and height; radius: in shares of the short side.
    overlap: of its outline with that shape's, 0…1.
    """

    shape: Shape | None
    colour: Colour | None
    position: Position
    x: float
    y: float
    radius: float
    striped: bool
    overlap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A background and what lies on it, the largest object first."""

    background: Colour | None
    things: tuple[Seen, ...]


def judge(pixels: Pixels) -> Judgement:
    """What is on a picture, (H, W, 3) uint8."""
    picture = pixels.astype(np.float64)
    colour, rgb = _background(picture)
    contrast = np.linalg.norm(picture - rgb, axis=2)
    labels, _ = ndimage.label(contrast > OBJECT_CONTRAST, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel())[1:]
    least = AREA_MIN_SHARE * min(picture.shape[:2]) ** 2
    if areas.size:
        least = max(least, AREA_MIN_OF_LARGEST * areas.max())
    largest_first = [index for index in np.argsort(-areas, kind="stable") if areas[index] >= least]
    windows = ndimage.find_objects(labels)
    things = (
        _seen(picture, contrast, labels == index + 1, windows[index], colour) for index in largest_first
    )
    return Judgement(background=colour, things=tuple(things))


def _background(picture: Array) -> tuple[Colour | None, Array]:
    """The colour that most of the border has, and its pixels' median."""
    width = max(2, round(min(picture.shape[:2]) * BORDER_SHARE))
    inner = np.zeros(picture.shape[:2], dtype=bool)
    inner[width:-width, width:-width] = True
    border = picture[~inner]
    distances = _distances(border, _BASES)
    nearest = distances.argmin(axis=1)
    index = int(np.bincount(nearest).argmax())
    like = (nearest == index) & (distances[:, index] < COLOUR_REACH)
    colour = COLOURS[index] if like.mean() > COLOURED_MIN_SHARE else None
    return colour, np.median(border[nearest == index], axis=0)


def _distances(pixels: Array, colours: Array) -> Array:
    """(N, colours) RGB distances, by |a − b|² = |a|² − 2ab + |b|²: much faster than their differences."""
    products = pixels @ colours.T
    squares = (pixels**2).sum(axis=1)[:, None] - 2 * products + (colours**2).sum(axis=1)
    distances: Array = np.sqrt(np.maximum(squares, 0))
    return distances


def _seen(
    picture: Array, contrast: Array, mask: Mask, window: tuple[slice, slice], background: Colour | None
) -> Seen:
    core = _core(mask[window])
    colour, striped = _colour(picture[window][core], background)
    top, left = (max(0, side.start - MARGIN) for side in window)
    bottom, right = (side.stop + MARGIN for side in window)
    around = slice(top, bottom), slice(left, right)
    # Most of an object, striped or not, differs from the background at least that much.
    full = 0.9 * np.quantile(contrast[window][core], 0.2)
    near = ndimage.binary_dilation(mask[around], iterations=2)
    inside = np.clip(contrast[around] / full, 0, 1) * near
    template, overlap, center, area = _outline(inside)
    height, width = picture.shape[:2]
    short = min(height, width)
    radius = np.sqrt(area / template.area)
    x = (left + center[1] + 0.5) / width
    y = (top + center[0] + 0.5 - template.centroid_down * radius) / height
    return Seen(
        shape=template.shape if overlap >= OVERLAP_MIN else None,
        colour=colour,
        position=_position(x, y),
        x=float(x),
        y=float(y),
        radius=float(radius / short),
        striped=striped,
        overlap=overlap,
    )


def _core(mask: Mask) -> Mask:
    """The object without its edge, where colours mix; all of it where nothing else would be left."""
    inner: Mask = ndimage.binary_erosion(mask, structure=np.ones((3, 3)))
    return inner if inner.sum() >= 0.15 * mask.sum() else mask


def _colour(pixels: Array, background: Colour | None) -> tuple[Colour | None, bool]:
    """The colour of most pixels, as itself or as its stripes' shade, and whether there are stripes."""
    count = len(COLOURS)
    distances = _distances(pixels, np.concatenate([_BASES, _SHADES]))
    if background is not None:  # an object never has the background's colour
        own = COLOURS.index(background)
        distances[:, [own, own + count]] = np.inf
    near = distances.min(axis=1) < COLOUR_REACH
    areas = np.bincount(distances.argmin(axis=1)[near], minlength=2 * count)
    together = areas[:count] + areas[count:]
    index = int(together.argmax())
    if together[index] <= COLOURED_MIN_SHARE * len(pixels):
        return None, False
    return COLOURS[index], bool(areas[index + count] > STRIPED_MIN_SHARE * together[index])


def _outline(inside: Array) -> tuple[Template, float, Array, float]:
    """The template that overlaps most, by how much, and the object's centroid and area in pixels."""
    area = float(inside.sum())
    rows, columns = np.indices(inside.shape)
    center = np.array([(rows * inside).sum(), (columns * inside).sum()]) / area
    right, down = grid()
    scale = np.sqrt(area)
    at = np.stack([center[0] + down * scale, center[1] + right * scale])
    sampled = ndimage.map_coordinates(inside, at, order=1, mode="constant")
    overlaps = [_overlap(template, sampled) for template in templates()]
    best = int(np.argmax(overlaps))
    return templates()[best], overlaps[best], center, area


def _overlap(template: Template, sampled: Array) -> float:
    """Shared area over joint area, at the best angle."""
    shared = np.minimum(template.pictures, sampled).sum(axis=(1, 2))
    joint = np.maximum(template.pictures, sampled).sum(axis=(1, 2))
    return float((shared / joint).max())


def _position(x: float, y: float) -> Position:
    right, down = x - 0.5, y - 0.5
    if max(abs(right), abs(down)) < CENTER_REACH:
        return Position.CENTER
    if abs(right) >= abs(down):
        return Position.RIGHT if right > 0 else Position.LEFT
    return Position.BOTTOM if down > 0 else Position.TOP
