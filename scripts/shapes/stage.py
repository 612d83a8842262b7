"""What the stages of the training share: the loop, its saved state, its figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from shapes.dataset import Pool
from shapes.graphed import Step, Weights, rate_at

Loss = Callable[[Pool], torch.Tensor]

PRINTED_EVERY_S = 10.0
SAVED_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how fast a stage learns; `batch` is for 128² pixels, other sizes take as many pixels."""

    steps: int
    batch: int
    peak_rate: float
    average: float
    seed: int
    native_pixels: int = 128 * 128

    def batch_of(self, pool: Pool) -> int:
        """Pictures a step of this bucket."""
        pixels = pool.bucket.height * pool.bucket.width
        return max(1, round(self.batch * self.native_pixels / pixels))


def learn(weights: Weights, pools: Sequence[Pool], plan: Plan, loss: Loss, state: Path) -> None:
    """Train to the plan's end, from the saved state where there is one; saves as it goes."""
    device = weights.rate.device
    torch.manual_seed(plan.seed)
    weights.set_rate(0.0)

    def step_of(pool: Pool) -> Step:
        def run() -> torch.Tensor:
            value = loss(pool)
            weights.update(value)
            return value.detach()

        return Step(run, device)

    steps = [step_of(pool) for pool in pools]
    first = _restore(weights, state)
    if first >= plan.steps:
        return
    torch.manual_seed(plan.seed + first)
    _loop(weights, steps, _order(pools, plan), plan, first, state)


def _order(pools: Sequence[Pool], plan: Plan) -> list[int]:
    """Which bucket each step takes, the same for the same seed."""
    shares = np.array([pool.bucket.share for pool in pools])
    rng = np.random.default_rng(plan.seed)
    return [int(one) for one in rng.choice(len(pools), plan.steps, p=shares / shares.sum())]


def _loop(
    weights: Weights, steps: Sequence[Step], order: Sequence[int], plan: Plan, first: int, state: Path
) -> None:
    started = printed = saved = time.perf_counter()
    losses: list[torch.Tensor] = []
    for number in range(first, plan.steps):
        weights.set_rate(rate_at(number, steps=plan.steps, peak=plan.peak_rate))
        losses.append(steps[order[number]]().clone())
        if number % 50 != 49 and number != plan.steps - 1:
            continue
        mean = torch.stack(losses).mean().item()  # also waits, so that the times below are true
        losses.clear()
        now = time.perf_counter()
        if now - printed > PRINTED_EVERY_S or number == plan.steps - 1:
            printed = now
            pace = (now - started) / (number + 1 - first)
            print(
                f"  step {number + 1}/{plan.steps}  loss {mean:.5f}  {pace * 1e3:.1f} ms a step", flush=True
            )
        if now - saved > SAVED_EVERY_S or number == plan.steps - 1:
            saved = now
            _save(weights, number + 1, state)


def _save(weights: Weights, step: int, state: Path) -> None:
    beside = state.with_suffix(".part")
    torch.save({"step": step, **weights.state()}, beside)
    beside.replace(state)


def _restore(weights: Weights, state: Path) -> int:
    if not state.exists():
        return 0
    saved = torch.load(state, map_location=weights.rate.device, weights_only=True)
    weights.restore(saved)
    print(f"  going on from step {saved['step']} of {state.name}", flush=True)
    return int(saved["step"])
