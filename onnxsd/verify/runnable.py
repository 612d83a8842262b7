"""A session straight from a blueprint and weights in memory, for checks that need no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.session import Provider, Session
from onnxsd.tensors import evaluate
from onnxsd.weights.checkpoint import WeightSource
from onnxsd.weights.recipe import Recipe
from onnxsd.weights.transform import carry_out, convert

Array = npt.NDArray[Any]


def arrays_from(source: WeightSource, recipes: Iterable[Recipe]) -> dict[str, Array]:
    """Every initializer that the recipes make, in memory."""
    arrays = {}
    for recipe in recipes:
        with source.reading(recipe.source) as tensor:
            made, _ = carry_out(recipe, tensor, source.entry(recipe.source).dtype)
            arrays[recipe.name] = made.copy()
            del tensor
    return arrays


def random_arrays(recipes: Iterable[Recipe], seed: int = 0) -> dict[str, Array]:
    """Seeded random initializers of a size that keeps activations near 1; in any target one model's."""
    generator = np.random.default_rng(seed)
    wanted = list(recipes)
    arrays = _drawn(generator, [recipe.stored for recipe in wanted])
    return {recipe.name: convert(arrays[recipe.stored.name], recipe.stored, recipe) for recipe in wanted}


def _drawn(generator: np.random.Generator, recipes: Iterable[Recipe]) -> dict[str, Array]:
    arrays = {}
    for recipe in recipes:
        numbers = generator.standard_normal(recipe.shape, np.float32)
        if len(recipe.source_shape) == 1:
            arrays[recipe.name] = numbers * 0.1 + (1.0 if recipe.name.endswith("weight") else 0.0)
        else:
            arrays[recipe.name] = numbers / np.sqrt(recipe.elements / recipe.source_shape[0])
        arrays[recipe.name] = arrays[recipe.name].astype(recipe.dtype.numpy_name)
    return arrays


def random_inputs(graph: AuthoredGraph, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """Seeded random inputs of the graph at concrete sizes, in the range that the pipeline gives them."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for name, dtype, shape in graph.inputs:
        concrete = evaluate(shape, sizes)
        make = _INPUTS.get(name, _normal)
        feeds[name] = np.asarray(make(generator, concrete)).astype(dtype.numpy_name)
    return feeds


def _normal(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
    return rng.standard_normal(size, np.float32)


Maker = Callable[[np.random.Generator, tuple[int, ...]], Any]
_INPUTS: dict[str, Maker] = {
    # Token ids below every vocabulary's size that is in use, twins included.
    "input_ids": lambda rng, size: rng.integers(0, 500, size),
    "timestep": lambda rng, size: np.full(size, 501.0),
    "time_ids": lambda rng, size: rng.integers(0, 2, size) * 1024.0,
}


def session_of(
    graph: AuthoredGraph, arrays: Mapping[str, Array], *, provider: Provider, label: str
) -> Session:
    """A session over a graph whose weights are in memory."""
    return Session.create(to_bytes(graph), provider=provider, external=arrays, label=label)
