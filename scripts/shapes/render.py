"""Packed scenes to pictures in torch: all pictures at once, on the CPU or a GPU, with soft edges."""

from __future__ import annotations

import math

import torch

from shapes.packing import (
    ANGLE,
    BACKGROUND_COLUMNS,
    PHASE,
    PRESENT,
    RADIUS,
    RGB,
    SHADE,
    SHAPE,
    THING_COLUMNS,
    THINGS_MAX,
    X,
    Y,
)
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

STRIPE_PERIOD = 0.095  # of the canvas's short side


def render(
    packed: torch.Tensor,
    *,
    height: int,
    width: int,
    softness: torch.Tensor | float = 1.0,
    offset: torch.Tensor | None = None,
    canvas: torch.Tensor | None = None,
) -> torch.Tensor:
    """Pictures in 0…1, float32, (N, 3, height, width), on the device of `packed`.

    packed: (N, PARAMETERS), see packing. softness: the width of edges in pixels, one number or (N,).
    A picture shows the window whose top left corner lies at `offset`, (N, 2) as (top, left) in pixels, of
    a canvas of the size `canvas`, (N, 2) as (height, width) in pixels; without them, the whole canvas.
    """
    count = packed.shape[0]
    sides = _pairs(canvas, (height, width), packed)
    corner = _pairs(offset, (0, 0), packed)
    y = torch.arange(height, device=packed.device) + 0.5 + corner[:, 0].view(count, 1, 1)
    x = torch.arange(width, device=packed.device).view(1, width) + 0.5 + corner[:, 1].view(count, 1, 1)
    y = y.view(count, height, 1)
    short = sides.amin(dim=1).view(count, 1, 1)
    edge = (
        torch.as_tensor(softness, dtype=torch.float32, device=packed.device).expand(count).view(count, 1, 1)
    )
    picture = packed[:, :BACKGROUND_COLUMNS].view(count, 3, 1, 1).expand(count, 3, height, width)
    stripes = ((x + y) / (math.sqrt(2) * STRIPE_PERIOD * short)).expand(count, height, width)
    for index in range(THINGS_MAX):
        start = BACKGROUND_COLUMNS + index * THING_COLUMNS
        thing = packed[:, start : start + THING_COLUMNS].view(count, THING_COLUMNS, 1, 1)
        inside = _coverage(_distance(thing, x, y, sides, short), edge) * thing[:, PRESENT]
        # Half of each period is shade; the distance to its border is in periods, then in pixels.
        phase = (stripes + thing[:, PHASE]) % 1.0
        shaded = _coverage(((phase - 0.5).abs() - 0.25) * STRIPE_PERIOD * short, edge)
        colour = torch.lerp(
            thing[:, RGB : RGB + 3], thing[:, SHADE : SHADE + 3], shaded.unsqueeze(1)
        )  # (N, 3, H, W)
        picture = torch.lerp(picture, colour, inside.unsqueeze(1))
    return picture.clamp(0, 1)


def _pairs(given: torch.Tensor | None, default: tuple[int, int], packed: torch.Tensor) -> torch.Tensor:
    """(N, 2) float32 beside `packed`."""
    if given is None:
        return torch.tensor(default, dtype=torch.float32, device=packed.device).expand(packed.shape[0], 2)
    return given.to(device=packed.device, dtype=torch.float32)


def _coverage(distance: torch.Tensor, edge: torch.Tensor) -> torch.Tensor:
    """How much of each pixel lies inside, from the signed distance (negative inside) in pixels."""
    return (0.5 - distance / edge).clamp(0, 1)


def _distance(
    thing: torch.Tensor, x: torch.Tensor, y: torch.Tensor, sides: torch.Tensor, short: torch.Tensor
) -> torch.Tensor:
    """Signed distance of each pixel from the object's outline, in pixels: (N, H, W)."""
    count = thing.shape[0]
    radius = thing[:, RADIUS] * short + 1e-6  # an absent object has none
    right = (x - thing[:, X] * sides[:, 1].view(count, 1, 1)) / radius
    down = (y - thing[:, Y] * sides[:, 0].view(count, 1, 1)) / radius
    cos, sin = torch.cos(thing[:, ANGLE]), torch.sin(thing[:, ANGLE])
    u, v = right * cos + down * sin, down * cos - right * sin
    kind = thing[:, SHAPE]
    found = torch.zeros_like(u)
    for index, shape in enumerate(Shape):
        found = torch.where(kind == index, OUTLINES[shape](u, v), found)
    return found * radius


def _circle(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(u * u + v * v) - 1


def _ring(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    middle = (1 + RING_HOLE) / 2
    return (torch.sqrt(u * u + v * v) - middle).abs() - (1 - RING_HOLE) / 2


def _box(u: torch.Tensor, v: torch.Tensor, half_width: float, half_height: float) -> torch.Tensor:
    a, b = u.abs() - half_width, v.abs() - half_height
    outside = torch.sqrt(a.clamp(min=0) ** 2 + b.clamp(min=0) ** 2)
    return outside + torch.maximum(a, b).clamp(max=0)


def _square(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return _box(u, v, SQUARE_HALF_SIDE, SQUARE_HALF_SIDE)


def _cross(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.minimum(_box(u, v, 1, CROSS_HALF_WIDTH), _box(u, v, CROSS_HALF_WIDTH, 1))


def _triangle(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Equilateral, a tip up; outside its corners the distance to the longer of two sides, a sharp corner."""
    v = v - TRIANGLE_SHIFT
    slanted = u.abs() * math.cos(math.pi / 6) - v * math.sin(math.pi / 6)
    return torch.maximum(slanted, v) - TRIANGLE_RADIUS / 2


def _star(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Five tips, one up: folded to half a tip, the distance to the line from the tip to the notch."""
    v = v - STAR_SHIFT
    sector = 2 * math.pi / 5
    angle = torch.atan2(u, -v)  # from the upper tip
    folded = (angle - sector * torch.round(angle / sector)).abs()
    far = torch.sqrt(u * u + v * v)
    along, aside = far * torch.cos(folded), far * torch.sin(folded)
    notch = (STAR_WAIST * math.cos(sector / 2), STAR_WAIST * math.sin(sector / 2))
    edge = (notch[0] - STAR_RADIUS, notch[1])
    length = math.hypot(*edge)
    return ((along - STAR_RADIUS) * edge[1] - aside * edge[0]) / length


OUTLINES = {
    Shape.CIRCLE: _circle,
    Shape.SQUARE: _square,
    Shape.TRIANGLE: _triangle,
    Shape.STAR: _star,
    Shape.RING: _ring,
    Shape.CROSS: _cross,
}
