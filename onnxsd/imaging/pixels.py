"""From the decoder's numbers to pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnxsd.errors import ShapeError, VerificationError


def to_images(pixels: npt.NDArray[np.float32], *, component: str = "vae_decoder") -> list[Image.Image]:
    """One RGB picture for each image of the batch; NaN or Inf is an error, never a black picture.

    Args:
        pixels: (B, 3, H, W); −1 is black and 1 is full, what lies outside is cut off.
        component: what made them, for the error.
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3 or 0 in pixels.shape:
        raise ShapeError(
            f"{component} gave pixels of shape {pixels.shape}, expected (batch, 3, height, width)"
        )
    for number, one in enumerate(pixels):
        _refuse_nonfinite(one, number, component)
    # diffusers' VaeImageProcessor: float32 throughout, clipped, then rounded half to even.
    unit = np.clip(pixels.astype(np.float32) / 2 + np.float32(0.5), 0, 1)
    whole = (unit.transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)
    return [Image.fromarray(one) for one in whole]


def from_bytes(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """An RGB picture of (H, W, 3) bytes."""
    return Image.fromarray(pixels)


def _refuse_nonfinite(pixels: npt.NDArray[np.float32], number: int, component: str) -> None:
    bad = int(np.count_nonzero(~np.isfinite(pixels)))
    if bad:
        nan = int(np.count_nonzero(np.isnan(pixels)))
        raise VerificationError(
            f"{component} gave {nan} NaN and {bad - nan} Inf in image {number + 1} of {pixels.size} values",
            hint="`onnxsd verify` on the exported folder says which component is at fault",
        )
