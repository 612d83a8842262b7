"""Figures from samples: medians, tails, ratios; always computed from the report, never stored in it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from onnxsd.bench.report import AGAIN, OURS, Case, CaseReport, Ceiling, ModelReport, Workload

Samples = Callable[[CaseReport], Sequence[float]]
# The three times that have samples and a floor, by their names in a case's report.
TIMES: dict[str, Samples] = {
    "unet": lambda case: case.unet_s,
    "vae": lambda case: case.vae_s,
    "image": lambda case: case.image_s,
}


def median(samples: Sequence[float]) -> float | None:
    """The middle sample; None of none."""
    return statistics.median(samples) if samples else None


def p95(samples: Sequence[float]) -> float | None:
    """The smallest sample that 95 % of all do not exceed; None of none."""
    return sorted(samples)[math.ceil(0.95 * len(samples)) - 1] if samples else None


def rate(ceiling: Ceiling | None) -> float | None:
    """Floating-point operations a second that the machine reaches in a large product."""
    return None if ceiling is None else median(ceiling.rates)


def floor_s(kind: str, model: ModelReport, case: Case, ceiling: Ceiling | None) -> float | None:
    """The seconds that a case's arithmetic takes at the ceiling's rate; None where that is not known.

    An image's is that of its calls of the denoiser and of decoding; its text encoders are below 1 %.
    """
    reached = rate(ceiling)
    work = next((entry for entry in model.workloads if entry.case == case), None)
    return None if reached is None or work is None else _flops(kind, work, model.steps) / reached


def _flops(kind: str, work: Workload, steps: int) -> int:
    image = steps * work.unet_flops + work.vae_flops
    return {"unet": work.unet_flops, "vae": work.vae_flops, "image": image}[kind]


def times_floor(found: float | None, floor: float | None) -> float | None:
    """How many times its floor a time is."""
    return None if found is None or floor is None else found / floor


def faster(model: ModelReport, case: Case, kind: str, name: str) -> float | None:
    """How many times as long as onnxsd a contender takes: above 1, onnxsd is faster."""
    ours, theirs = (_median_of(model, case, kind, who) for who in (OURS, name))
    return None if ours is None or theirs is None else theirs / ours


def noise(model: ModelReport, case: Case, kind: str) -> float | None:
    """How far the medians of two processes of onnxsd lie apart, as a share; None without the second."""
    ratio = faster(model, case, kind, AGAIN)
    return None if ratio is None else abs(ratio - 1)


def _median_of(model: ModelReport, case: Case, kind: str, name: str) -> float | None:
    contender = model.contender(name)
    return None if contender is None else median(TIMES[kind](contender.case(case)))
