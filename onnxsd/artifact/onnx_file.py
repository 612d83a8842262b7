"""An authored graph as an ONNX file whose weights lie in a data file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from onnxsd.ops.graph import AuthoredGraph
from onnxsd.weights.stream import layout

# Optimum's names; other tools read any name that the graph gives.
MODEL_NAME = "model.onnx"
DATA_NAME = "model.onnx_data"


def attach_weights(graph: AuthoredGraph, offsets: Mapping[str, int]) -> None:
    """Point every weight of the graph to its place in the data file."""
    for recipe in graph.recipes:
        value = graph.model.graph.initializers[recipe.name]
        assert value.dtype is not None
        value.const_value = ir.ExternalTensor(
            DATA_NAME,
            offsets[recipe.name],
            recipe.size_bytes,
            value.dtype,
            shape=ir.Shape(recipe.shape),
            name=recipe.name,
        )


def to_bytes(graph: AuthoredGraph) -> bytes:
    """The graph as a model whose weights are handed over when a session is made."""
    attach_weights(graph, layout(graph.recipes)[0])
    return bytes(ir.to_proto(graph.model).SerializeToString())


def write_model(graph: AuthoredGraph, offsets: Mapping[str, int], path: Path) -> None:
    """Write the graph; the data file lies beside it already."""
    attach_weights(graph, offsets)
    path.write_bytes(bytes(ir.to_proto(graph.model).SerializeToString()))
