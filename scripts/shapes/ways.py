"""Ways of saying something, each with a weight, from which one is drawn by lot."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Texts, and for each the share of draws that fall on it or on one before it."""

    texts: tuple[str, ...]
    shares: tuple[float, ...]

    def draw(self, rng: np.random.Generator) -> str:
        """One of the texts, by its weight."""
        return self.texts[bisect(self.shares, rng.random())]


def ways(weights: Mapping[str, float]) -> Ways:
    """The texts with these weights, which need not sum to one."""
    total = sum(weights.values())
    shares = [reached / total for reached in accumulate(weights.values())]
    # The last share is 1 whatever the rounding: a draw below 1 must fall on some text.
    return Ways(texts=tuple(weights), shares=(*shares[:-1], 1.0))
