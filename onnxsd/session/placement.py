"""Which nodes of a loaded model run on another provider than the one that was asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from onnxsd.errors import NotReadyError
from onnxsd.session import runtime
from onnxsd.session.settings import Provider

# What makes ONNX Runtime keep a record of it; it can be asked for it from 1.24 on.
RECORD = "session.record_ep_graph_assignment_info"
_NAMED = 5


def elsewhere(native: Any, provider: Provider) -> dict[str, tuple[str, ...]]:
    """The nodes of a session that another provider runs, by ONNX Runtime's name of that provider."""
    if not hasattr(native, "get_provider_graph_assignment_info"):
        raise NotReadyError(f"{runtime.available()} cannot say which provider runs a node: it is too old")
    found: dict[str, list[str]] = defaultdict(list)
    for part in native.get_provider_graph_assignment_info():
        if part.ep_name != provider.runtime_name:
            found[part.ep_name] += [f"{node.op_type} {node.name}".strip() for node in part.get_nodes()]
    return {provider: tuple(nodes) for provider, nodes in found.items()}


def told(found: Mapping[str, tuple[str, ...]]) -> str:
    """Some nodes by name, and how many there are, for each provider."""
    return "; ".join(
        f"{len(nodes)} on {provider}: {', '.join(nodes[:_NAMED])}{', …' if len(nodes) > _NAMED else ''}"
        for provider, nodes in found.items()
    )
