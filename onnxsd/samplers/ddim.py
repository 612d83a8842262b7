"""DDIM without noise (η = 0): clean image and noise are estimated, then mixed again at the next level."""

from __future__ import annotations

import numpy as np

from onnxsd.samplers import prediction
from onnxsd.samplers.levels import alphas_cumprod, check_signal, spaced_indices
from onnxsd.samplers.schedule import Prediction, SchedulerConfig
from onnxsd.samplers.table import LATENT, OUTPUT, Float64, Int64, Table


def ddim(config: SchedulerConfig, steps: int) -> Table:
    """DDIM steps, one call each.

    Song et al. 2021, equation 12 with σ = 0: x' = √ᾱ'·x₀ + √(1 − ᾱ')·ε. As in diffusers the next timestep is
    num_train_timesteps // steps lower whatever the spacing, which only leading visits exactly.
    """
    signal = alphas_cumprod(config)
    timesteps = spaced_indices(config, steps)
    here = signal[timesteps]
    if config.prediction_type is Prediction.EPSILON:
        check_signal(config, here)
    after = signal_at(signal, timesteps - config.num_train_timesteps // steps, config)
    clean = prediction.clean(config.prediction_type, np.sqrt(here), np.sqrt(1 - here))
    noise = prediction.noise(config.prediction_type, np.sqrt(here), np.sqrt(1 - here))
    rows = np.zeros((steps, 1, 3))
    rows[:, 0, LATENT] = np.sqrt(after) * clean.latent + np.sqrt(1 - after) * noise.latent
    rows[:, 0, OUTPUT] = np.sqrt(after) * clean.output + np.sqrt(1 - after) * noise.output
    return Table(
        timesteps=timesteps.astype(np.float64), input_scale=np.ones(steps), steps=rows, initial_scale=1.0
    )


def signal_at(signal: Float64, timesteps: Int64, config: SchedulerConfig) -> Float64:
    """ᾱ at the timesteps; below 0, the finished image's: 1, or the first ᾱ without `set_alpha_to_one`."""
    finished = 1.0 if config.set_alpha_to_one else signal[0]
    return np.where(timesteps >= 0, signal[np.maximum(timesteps, 0)], finished)
