"""Sessions over the probe graphs in child processes: whether onnxruntime works, on which provider."""

from __future__ import annotations

import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from onnxsd.machine.child import TIMEOUT_S, Ended, run_text, source, without_host
from onnxsd.machine.facts import Outcome, ProbeGraph, Provider, SessionProbe
from onnxsd.machine.reader import readable

_FILES = {ProbeGraph.PLAIN: "probe.onnx", ProbeGraph.ATTENTION: "probe_attention.onnx"}


def probe(
    provider: Provider, *, python: str | None = None, timeout_s: float = TIMEOUT_S
) -> tuple[SessionProbe, ...]:
    """What comes of a session over each graph on `provider`; the second is tried where the first one ran."""
    package = resources.files("onnxsd.machine")
    with tempfile.TemporaryDirectory() as folder:
        arguments = [provider.value]
        for graph, name in _FILES.items():
            model = Path(folder) / name
            model.write_bytes((package / name).read_bytes())
            arguments += [graph.value, str(model)]
        ended = run_text(source("probe_child.py"), *arguments, python=python, timeout_s=timeout_s)
    return read_answers(provider, ended)


def read_answers(provider: Provider, ended: Ended) -> tuple[SessionProbe, ...]:
    """The sessions that a child told of, and the one in which it ended."""
    found, log_start = [], 0
    for answer in ended.answers:
        found.append(_answered(provider, answer, ended.log_text(log_start, answer["log_end"])))
        log_start = answer["log_end"] or log_start
    graphs = list(ProbeGraph)
    if ended.fault and len(found) < len(graphs):
        found.append(_ended(provider, graphs[len(found)], ended, ended.log_text(log_start)))
    return tuple(found)


def _answered(provider: Provider, answer: dict[str, Any], log: str) -> SessionProbe:
    return SessionProbe(
        provider=provider,
        outcome=Outcome(answer["outcome"]),
        runtime_version=answer["runtime_version"],
        available_providers=tuple(answer["available_providers"]),
        session_providers=tuple(answer["session_providers"]),
        outputs=tuple(answer["outputs"]),
        message=without_host(readable(answer["message"])),
        native_log=log,
        graph=ProbeGraph(answer["graph"]),
        loaded=tuple(readable(path) for path in answer["loaded"]),
    )


def _ended(provider: Provider, graph: ProbeGraph, ended: Ended, log: str) -> SessionProbe:
    return SessionProbe(
        provider=provider,
        outcome=Outcome.HUNG if ended.hung else Outcome.CRASHED,
        runtime_version=None,
        available_providers=(),
        session_providers=(),
        outputs=(),
        message=ended.fault,
        native_log=log,
        graph=graph,
    )
