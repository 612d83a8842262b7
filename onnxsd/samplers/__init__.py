"""Samplers as tables: each is a linear map a step, computed once on the host, and one loop runs them all."""

from __future__ import annotations

from onnxsd.samplers.registry import SAMPLERS, NoiseSchedule, Sampler, find, table_for
from onnxsd.samplers.schedule import Prediction, SchedulerConfig, parse
from onnxsd.samplers.table import Table, run

__all__ = [
    "SAMPLERS",
    "NoiseSchedule",
    "Prediction",
    "Sampler",
    "SchedulerConfig",
    "Table",
    "find",
    "parse",
    "run",
    "table_for",
]
