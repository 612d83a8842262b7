"""Runs the probe model in child processes, so that a crash or a hang of onnxruntime is a fact like others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from onnxsd.machine.facts import Outcome, Provider, SessionProbe

# The first CUDA session on a cold disk loads gigabytes of libraries; what takes longer than this hangs.
TIMEOUT_S = 60.0
_LOG_LIMIT = 4000  # characters
_TERMINAL_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def probe_providers(*, with_cuda: bool, timeout_s: float = TIMEOUT_S) -> tuple[SessionProbe, ...]:
    """A session on the CPU, and one on CUDA where there is a GPU; each in a process of its own."""
    on_cpu = probe(Provider.CPU, timeout_s=timeout_s)
    if not with_cuda or on_cpu.outcome is Outcome.NOT_INSTALLED:
        return (on_cpu,)
    return (on_cpu, probe(Provider.CUDA, timeout_s=timeout_s))


def probe(provider: Provider, *, timeout_s: float = TIMEOUT_S, python: str = sys.executable) -> SessionProbe:
    """What comes of a session over the probe model on `provider`."""
    package = resources.files("onnxsd.machine")
    source = (package / "probe_child.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "probe.onnx"
        model.write_bytes((package / "probe.onnx").read_bytes())
        return run_child([python, "-c", source, str(model), provider.value], provider, timeout_s=timeout_s)


def run_child(command: list[str], provider: Provider, *, timeout_s: float) -> SessionProbe:
    """Run one child to its end, or to its time limit, and read what it said."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as expired:
        return _ended(provider, Outcome.HUNG, f"no answer within {timeout_s:g} s", expired.stderr)
    if done.returncode != 0:
        return _ended(provider, Outcome.CRASHED, _describe_end(done.returncode), done.stderr)
    return _answered(provider, json.loads(done.stdout), done.stderr)


def _answered(provider: Provider, answer: dict[str, Any], log: bytes) -> SessionProbe:
    return SessionProbe(
        provider=provider,
        outcome=Outcome(answer["outcome"]),
        runtime_version=answer["runtime_version"],
        available_providers=tuple(answer["available_providers"]),
        session_providers=tuple(answer["session_providers"]),
        outputs=tuple(answer["outputs"]),
        message=answer["message"],
        native_log=_clean(log),
    )


def _ended(provider: Provider, outcome: Outcome, message: str, log: bytes | None) -> SessionProbe:
    return SessionProbe(
        provider=provider,
        outcome=outcome,
        runtime_version=None,
        available_providers=(),
        session_providers=(),
        outputs=(),
        message=message,
        native_log=_clean(log or b""),
    )


def _describe_end(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _clean(log: bytes) -> str:
    return _TERMINAL_COLOUR.sub("", log.decode("utf-8", errors="replace")).strip()[-_LOG_LIMIT:]
