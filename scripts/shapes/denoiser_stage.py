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
from shapes.vocabulary import token_ids, vocab_size

# Of the pictures: what guidance steers away from. SDXL takes zeros where no negative prompt is given, and the
# empty text where it is empty; Stable Diffusion 1.5 always takes the empty text.
ZEROED = {Topology.SDXL: 0.08, Topology.SD15: 0.0}
EMPTIED = {Topology.SDXL: 0.03, Topology.SD15: 0.10}
SNR_LIMIT = 5.0  # Hang et al. 2023, min-SNR weighting: nearly clean latents teach little

Prompt = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]


def train_denoiser(
    topology: Topology, vae: AutoencoderKL, pools: Sequence[Pool], plan: Plan, state: Path
) -> tuple[UNet2DConditionModel, torch.nn.ModuleDict]:
    """The trained denoiser and text encoders, float32."""
    torch.manual_seed(plan.seed)
    device = pools[0].scenes.device
    unet = make_unet(topology).to(device)
    encoders = make_encoders(topology, vocabulary=vocab_size()).to(device)
    weights = Weights([unet, encoders], peak_rate=plan.peak_rate, average=plan.average)
    objective = Objective(topology, vae, unet, encoders, pools, plan)
    learn(weights, pools, plan, objective.loss, state)
    weights.use_averages()
    return unet, encoders


class Objective:
    """What the denoiser is to get right: the noise in noisy latents, told the caption and the sizes."""

    def __init__(
        self,
        topology: Topology,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        encoders: torch.nn.ModuleDict,
        pools: Sequence[Pool],
        plan: Plan,
    ) -> None:
        self._device = pools[0].scenes.device
        self._topology, self._unet, self._plan = topology, unet, plan
        self._latents = {id(pool): latents_of(vae, pool) for pool in pools}
        self._scale = vae.config.scaling_factor
        self._prompt = prompt_encoder(topology, encoders)
        self._empty = torch.from_numpy(token_ids([""])).to(self._device, torch.int16)
        self._noising = Noising(topology, self._device)

    def loss(self, pool: Pool) -> torch.Tensor:
        """The weighted squared error of one batch."""
        count = self._plan.batch_of(pool)
        rows = torch.randint(len(pool), (count,), device=self._device)
        clean = self._latents[id(pool)][rows].float() * self._scale
        times, noise, noisy = self._noising.draw(clean)
        states, extra = self._conditions(pool, rows)
        predicted = self._unet(noisy.to(states.dtype), times, states, added_cond_kwargs=extra).sample.float()
        error = (predicted - noise).square().mean(dim=(1, 2, 3))
        return (error * self._noising.weight[times]).mean()

    def _conditions(
        self, pool: Pool, rows: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        """Hidden states, and SDXL's pooled embedding and time ids; some captions are left out."""
        emptied = self._chance(len(rows), EMPTIED[self._topology])
        states, pooled = self._prompt(torch.where(emptied[:, None], self._empty, pool.tokens[rows]).long())
        kept = (~self._chance(len(rows), ZEROED[self._topology])).to(states.dtype)
        states = states * kept[:, None, None]
        if pooled is None:
            return states, None
        return states, {"text_embeds": pooled * kept[:, None], "time_ids": pool.time_ids[rows]}

    def _chance(self, count: int, share: float) -> torch.Tensor:
        return torch.rand(count, device=self._device) < share


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


def prompt_encoder(topology: Topology, encoders: torch.nn.ModuleDict) -> Prompt:
    """What the pipelines make of tokens: hidden states (B, 77, width), and SDXL's pooled embedding."""
    end = encoders["text_encoder"].config.eos_token_id

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
