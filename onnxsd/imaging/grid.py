"""Several pictures side by side in one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from onnxsd.errors import ShapeError, UsageError


def grid(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """The images row by row in one picture, as near to a square as they go; cells left over are black.

    Args:
        columns: how many in a row; by default the root of their number, rounded up.
    """
    if not images:
        raise UsageError("a grid needs at least one image")
    if columns is not None and columns < 1:
        raise UsageError(f"a grid needs at least one column, got {columns}")
    sizes = sorted({image.size for image in images})
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sizes)
        raise ShapeError(f"a grid needs images of one size, got {listed}")
    across = min(columns or math.isqrt(len(images) - 1) + 1, len(images))
    down = -(-len(images) // across)
    width, height = sizes[0]
    sheet = Image.new("RGB", (across * width, down * height))
    for number, image in enumerate(images):
        row, column = divmod(number, across)
        sheet.paste(image, (column * width, row * height))
    return sheet
