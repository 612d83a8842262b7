"""Clean image and noise out of what the denoiser answers, for each kind of prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxsd.samplers.schedule import Prediction
from onnxsd.samplers.table import Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """latent·x + output·m, where x = α·x₀ + σ·ε is what the denoiser saw (α² + σ² = 1) and m its answer."""

    latent: Float64
    output: Float64


def clean(prediction: Prediction, alpha: Float64, sigma: Float64) -> Estimate:
    """The clean image x₀; a velocity is v = α·ε − σ·x₀ (Salimans and Ho 2022, appendix D)."""
    if prediction is Prediction.EPSILON:
        return Estimate(latent=1 / alpha, output=-sigma / alpha)
    if prediction is Prediction.VELOCITY:
        return Estimate(latent=alpha, output=-sigma)
    return Estimate(latent=np.zeros_like(alpha), output=np.ones_like(alpha))


def noise(prediction: Prediction, alpha: Float64, sigma: Float64) -> Estimate:
    """The noise ε."""
    if prediction is Prediction.EPSILON:
        return Estimate(latent=np.zeros_like(alpha), output=np.ones_like(alpha))
    if prediction is Prediction.VELOCITY:
        return Estimate(latent=sigma, output=alpha)
    return Estimate(latent=1 / sigma, output=-alpha / sigma)
