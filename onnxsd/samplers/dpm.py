"""DPM++ 2M: DPM-Solver++ that remembers the clean image of the previous call."""

from __future__ import annotations

import numpy as np

from onnxsd.samplers import prediction
from onnxsd.samplers.levels import (
    Levels,
    check_falling,
    final_sigma,
    karras,
    timesteps_of,
    trained_sigmas,
)
from onnxsd.samplers.schedule import BetaSchedule, FinalSigma, SchedulerConfig, SolverType, Spacing
from onnxsd.samplers.table import LATENT, OUTPUT, Float64, Int64, Table

CLEAN = 1  # the kept tensor: the previous call's clean image

# diffusers: below this many calls the last one is first-order when `lower_order_final` is set.
FEW_CALLS = 15


def dpm_multistep(config: SchedulerConfig, steps: int) -> Table:
    """DPM-Solver++ steps of first and second order, one call each.

    Lu et al. 2022 (DPM-Solver++), algorithm 2, on x = α·x₀ + σ·ε with λ = log(α/σ), h = λ' − λ and D the
    change of x₀ scaled to this step: x' = (σ'/σ)·x + α'·(1 − e⁻ʰ)·x₀ + c·D, where c is α'·(1 − e⁻ʰ)/2
    (midpoint) or α'·((e⁻ʰ − 1)/h + 1) (heun).
    """
    levels = _levels(config, steps)
    check_falling(levels, steps)
    ratio = levels.sigmas[1:] / levels.sigmas[:-1]  # e⁻ʰ; 0 where the last level is
    alpha = 1 / np.sqrt(levels.sigmas**2 + 1)
    sigma = levels.sigmas * alpha
    clean = prediction.clean(config.prediction_type, alpha[:-1], sigma[:-1])
    now, before = _weights_of_clean(config, ratio, alpha[1:])
    rows = np.zeros((steps, 2, 4))
    rows[:, LATENT, LATENT] = sigma[1:] / sigma[:-1] + now * clean.latent
    rows[:, LATENT, CLEAN] = before
    rows[:, LATENT, OUTPUT] = now * clean.output
    rows[:, CLEAN, LATENT] = clean.latent
    rows[:, CLEAN, OUTPUT] = clean.output
    return Table(timesteps=levels.timesteps, input_scale=np.ones(steps), steps=rows, initial_scale=1.0)


def _weights_of_clean(config: SchedulerConfig, ratio: Float64, alpha: Float64) -> tuple[Float64, Float64]:
    """How much of this call's and of the previous call's x₀ each step takes, (N,) both."""
    now, before = alpha * (1 - ratio), np.zeros_like(ratio)
    second = _second_order(config, len(ratio))
    h, h_before = -np.log(ratio[second]), -np.log(ratio[second - 1])
    change = alpha[second] * (1 - ratio[second]) / 2
    if config.solver_type is SolverType.HEUN:
        change = alpha[second] * (1 - _mean_decay(h))
    # D = (x₀ − x₀ before)·h/h before
    now[second] += change * h / h_before
    before[second] = -change * h / h_before
    return now, before


def _mean_decay(h: Float64) -> Float64:
    """(1 − e⁻ʰ)/h; 1 for the step that leads nowhere, when Karras levels end at the level they arrive at."""
    return np.asarray(-np.divide(np.expm1(-h), h, out=-np.ones_like(h), where=h != 0))


def _second_order(config: SchedulerConfig, calls: int) -> Int64:
    """Indices of the calls that use the one before: not the first, nor the last where that is unstable."""
    if config.solver_order == 1:
        return np.zeros(0, dtype=np.int64)
    first_order_last = (
        config.euler_at_final
        or (config.lower_order_final and calls < FEW_CALLS)
        or config.final_sigmas_type is FinalSigma.ZERO
    )
    return np.arange(1, calls - 1 if first_order_last else calls)


def _levels(config: SchedulerConfig, steps: int) -> Levels:
    trained = trained_sigmas(config)
    if config.use_karras_sigmas:
        sigmas = karras(float(trained[-1]), float(trained[0]), steps)
        timesteps = timesteps_of(sigmas, trained)
        # diffusers rounds first, except for the cosine schedule, and then cuts the fraction off.
        rounded = timesteps if config.beta_schedule is BetaSchedule.SQUARED_COSINE else np.round(timesteps)
        timesteps = np.floor(rounded)
    else:
        timesteps = _spaced(config, steps)
        sigmas = np.interp(timesteps, np.arange(len(trained)), trained)
    return Levels(timesteps=timesteps, sigmas=np.append(sigmas, final_sigma(config, trained)))


def _spaced(config: SchedulerConfig, steps: int) -> Float64:
    """(steps,) falling timesteps: as the other samplers', but of steps + 1 points, without the lowest."""
    trained = config.num_train_timesteps
    if config.timestep_spacing is Spacing.LINSPACE:
        return np.asarray(np.round(np.linspace(0, trained - 1, steps + 1))[:0:-1])
    if config.timestep_spacing is Spacing.LEADING:
        return np.arange(steps, 0, -1, dtype=np.float64) * (trained // (steps + 1)) + config.steps_offset
    return np.asarray(np.round(trained - np.arange(steps) * (trained / steps)) - 1)
