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


class Asked(Protocol):
    """A prompt, and the seed of its picture."""

    @property
    def prompt(self) -> str:
        """In words."""

    @property
    def seed(self) -> int:
        """Of the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture of the scoring, for a look at it."""

    name: str
    prompt: str
    pixels: Pixels
    wrong: tuple[str, ...]


def painted(
    paint: Painter, cases: Sequence[Asked], guidance: float, negatives: Sequence[str] | None = None
) -> list[Pixels]:
    """A picture for each case; a painter is not asked for none. negatives: none, or one for each."""
    if not cases:
        return []
    prompts, seeds = [case.prompt for case in cases], [case.seed for case in cases]
    return list(paint(prompts, negatives or [""] * len(cases), seeds, guidance))
