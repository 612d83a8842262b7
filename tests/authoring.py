"""Authored graphs made to run in tests: weights by recipe, ONNX Runtime's own optimisation off."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.ops import Ops, Target, ops_for
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.session import LogLevel, Optimization, Provider, Session, SessionSettings, to_device
from onnxsd.tensors import DType
from onnxsd.verify.bodies import with_reference_bodies
from onnxsd.weights.transform import carry_out

Array = npt.NDArray[Any]
STORED_AS = {"float32": DType.FLOAT32, "float16": DType.FLOAT16, "int64": DType.INT64}


def author(target: Target, dtype: DType = DType.FLOAT32) -> Ops:
    """The vocabulary over a new graph."""
    return ops_for(target, "test", dtype)


def with_weights(graph: AuthoredGraph, tensors: Mapping[str, Array]) -> ir.Model:
    """The graph's model with the initializers that its recipes make of a checkpoint's tensors."""
    for recipe in graph.recipes:
        source = tensors[recipe.source]
        assert source.shape == recipe.source_shape, f"{recipe.name} wants {recipe.source_shape}"
        made, loss = carry_out(recipe, source, STORED_AS[source.dtype.name])
        assert not loss.overflowed, f"{recipe.name} does not fit {recipe.dtype}"
        graph.model.graph.initializers[recipe.name].const_value = ir.tensor(made, name=recipe.name)
    return graph.model


def random_weights(graph: AuthoredGraph, generator: np.random.Generator) -> dict[str, Array]:
    """A checkpoint with what the graph asks for, in float32 and of a size that keeps activations near 1."""
    tensors: dict[str, Array] = {}
    for recipe in graph.recipes:
        shape = recipe.source_shape
        spread = 1.0 if len(shape) == 1 else float(np.sqrt(shape[0] / np.prod(shape)))
        tensors[recipe.source] = (generator.standard_normal(shape) * spread).astype(np.float32)
    return tensors


def session(model: ir.Model, *, optimize: bool = False) -> onnxruntime.InferenceSession:
    """A session on the CPU; `com.microsoft` operators run by their reference bodies."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # unused initializers of inlined bodies are not worth a line
    options.intra_op_num_threads = 1  # these graphs are small: a second thread would mostly wait
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    content = ir.to_proto(with_reference_bodies(model)).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_session(made: onnxruntime.InferenceSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every output by name."""
    names = [output.name for output in made.get_outputs()]
    return dict(zip(names, made.run(names, dict(feeds)), strict=True))


def run(model: ir.Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every output of a model by name."""
    return run_session(session(model), feeds)


def relative_error(found: Array, expected: Array) -> float:
    """Frobenius norm of the difference over that of what was expected, in float64; NaN stays NaN."""
    wanted = expected.astype(np.float64)
    return float(np.linalg.norm(found.astype(np.float64) - wanted) / np.linalg.norm(wanted))


def wide_session(graph: AuthoredGraph, tensors: Mapping[str, Array]) -> Session:
    """The same for weights that are too large for more than one copy: the session uses them in place."""
    weights = {
        recipe.name: to_device(carry_out(recipe, tensors[recipe.source], DType.FLOAT32)[0], Provider.CPU)
        for recipe in graph.recipes
    }
    with_bodies = dataclasses.replace(graph, model=with_reference_bodies(graph.model))
    settings = SessionSettings(optimize=Optimization.DISABLED, prepack=False, threads=2, log=LogLevel.ERROR)
    return Session.create(
        to_bytes(with_bodies), provider=Provider.CPU, options=settings, initializers=weights
    )
