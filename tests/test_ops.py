"""Every lowering computes what its op means, and refuses operands that are off by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from authoring import author, random_weights, relative_error, run, with_weights
from lowering_cases import CASES, SYMBOLIC, Case, Sizes

from onnxsd.ops import TARGETS, Target
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.tensors import DType, evaluate

Array = npt.NDArray[Any]
# Odd and even sizes, one and several in a batch.
RUNS = (
    {"batch": 2, "height": 5, "width": 8, "sequence": 7},
    {"batch": 1, "height": 4, "width": 3, "sequence": 1},
)
LARGEST_ERROR = {DType.FLOAT32: 2e-6, DType.FLOAT16: 2e-3}


def _authored(case: Case, target: Target, sizes: Sizes, dtype: DType = DType.FLOAT32) -> AuthoredGraph:
    ops = author(target, dtype)
    case.author(ops, sizes)
    return ops.finish()


def _feeds(graph: AuthoredGraph, sizes: dict[str, int], generator: np.random.Generator) -> dict[str, Array]:
    feeds: dict[str, Array] = {}
    for name, dtype, shape in graph.inputs:
        concrete = evaluate(shape, sizes)
        if dtype is DType.INT64:
            feeds[name] = generator.integers(0, 20, concrete)
        elif name == "t":  # small, since float32 angles are as wrong as they are large
            feeds[name] = np.asarray(generator.integers(0, 20, concrete), np.float32)
        else:
            feeds[name] = generator.standard_normal(concrete).astype(dtype.numpy_name)
    return feeds


def _check(case: Case, target: Target, sizes: Sizes, dtype: DType, runs: tuple[dict[str, int], ...]) -> None:
    graph = _authored(case, target, sizes, dtype)
    generator = np.random.default_rng(0)
    weights = random_weights(graph, generator)
    model = with_weights(graph, weights)
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    for concrete in runs:
        feeds = _feeds(graph, concrete, generator)
        found = run(model, feeds)["y"]
        expected = case.expected({name: array.astype(np.float64) for name, array in feeds.items()}, exact)
        assert found.shape == expected.shape
        assert found.dtype == np.dtype(dtype.numpy_name)
        assert relative_error(found, expected) <= LARGEST_ERROR[dtype]


every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_target = pytest.mark.parametrize("target", Target, ids=lambda target: target.value)


@every_target
@every_case
@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=lambda dtype: dtype.numpy_name)
def test_numbers_at_symbolic_sizes(case: Case, target: Target, dtype: DType) -> None:
    _check(case, target, SYMBOLIC, dtype, RUNS)


@every_target
@every_case
def test_numbers_at_static_sizes(case: Case, target: Target) -> None:
    _check(case, target, Sizes(**RUNS[0]), DType.FLOAT32, RUNS[:1])


@every_target
@every_case
def test_a_static_graph_computes_no_sizes(case: Case, target: Target) -> None:
    counts = _authored(case, target, Sizes(**RUNS[0])).operator_counts()

    assert not {"Shape", "Constant", "Range", "ConstantOfShape"} & counts.keys()


@every_target
@every_case
def test_the_lowering_that_was_meant_is_chosen(case: Case, target: Target) -> None:
    graph = _authored(case, target, SYMBOLIC)
    counts = graph.operator_counts()

    for op, lowering in case.chosen[target.value].items():
        assert graph.lowerings[op] == {lowering: sum(graph.lowerings[op].values())}
    for operator, count in case.operators.get(target.value, {}).items():
        assert counts[operator] == count, operator


@every_target
def test_every_lowering_has_its_numbers_checked(target: Target) -> None:
    declared = {
        (op, lowering.__name__.strip("_"))
        for op, lowerings in TARGETS[target].lowerings.items()
        for lowering in lowerings
    }
    covered = {pair for case in CASES for pair in case.chosen[target.value].items()}

    assert covered == declared
