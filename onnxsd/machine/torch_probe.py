"""What torch says of itself, asked in a child process: its CUDA, its cuDNN, and whether it reaches a GPU."""

from __future__ import annotations

from typing import Any

from onnxsd.machine.child import TIMEOUT_S, Ended, run_text, source
from onnxsd.machine.facts import Outcome, TorchProbe
from onnxsd.machine.reader import readable


def probe_torch(*, python: str | None = None, timeout_s: float = TIMEOUT_S) -> TorchProbe:
    """What comes of `import torch`."""
    return read_torch(run_text(source("torch_child.py"), python=python, timeout_s=timeout_s))


def read_torch(ended: Ended) -> TorchProbe:
    """What a child told, as far as it came."""
    told: dict[str, Any] = {"outcome": Outcome.RAN.value}
    for answer in ended.answers:
        told.update(answer)
    outcome = Outcome(told["outcome"])
    if ended.fault:
        outcome = Outcome.HUNG if ended.hung else Outcome.CRASHED
    return TorchProbe(
        outcome=outcome,
        version=told.get("version"),
        cuda=told.get("cuda"),
        cudnn=told.get("cudnn"),
        cuda_available=told.get("cuda_available"),
        message=readable(ended.fault or told.get("message", "")),
        native_log=ended.log_text(),
    )
