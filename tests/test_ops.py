"""Every lowering computes what its op means, and refuses operands that are off by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from authoring import author, random_weights, relative_error, run, with_weights
from lowering_cases import CASES, SYMBOLIC, Case, Sizes

from onnxsd.ops import EXPORTED, TARGETS, Target, cuda, own
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.tensors import DType, evaluate

Array = npt.NDArray[Any]
# Odd and even sizes, one and several in a batch.
RUNS = (
    {"batch": 2, "height": 5, "width": 8, "sequence": 7},
    {"batch": 1, "height": 4, "width": 3, "sequence": 1},
)
# Own kernels take fixed sizes alone: odd and even ones, and every number of pictures at once.
OWN_RUNS = tuple(
    {"batch": batch, "height": height, "width": width, "sequence": sequence}
    for batch, height, width, sequence in (
        (1, 5, 7, 3),
        (2, 4, 6, 7),
        (3, 7, 4, 1),
        (4, 2, 3, 2),
        (5, 3, 2, 5),
    )
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


# How many convolutions have a bias of their own, and how many there are of each operator, where every
# convolution is large enough to add its bias. What a sum takes along is added there all the same.
FUSED_BIASES: Mapping[str, tuple[int, Mapping[str, int]]] = {
    "same": (1, {"NhwcConv": 1, "Add": 0}),
    "strided, padded right and below": (1, {"NhwcConv": 1, "Add": 0}),
    "pointwise": (1, {"NhwcConv": 1, "Add": 0}),
    "scaled_conv": (1, {"NhwcConv": 1, "Add": 0}),
    "upsample_to_a_skip": (1, {"NhwcConv": 1, "Add": 0}),
    "group_norm_absorbs_a_bias": (1, {"GroupNorm": 1, "SkipGroupNorm": 0, "Add": 0}),
    "a_convolution_absorbed_by_a_norm_and_used_as_skip": (1, {"NhwcConv": 1, "GroupNorm": 1, "Add": 0}),
    "group_norm_absorbs_bias_and_residual": (0, {"SkipGroupNorm": 1, "GroupNorm": 0, "Add": 0}),
    "group_norm_absorbs_bias_and_rows": (0, {"SkipGroupNorm": 1, "GroupNorm": 0, "Add": 0}),
    "a_bias_held_back_through_tokens": (0, {"SkipLayerNormalization": 1, "Add": 0}),
    "add_of_feature_maps": (0, {"BiasAdd": 1, "Add": 0}),
    "two_biases_of_convolutions_are_one": (0, {"NhwcConv": 2, "BiasAdd": 1, "Add": 1}),
    "a_norm_absorbs_two_biases_as_one": (0, {"NhwcConv": 2, "SkipGroupNorm": 1, "Add": 1}),
}
CONVOLVING = [case for case in CASES if "conv" in _authored(case, Target.CUDA, SYMBOLIC).lowerings]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_target = pytest.mark.parametrize("target", Target, ids=lambda target: target.value)
every_exported_target = pytest.mark.parametrize("target", EXPORTED, ids=lambda target: target.value)


@every_exported_target
@every_case
@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=lambda dtype: dtype.numpy_name)
def test_numbers_at_symbolic_sizes(case: Case, target: Target, dtype: DType) -> None:
    _check(case, target, SYMBOLIC, dtype, RUNS)


@every_exported_target
@every_case
def test_numbers_at_static_sizes(case: Case, target: Target) -> None:
    _check(case, target, Sizes(**RUNS[0]), DType.FLOAT32, RUNS[:1])


@pytest.mark.parametrize("sizes", OWN_RUNS, ids=lambda sizes: f"batch {sizes['batch']}")
@every_case
def test_numbers_of_own_operators(case: Case, sizes: dict[str, int]) -> None:
    _check(case, Target.OWN, Sizes(**sizes), DType.FLOAT16, (sizes,))


@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=lambda dtype: dtype.numpy_name)
@every_case
def test_where_own_kernels_take_nothing_the_graph_is_the_stock_one(case: Case, dtype: DType) -> None:
    sizes = SYMBOLIC if dtype is DType.FLOAT16 else Sizes(**RUNS[0])
    own, stock = (_authored(case, target, sizes, dtype) for target in (Target.OWN, Target.CUDA))

    assert ir.to_proto(own.model) == ir.to_proto(stock.model)
    assert own.lowerings == stock.lowerings


@every_target
@every_case
def test_a_static_graph_computes_no_sizes(case: Case, target: Target) -> None:
    counts = _authored(case, target, Sizes(**RUNS[0])).operator_counts()

    assert not {"Shape", "Constant", "Range", "ConstantOfShape"} & counts.keys()


@every_target
@every_case
def test_the_lowering_that_was_meant_is_chosen(case: Case, target: Target) -> None:
    if target is Target.OWN:
        graph = _authored(case, target, Sizes(**OWN_RUNS[0]), DType.FLOAT16)
    else:
        graph = _authored(case, target, SYMBOLIC)
    counts = graph.operator_counts()

    for op, lowering in case.chosen[target.value].items():
        assert graph.lowerings[op] == {lowering: sum(graph.lowerings[op].values())}
    for operator, count in case.operators.get(target.value, {}).items():
        assert counts[operator] == count, operator


@pytest.mark.parametrize("case", CONVOLVING, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=lambda dtype: dtype.numpy_name)
def test_numbers_where_convolutions_add_their_own_bias(
    case: Case, dtype: DType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda.Cuda, "fused_bias_elements", 0)

    _check(case, Target.CUDA, Sizes(**RUNS[0]), dtype, RUNS[:1])


@pytest.mark.parametrize("name", FUSED_BIASES)
def test_a_large_convolution_adds_its_own_bias(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = (case for case in CONVOLVING if case.name == name)
    biased, counts = FUSED_BIASES[name]
    small = _authored(case, Target.CUDA, Sizes(**RUNS[0]))
    monkeypatch.setattr(cuda.Cuda, "fused_bias_elements", 0)
    large, symbolic = (_authored(case, Target.CUDA, sizes) for sizes in (Sizes(**RUNS[0]), SYMBOLIC))

    assert (_biased(small), _biased(large), _biased(symbolic)) == (0, biased, 0)
    found = large.operator_counts()
    for operator, count in counts.items():
        assert found[operator] == count, operator


@pytest.mark.parametrize(("room", "biased"), [(-1, 1), (0, 0)], ids=["larger", "as large as the limit"])
def test_a_convolution_adds_its_own_bias_above_the_limit(
    room: int, biased: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = RUNS[0]
    elements = sizes["batch"] * sizes["height"] * sizes["width"] * 4
    monkeypatch.setattr(cuda.Cuda, "fused_bias_elements", elements + room)

    assert _biased(_authored(CONVOLVING[0], Target.CUDA, Sizes(**sizes))) == biased


def _biased(graph: AuthoredGraph) -> int:
    """How many convolutions have a bias of their own."""
    return sum(node.op_type == "NhwcConv" and len(node.inputs) == 3 for node in graph.model.graph)


@every_target
def test_every_lowering_has_its_numbers_checked(target: Target) -> None:
    declared, of_cuda = (_declared(each) for each in (target, Target.CUDA))
    covered = {pair for case in CASES for pair in case.chosen[target.value].items()}
    # Stock lowerings that own ones always go before in fixed sizes are those of `Target.CUDA` elsewhere.
    inherited = of_cuda if target is Target.OWN else set()

    assert declared - inherited <= covered <= declared


def _declared(target: Target) -> set[tuple[str, str]]:
    """Each op and lowering of a target."""
    return {
        (op, lowering.__name__.strip("_"))
        for op, lowerings in TARGETS[target].lowerings.items()
        for lowering in lowerings
    }


@pytest.mark.parametrize(
    ("pixels", "channels", "slab", "parts"),
    [
        # One part where a thread has room for all: 384 threads of 8 channels, and of 6 pixels at the least.
        (1, 320, 80, 1),
        (38 * 6, 320, 80, 1),
        (38 * 6 + 1, 320, 80, 2),
        # A quarter of the channels, and 128 blocks.
        (128 * 128, 320, 80, 32),
        (64 * 64, 640, 160, 32),
        (64 * 64, 960, 240, 32),
        # Few pixels: fewer blocks.
        (32 * 32, 1280, 320, 19),
        # At most 480 channels: the next that whole groups fit into.
        (32 * 32, 2560, 320, 16),
        # At least 80 of them, and 264 blocks for a large image.
        (1024 * 1024, 128, 128, 264),
        (512 * 512, 256, 128, 132),
    ],
)
def test_the_division_of_a_group_norm(pixels: int, channels: int, slab: int, parts: int) -> None:
    assert own.division(pixels, channels, 32) == own.Division(slab=slab, parts=parts)


@pytest.mark.parametrize("channels", [*range(32, 4097, 32)])
def test_a_slab_is_whole_groups_by_eights(channels: int) -> None:
    divided = own.division(4096, channels, 32)
    assert divided is not None
    assert divided.slab % 8 == 0
    assert divided.slab % (channels // 32) == 0
    assert channels % divided.slab == 0
    assert divided.slab <= own.LARGEST_SLAB


def test_groups_too_wide_for_a_block_are_refused() -> None:
    assert own.division(64, 2 * (own.LARGEST_SLAB + 8), 2) is None


@pytest.mark.parametrize("sizes", OWN_RUNS, ids=lambda sizes: f"batch {sizes['batch']}")
def test_a_group_norms_scratch_is_there_though_nobody_takes_it(sizes: dict[str, int]) -> None:
    (case,) = (case for case in CASES if case.name == "group_norm_with_silu")
    graph = _authored(case, Target.OWN, Sizes(**sizes), DType.FLOAT16).model.graph
    (node,) = (node for node in graph if node.op_type == "FusedGroupNorm")
    normed, scratch = node.outputs

    assert (scratch.name, scratch.uses()) == (f"{normed.name}.1", ())
    assert scratch.dtype is ir.DataType.FLOAT
    assert scratch.shape is not None
    assert scratch.shape.numpy() == (sizes["batch"], 4, node.attributes["parts"].as_int(), 4)
    divided = own.division(sizes["height"] * sizes["width"], 16, 4)
    assert divided is not None
    assert (node.attributes["slab"].as_int(), node.attributes["parts"].as_int()) == (
        divided.slab,
        divided.parts,
    )
