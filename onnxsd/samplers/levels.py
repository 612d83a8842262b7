"""Noise levels and timesteps: what the training schedule is, and which part of it an inference visits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxsd.errors import ConfigurationError, UsageError
from onnxsd.samplers.schedule import BetaSchedule, FinalSigma, SchedulerConfig, Spacing
from onnxsd.samplers.table import Float32, Float64, Int64

# diffusers' stand-in for a last ᾱ of 0, whose σ would be infinite: fp16's smallest number.
LEAST_SIGNAL = 2.0**-24

KARRAS_RHO = 7.0  # Karras et al. 2022, section 3.2 and table 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Where an inference calls the denoiser."""

    timesteps: Float64
    """(N,)"""
    sigmas: Float64
    """(N+1,): noise over signal, σ = √(1−ᾱ)/√ᾱ, falling; the last one is where the last step arrives."""


def alphas_cumprod(config: SchedulerConfig) -> Float64:
    """ᾱ, the signal's share of the variance at each trained timestep, (num_train_timesteps,).

    Rounded to float32 where diffusers rounds: that moves the smallest σ by 4e-5 of its value, which shows
    when the two are compared.
    """
    alphas = np.float32(1) - _betas(config)
    if config.rescale_betas_zero_snr:
        alphas = _without_terminal_signal(alphas)
    return _cumulated(alphas).astype(np.float64)


def trained_sigmas(config: SchedulerConfig) -> Float64:
    """σ at each trained timestep, rising, all finite."""
    signal = alphas_cumprod(config)
    if config.rescale_betas_zero_snr:
        signal[-1] = LEAST_SIGNAL
    return np.asarray(np.sqrt((1 - signal) / signal))


def _betas(config: SchedulerConfig) -> Float32:
    count = config.num_train_timesteps
    if config.trained_betas is not None:
        return np.array(config.trained_betas, dtype=np.float32)
    if config.beta_schedule is BetaSchedule.LINEAR:
        return np.asarray(np.linspace(config.beta_start, config.beta_end, count).astype(np.float32))
    if config.beta_schedule is BetaSchedule.SCALED_LINEAR:
        roots = np.linspace(config.beta_start**0.5, config.beta_end**0.5, count).astype(np.float32)
        return np.asarray(roots**2)
    # Nichol and Dhariwal 2021, equation 17, with their bound of 0.999.
    signal = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.asarray(np.minimum(1 - signal[1:] / signal[:-1], 0.999).astype(np.float32))


def _without_terminal_signal(alphas: Float32) -> Float32:
    """α whose product ends in 0, with the first one kept (Lin et al. 2023, algorithm 1)."""
    root = np.sqrt(_cumulated(alphas))
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    signal = root**2
    betas = np.float32(1) - np.concatenate([signal[:1], signal[1:] / signal[:-1]])
    return np.asarray(np.float32(1) - betas)


def _cumulated(alphas: Float32) -> Float32:
    return np.asarray(np.cumprod(alphas, dtype=np.float64).astype(np.float32))


def spaced(config: SchedulerConfig, steps: int) -> Float64:
    """(steps,) falling timesteps (Lin et al. 2023, table 2), with fractions where the spacing is linspace."""
    trained = config.num_train_timesteps
    if config.timestep_spacing is Spacing.LINSPACE:
        return np.asarray(np.linspace(0, trained - 1, steps)[::-1])
    if config.timestep_spacing is Spacing.LEADING:
        return np.arange(steps, dtype=np.float64)[::-1] * (trained // steps) + config.steps_offset
    return np.asarray(np.round(trained - np.arange(steps) * (trained / steps)) - 1)


def spaced_indices(config: SchedulerConfig, steps: int) -> Int64:
    """(steps,) falling timesteps that are indices into ᾱ, for samplers that look it up."""
    indices = np.round(spaced(config, steps)).astype(np.int64)
    if indices[0] >= config.num_train_timesteps:
        raise UsageError(
            f"{steps} steps with steps_offset={config.steps_offset} would start at timestep {indices[0]}, "
            f"but the model was trained on 0 to {config.num_train_timesteps - 1}",
            hint="take fewer steps",
        )
    return indices


def karras(first: float, last: float, steps: int) -> Float64:
    """(steps,) levels from `first` to `last`, evenly spaced in σ^(1/ρ) (Karras et al. 2022, equation 5)."""
    ramp = np.linspace(0, 1, steps)
    high, low = first ** (1 / KARRAS_RHO), last ** (1 / KARRAS_RHO)
    return np.asarray((high + ramp * (low - high)) ** KARRAS_RHO)


def timesteps_of(sigmas: Float64, trained: Float64) -> Float64:
    """The timesteps, with fractions, at which training met these levels: linear in log σ between its own."""
    return np.interp(np.log(sigmas), np.log(trained), np.arange(len(trained)))


def euler_levels(config: SchedulerConfig, steps: int) -> Levels:
    """Levels of the Euler family: σ read between the trained ones, or Karras levels between their ends."""
    trained = trained_sigmas(config)
    timesteps = spaced(config, steps)
    sigmas = np.interp(timesteps, np.arange(len(trained)), trained)
    if config.use_karras_sigmas:
        sigmas = karras(
            float(sigmas[0]) if config.sigma_max is None else config.sigma_max,
            float(sigmas[-1]) if config.sigma_min is None else config.sigma_min,
            steps,
        )
        timesteps = timesteps_of(sigmas, trained)
    return Levels(timesteps=timesteps, sigmas=np.append(sigmas, final_sigma(config, trained)))


def final_sigma(config: SchedulerConfig, trained: Float64) -> float:
    """The level after the last call."""
    return float(trained[0]) if config.final_sigmas_type is FinalSigma.SIGMA_MIN else 0.0


def check_falling(levels: Levels, steps: int) -> None:
    """Raise where a step would not lower the noise, which a multistep solver cannot divide by."""
    if (np.diff(levels.sigmas[:steps]) >= 0).any():
        raise UsageError(
            f"{steps} steps are too many for this sampler: two of them fall on the same noise level",
            hint="take fewer steps, or the Karras noise schedule",
        )


def check_signal(config: SchedulerConfig, signal: Float64) -> None:
    """Raise where ε says nothing about the image because no signal is left at that timestep."""
    if (signal == 0).any():
        raise ConfigurationError(
            f"prediction_type={config.prediction_type.value!r} with rescale_betas_zero_snr has no answer at "
            f"timestep {config.num_train_timesteps - 1}, where the latent is noise alone",
            hint="models trained so are v_prediction; or use timestep_spacing leading",
        )
