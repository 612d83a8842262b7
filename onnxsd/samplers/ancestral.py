"""Euler a: Euler steps that go too far down and are brought back up by fresh noise."""

from __future__ import annotations

import numpy as np

from onnxsd.samplers.euler import toward
from onnxsd.samplers.levels import euler_levels
from onnxsd.samplers.schedule import SchedulerConfig
from onnxsd.samplers.table import Table


def euler_ancestral(config: SchedulerConfig, steps: int) -> Table:
    """Ancestral Euler steps, one call each; all but the last draw noise.

    DDPM's posterior (Ho et al. 2020, equation 7; Song et al. 2021, equation 16 with η = 1) on x = x₀ + σ·ε:
    of the variance σ'², σ'²·(σ² − σ'²)/σ² is drawn anew and the rest, σ'⁴/σ², is reached by an Euler step.
    """
    levels = euler_levels(config, steps)
    sigma, after = levels.sigmas[:-1], levels.sigmas[1:]
    # Where two levels are the same, as leading timesteps past the last trained one are, nothing is drawn.
    fresh = after * np.sqrt(np.maximum(sigma**2 - after**2, 0)) / sigma
    return toward(config, levels, target=after**2 / sigma, fresh=fresh)
