"""What the denoising loop is given, on a host and on a GPU alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from onnxsd.engine.conditions import Conditions
from onnxsd.samplers import Table

Array = npt.NDArray[Any]
# Told (calls done, calls in all) after each call of the denoiser.
OnStep = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoising:
    """One run of the loop.

    latents: unit-variance noise (B, C, H, W), float32. noise: one draw of that shape for each call of the
    table, (calls, B, C, H, W), where the sampler needs noise. unconditional: None without guidance.
    """

    table: Table
    latents: Array
    conditional: Conditions
    unconditional: Conditions | None
    guidance_scale: float
    noise: Array | None

    @property
    def conditions(self) -> Conditions:
        """The rows that the denoiser is called with: unconditional first, as diffusers has them."""
        return self.conditional if self.unconditional is None else self.unconditional.beside(self.conditional)
