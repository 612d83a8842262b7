"""How the six outlines are drawn, in units of an object's radius; chosen so that they look equally large."""

from __future__ import annotations

SQUARE_HALF_SIDE = 0.86
TRIANGLE_RADIUS, TRIANGLE_SHIFT = 1.16, 0.2  # from centroid to tip; the centroid lies that much lower
STAR_RADIUS, STAR_WAIST, STAR_SHIFT = 1.15, 0.5, 0.05  # from the star's middle to its tips and notches
RING_HOLE = 0.5
CROSS_HALF_WIDTH = 0.33
