"""PNDM: multistep on the model's last four answers, after a Runge-Kutta start where the config wants one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from onnxsd.errors import UsageError
from onnxsd.samplers import prediction
from onnxsd.samplers.ddim import signal_at
from onnxsd.samplers.levels import alphas_cumprod, spaced_indices
from onnxsd.samplers.schedule import SchedulerConfig
from onnxsd.samplers.table import LATENT, OUTPUT, Float64, Table

# Kept tensors: the last three answers, newest first, a latent to return to, and Runge-Kutta's running mean.
FIRST, SECOND, THIRD, HELD, MEAN = 1, 2, 3, 4, 5

Weights = Mapping[int, float]

# Liu et al. 2022, equation 12 (Adams-Bashforth) and the lower orders that lead up to it.
ORDER_1: Weights = {OUTPUT: 1.0}
ORDER_2: Weights = {OUTPUT: 3 / 2, FIRST: -1 / 2}
ORDER_3: Weights = {OUTPUT: 23 / 12, FIRST: -16 / 12, SECOND: 5 / 12}
ORDER_4: Weights = {OUTPUT: 55 / 24, FIRST: -59 / 24, SECOND: 37 / 24, THIRD: -9 / 24}

REMEMBER: Mapping[int, Weights] = {FIRST: {OUTPUT: 1}, SECOND: {FIRST: 1}, THIRD: {SECOND: 1}}
LEAVE: Mapping[int, Weights] = {FIRST: {FIRST: 1}, SECOND: {SECOND: 1}, THIRD: {THIRD: 1}}
HOLD: Mapping[int, Weights] = {HELD: {LATENT: 1}}
STAY: Mapping[int, Weights] = {HELD: {HELD: 1}}

RUNGE_KUTTA_STEPS = 4  # timesteps that the start spans: three steps of four calls each


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One model call: told `timestep`, it takes `source` from `start` to `stop` along a mean of answers."""

    timestep: int
    start: int
    stop: int
    source: int
    answer: Weights
    keep: Mapping[int, Weights]


def pndm(config: SchedulerConfig, steps: int) -> Table:
    """PNDM steps: one call more than steps, or nine more with the Runge-Kutta start.

    Liu et al. 2022, equations 9 (the transfer), 12 and 13 (the mean of answers), algorithm 2; without
    `skip_prk_steps` the first three steps are Runge-Kutta's four calls each. As in diffusers, velocities are
    averaged as they come and only their mean is turned into noise.
    """
    timesteps = [int(t) for t in spaced_indices(config, steps)]
    stride = config.num_train_timesteps // steps
    calls = tuple(
        _multistep_alone(timesteps, stride)
        if config.skip_prk_steps
        else _runge_kutta_first(timesteps, stride)
    )
    rows = _rows(calls, _transfers(config, calls), kept=HELD if config.skip_prk_steps else MEAN)
    told = np.array([call.timestep for call in calls], dtype=np.float64)
    return Table(timesteps=told, input_scale=np.ones(len(calls)), steps=rows, initial_scale=1.0)


def _rows(calls: tuple[_Call, ...], transfers: Float64, kept: int) -> Float64:
    """(N, kept+1, kept+3): each call's transfer, and what it keeps."""
    rows = np.zeros((len(calls), kept + 1, kept + 3))
    for row, call, (of_source, of_answer) in zip(rows, calls, transfers, strict=True):
        row[LATENT, call.source] = of_source
        for column, weight in call.answer.items():
            row[LATENT, column] += of_answer * weight
        for target, weights in call.keep.items():
            for column, weight in weights.items():
                row[target, column] = weight
    return rows


def _multistep_alone(timesteps: list[int], stride: int) -> Iterator[_Call]:
    """The first step is taken twice, the second time with the mean of the answers at its two ends (Heun)."""
    first, *others = timesteps
    yield _Call(
        timestep=first,
        start=first,
        stop=first - stride,
        source=LATENT,
        answer=ORDER_1,
        keep={**REMEMBER, **HOLD},
    )
    if not others:
        return
    second = others[0]
    yield _Call(
        timestep=second,
        start=second + stride,
        stop=second,
        source=HELD,
        answer={OUTPUT: 1 / 2, FIRST: 1 / 2},
        keep=LEAVE,
    )
    for i, timestep in enumerate(others):
        yield _multistep(timestep, stride, (ORDER_2, ORDER_3, ORDER_4)[min(i, 2)])


def _multistep(timestep: int, stride: int, order: Weights) -> _Call:
    return _Call(
        timestep=timestep, start=timestep, stop=timestep - stride, source=LATENT, answer=order, keep=REMEMBER
    )


def _runge_kutta_first(timesteps: list[int], stride: int) -> Iterator[_Call]:
    """Three steps of four calls (at the start, twice half way, at the end), then fourth-order multistep."""
    if len(timesteps) < RUNGE_KUTTA_STEPS:
        raise UsageError(
            f"PNDM with its Runge-Kutta start takes at least {RUNGE_KUTTA_STEPS} steps, not {len(timesteps)}",
            hint="take more steps, or set skip_prk_steps to true as Stable Diffusion's configs do",
        )
    for start, end in pairwise(timesteps[:RUNGE_KUTTA_STEPS]):
        yield from _runge_kutta_step(start, end, half=stride // 2)
    for timestep in timesteps[RUNGE_KUTTA_STEPS - 1 :]:
        yield _multistep(timestep, stride, ORDER_4)


def _runge_kutta_step(start: int, end: int, half: int) -> Iterator[_Call]:
    """Four calls from one held latent, whose answers count 1/6, 1/3, 1/3, 1/6 in the last one's mean."""
    yield _Call(
        timestep=start,
        start=start,
        stop=start - half,
        source=LATENT,
        answer=ORDER_1,
        keep={**REMEMBER, **HOLD, MEAN: {OUTPUT: 1 / 6}},
    )
    for stop in (end + half, end):
        yield _Call(
            timestep=end + half,
            start=start,
            stop=stop,
            source=HELD,
            answer=ORDER_1,
            keep={**LEAVE, **STAY, MEAN: {MEAN: 1, OUTPUT: 1 / 3}},
        )
    yield _Call(timestep=end, start=start, stop=end, source=HELD, answer={MEAN: 1, OUTPUT: 1 / 6}, keep=LEAVE)


def _transfers(config: SchedulerConfig, calls: tuple[_Call, ...]) -> Float64:
    """(N, 2): coefficients of source and mean answer (Liu et al. 2022, equation 9)."""
    signal = alphas_cumprod(config)
    here = signal_at(signal, np.array([call.start for call in calls]), config)
    after = signal_at(signal, np.array([call.stop for call in calls]), config)
    of_noise = -(after - here) / (here * np.sqrt(1 - after) + np.sqrt(here * (1 - here) * after))
    noise = prediction.noise(config.prediction_type, np.sqrt(here), np.sqrt(1 - here))
    return np.stack([np.sqrt(after / here) + of_noise * noise.latent, of_noise * noise.output], axis=1)
