"""The second stage: the denoiser and the text encoders, together, on the first stage's latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from shapes.dataset import Pool
from shapes.graphed import Weights
from shapes.stage import Plan, learn
from shapes.topology import Topology, make_encoders, make_scheduler, make_unet
from shapes.vae_stage import latents_of
from shapes.vocabulary import token_ids

# Of the pictures: what guidance steers away from. SDXL takes zeros where no negative prompt is given, and the
# empty text where it is empty; Stable Diffusion 1.5 always takes the empty text.
ZEROED = {Topology.SDXL: 0.08, Topology.SD15: 0.0}
EMPTIED = {Topology.SDXL: 0.03, Topology.SD15: 0.10}
SNR_LIMIT = 5.0  # Hang et al. 2023, min-SNR weighting: nearly clean latents teach little

Prompt = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]


def train_denoiser(
    topology: Topology, vae: AutoencoderKL, pools: Sequence[Pool], plan: Plan, *, vocabulary: int, state: Path
) -> tuple[UNet2DConditionModel, torch.nn.ModuleDict]:
    """The trained denoiser and text encoders, float32."""
    torch.manual_seed(plan.seed)
    device = pools[0].scenes.device
    unet = make_unet(topology).to(device)
    encoders = make_encoders(topology, vocabulary=vocabulary).to(device)
    weights = Weights([unet, encoders], peak_rate=plan.peak_rate, average=plan.average)
    prompt = prompt_encoder(topology, encoders, end=vocabulary - 1)
    latents = {id(pool): latents_of(vae, pool) for pool in pools}
    empty = torch.from_numpy(token_ids([""])).to(device, torch.int16)
    noisy = Noising(topology, device)
    scale = vae.config.scaling_factor
    dtype = next(unet.parameters()).dtype

    def loss(pool: Pool) -> torch.Tensor:
        count = plan.batch_of(pool)
        rows = torch.randint(len(pool), (count,), device=device)
        clean = latents[id(pool)][rows].float() * scale
        times, noise, seen = noisy.draw(clean)
        emptied = torch.rand(count, device=device) < EMPTIED[topology]
        states, pooled = prompt(torch.where(emptied[:, None], empty, pool.tokens[rows]).long())
        kept = (torch.rand(count, device=device) >= ZEROED[topology]).to(dtype)
        states = states * kept[:, None, None]
        extra = None
        if pooled is not None:
            extra = {"text_embeds": pooled * kept[:, None], "time_ids": pool.time_ids[rows]}
        predicted = unet(seen.to(dtype), times, states, added_cond_kwargs=extra).sample.float()
        error = (predicted - noise).square().mean(dim=(1, 2, 3))
        return (error * noisy.weight[times]).mean()

    learn(weights, pools, plan, loss, state)
    weights.use_averages()
    return unet, encoders


class Noising:
    """Latents with noise as the schedule has it, and the weight of each timestep in the loss."""

    def __init__(self, topology: Topology, device: torch.device) -> None:
        kept = make_scheduler(topology).alphas_cumprod.to(device, torch.float32)
        self._signal, self._noise = kept.sqrt(), (1 - kept).sqrt()
        ratio = kept / (1 - kept)
        self.weight = ratio.clamp(max=SNR_LIMIT) / ratio

    def draw(self, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Timesteps (B,) spread evenly over the schedule, the noise, and the noisy latents."""
        count = len(clean)
        spread = torch.arange(count, device=clean.device) + torch.rand(count, device=clean.device)
        times = (spread * (len(self._signal) / count)).long().clamp(max=len(self._signal) - 1)
        noise = torch.randn_like(clean)
        shape = (-1, 1, 1, 1)
        return times, noise, clean * self._signal[times].view(shape) + noise * self._noise[times].view(shape)


def prompt_encoder(topology: Topology, encoders: torch.nn.ModuleDict, *, end: int) -> Prompt:
    """What the pipelines make of tokens: hidden states (B, 77, width), and SDXL's pooled embedding."""

    def one(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return encoders["text_encoder"](tokens).last_hidden_state, None

    def two(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        ended = (tokens == end).cumsum(dim=1) - (tokens == end).long() > 0
        options: dict[str, Any] = {"output_hidden_states": True}
        first = encoders["text_encoder"](tokens, **options)
        second = encoders["text_encoder_2"](tokens.masked_fill(ended, 0), **options)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return states, second.text_embeds

    return two if topology is Topology.SDXL else one
