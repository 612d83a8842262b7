"""Euler: straight steps along the probability-flow ODE."""

from __future__ import annotations

import numpy as np

from onnxsd.samplers import prediction
from onnxsd.samplers.levels import Levels, euler_levels
from onnxsd.samplers.schedule import SchedulerConfig, Spacing
from onnxsd.samplers.table import LATENT, NOISE, OUTPUT, Float64, Table


def euler(config: SchedulerConfig, steps: int) -> Table:
    """Euler steps, one call each.

    Karras et al. 2022, algorithm 2 without churn and without the second-order correction, on x = x₀ + σ·ε:
    x' = x + (σ' − σ)·(x − x₀)/σ, where (x − x₀)/σ is the predicted noise.
    """
    levels = euler_levels(config, steps)
    return toward(config, levels, target=levels.sigmas[1:], fresh=np.zeros(steps))


def toward(config: SchedulerConfig, levels: Levels, target: Float64, fresh: Float64) -> Table:
    """A table that steps from each level to `target` (N,) and adds fresh noise of that deviation (N,)."""
    sigma = levels.sigmas[:-1]
    alpha = 1 / np.sqrt(sigma**2 + 1)
    noise = prediction.noise(config.prediction_type, alpha, sigma * alpha)
    steps = np.zeros((len(sigma), 1, 3))
    # The denoiser saw α·x, hence the α.
    steps[:, 0, LATENT] = 1 + (target - sigma) * noise.latent * alpha
    steps[:, 0, OUTPUT] = (target - sigma) * noise.output
    steps[:, 0, NOISE] = fresh
    return Table(
        timesteps=levels.timesteps,
        input_scale=alpha,
        steps=steps,
        initial_scale=_initial_scale(config, levels),
    )


def _initial_scale(config: SchedulerConfig, levels: Levels) -> float:
    """Deviation of the first latent; leading starts below the highest level, where the signal counts too."""
    highest = float(levels.sigmas.max())
    return float(np.hypot(highest, 1)) if config.timestep_spacing is Spacing.LEADING else highest
