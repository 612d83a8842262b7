"""What is scored: a function from prompts to pictures, and a picture with what is wrong on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shapes.judge import Pixels


class Painter(Protocol):
    """Pictures, (N, H, W, 3) uint8, one for each prompt with its negative prompt ("" for none) and seed."""

    def __call__(
        self, prompts: Sequence[str], negative_prompts: Sequence[str], seeds: Sequence[int], guidance: float
    ) -> Pixels:
        """Guidance of 1 is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture of the scoring, for a look at it."""

    name: str
    prompt: str
    pixels: Pixels
    wrong: tuple[str, ...]
