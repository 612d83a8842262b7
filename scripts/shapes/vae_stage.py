"""The first stage: an autoencoder from pictures to latents of an eighth of their size, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from shapes.dataset import Pool
from shapes.graphed import Weights
from shapes.stage import Plan, learn
from shapes.topology import make_vae

# Weights in the loss beside the squared error: the absolute error keeps edges sharp, the divergence from a
# unit normal keeps the latents within reach of the noise schedule.
ABSOLUTE = 0.2
DIVERGENCE = 1e-4
ENCODED_AT_ONCE = 1024


def train_vae(pools: Sequence[Pool], plan: Plan, state: Path) -> AutoencoderKL:
    """The trained autoencoder in float32, its `scaling_factor` set so that latents have unit deviation."""
    torch.manual_seed(plan.seed)
    vae = make_vae().to(pools[0].scenes.device)
    weights = Weights([vae], peak_rate=plan.peak_rate, average=plan.average)
    dtype = next(vae.parameters()).dtype

    def loss(pool: Pool) -> torch.Tensor:
        rows = torch.randint(len(pool), (plan.batch_of(pool),), device=pool.scenes.device)
        pictures = pool.pictures(rows)
        mean, log_variance = encode(vae, pictures.to(dtype))
        latents = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        error = vae.decode(latents.to(dtype)).sample.float() - pictures
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return error.square().mean() + ABSOLUTE * error.abs().mean() + DIVERGENCE * divergence

    learn(weights, pools, plan, loss, state)
    weights.use_averages()
    vae.requires_grad_(False)
    sample = latents_of(vae, pools[0], limit=16 * ENCODED_AT_ONCE)
    vae.register_to_config(scaling_factor=round(1 / sample.float().std().item(), 5))
    return vae


def encode(vae: AutoencoderKL, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The posterior's mean and log variance, float32, unscaled."""
    mean, log_variance = vae.quant_conv(vae.encoder(pictures)).float().chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 20)


def latents_of(vae: AutoencoderKL, pool: Pool, *, limit: int | None = None) -> torch.Tensor:
    """A pool's latents, one draw of each posterior, (N, 4, H/8, W/8) float16, unscaled."""
    count = min(len(pool), limit or len(pool))
    parts = []
    for first in range(0, count, ENCODED_AT_ONCE):
        rows = torch.arange(first, min(count, first + ENCODED_AT_ONCE), device=pool.scenes.device)
        with torch.no_grad(), torch.autocast(rows.device.type, torch.bfloat16, enabled=rows.is_cuda):
            mean, log_variance = encode(vae, pool.pictures(rows))
        parts.append((mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)).half())
    return torch.cat(parts)


def reconstruction_psnr(vae: AutoencoderKL, pool: Pool) -> float:
    """The mean over a pool's pictures of the peak signal-to-noise ratio in dB, from latent means."""
    rows = torch.arange(len(pool), device=pool.scenes.device)
    drawn = pool.pictures(rows)
    with torch.no_grad():
        mean, _ = encode(vae, drawn)
        error = (vae.decode(mean).sample.clamp(-1, 1) - drawn) / 2
    ratios = -10 * torch.log10(error.square().mean(dim=(1, 2, 3)))
    return float(ratios.mean())
