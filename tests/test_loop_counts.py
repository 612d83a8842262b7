"""What the graphs of a picture hold on a GPU: kernels alone, and in a step only what each call must redo."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import pytest

from onnxsd.engine.pixel_graph import author_pixels
from onnxsd.engine.step_graph import LoopGraphs, LoopShape, author_loop
from onnxsd.models import catalogue
from onnxsd.models.components import Blueprint, component
from onnxsd.ops import Target
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.tensors import DType

Counts = Mapping[str, int]
Shapes = list[tuple[int, ...]]
NAMES = ("sd-1.5", "sdxl-base-1.0")
GRAPHS = ("step", "conditions", "pixels")
# An image of 1024 × 1024 by a sampler that keeps one tensor and draws no noise.
LATENT = (1, 4, 128, 128)
GUIDED = LoopShape(
    images=1, channels=4, height=128, width=128, sequence=77, calls=32, kept=1, guided=True, noisy=False
)
HALF, SINGLE, INTEGER = ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.INT64
# Operators with a kernel in ONNX Runtime 1.31's CUDA provider at opset 17, and the types of the first operand
# that these graphs use of it. Shape, Constant, Range and Slice are left out: no sizes are computed.
CUDA_KERNELS: Mapping[str, frozenset[ir.DataType]] = {
    "Add": frozenset({HALF, SINGLE, INTEGER}),
    **dict.fromkeys(("Cast", "Concat", "Gather", "Mul", "Reshape"), frozenset({HALF, SINGLE})),
    **dict.fromkeys(("Clip", "Cos", "Div", "ReduceSum", "Round", "Sin", "Sub"), frozenset({SINGLE})),
    **dict.fromkeys(
        (
            "BiasAdd", "BiasSplitGelu", "Expand", "GroupNorm", "LayerNormalization", "MatMul",
            "MultiHeadAttention", "NhwcConv", "QuickGelu", "SkipGroupNorm", "SkipLayerNormalization",
            "Softmax", "Transpose",
        ),
        frozenset({HALF}),
    ),
}  # fmt: skip
OWN_OPERATORS = frozenset(
    {"FusedGroupNorm", "FusedLayerNorm", "GEGLU", "Interleave", "FusedAdd", "FusedConcat", "RowSoftmax"}
)

# The denoiser without what `CONDITIONS` has, a Gather and a Reshape for each row of the time (22 and 17), and
# for counter, state, scale, guidance and the sampler's row 9 Gathers, 14 Reshapes, 5 Muls, 5 Adds, 2 Casts, a
# Sub and a Concat.
STEP: Mapping[str, Counts] = {
    "sd-1.5": {
        "NhwcConv": 98, "GroupNorm": 12, "SkipGroupNorm": 49, "LayerNormalization": 16,
        "SkipLayerNormalization": 32, "MultiHeadAttention": 32, "BiasSplitGelu": 16, "BiasAdd": 31,
        "MatMul": 128, "Concat": 12 + 1, "Gather": 22 + 9, "Reshape": 22 + 87 + 14, "Add": 34 + 5, "Mul": 5,
        "Expand": 7, "Cast": 2, "Sub": 1, "Transpose": 2,
    },
    "sdxl-base-1.0": {
        "NhwcConv": 51, "GroupNorm": 9, "SkipGroupNorm": 37, "LayerNormalization": 11,
        "SkipLayerNormalization": 199, "MultiHeadAttention": 140, "BiasSplitGelu": 70, "BiasAdd": 22,
        "MatMul": 582, "Concat": 9 + 1, "Gather": 17 + 9, "Reshape": 17 + 62 + 14, "Add": 25 + 5, "Mul": 5,
        "Expand": 5, "Cast": 2, "Sub": 1, "Transpose": 2,
    },
}  # fmt: skip
# In own operators. A FusedAdd is what no other takes along: before a sampler, down or up, and after what ends
# a transformer. The Adds are of a shortcut's bias and its block's, of conv_out, and of the loop itself.
OWN_STEP: Mapping[str, Counts] = {
    "sd-1.5": {
        "NhwcConv": 98, "FusedGroupNorm": 61, "FusedLayerNorm": 16, "SkipLayerNormalization": 32,
        "MultiHeadAttention": 32, "GEGLU": 16,
        "FusedAdd": 6 + 16, "FusedConcat": 12, "Interleave": 3, "MatMul": 128, "Concat": 1,
        "Gather": 22 + 9, "Reshape": 22 + 32 + 14, "Add": 14 + 1 + 5, "Mul": 5, "Cast": 2, "Sub": 1,
        "Transpose": 2,
    },
    "sdxl-base-1.0": {
        "NhwcConv": 51, "FusedGroupNorm": 46, "FusedLayerNorm": 11, "SkipLayerNormalization": 199,
        "MultiHeadAttention": 140, "GEGLU": 70,
        "FusedAdd": 4 + 11, "FusedConcat": 9, "Interleave": 2, "MatMul": 582, "Concat": 1,
        "Gather": 17 + 9, "Reshape": 17 + 22 + 14, "Add": 11 + 1 + 5, "Mul": 5, "Cast": 2, "Sub": 1,
        "Transpose": 2,
    },
}  # fmt: skip
# A key and a value for each cross-attention, a row of the time for each residual block, and what precedes it.
CONDITIONS: Mapping[str, Counts] = {
    "sd-1.5": {
        "MatMul": 32 + 22 + 2, "Add": 22 + 2, "QuickGelu": 2, "Reshape": 22 + 1, "Sin": 1, "Cos": 1, "Mul": 1,
        "Cast": 1, "Concat": 1,
    },
    "sdxl-base-1.0": {
        "MatMul": 140 + 17 + 4, "Add": 17 + 5, "QuickGelu": 3, "Reshape": 17 + 3, "Sin": 2, "Cos": 2,
        "Mul": 2, "Cast": 2, "Concat": 3,
    },
}  # fmt: skip
OWN_CONDITIONS: Mapping[str, Counts] = {
    "sd-1.5": {**CONDITIONS["sd-1.5"], "FusedAdd": 22 + 2, "Add": 0},
    # The two perceptrons' biases are one.
    "sdxl-base-1.0": {**CONDITIONS["sdxl-base-1.0"], "FusedAdd": 17 + 3, "Add": 1},
}
# Both have the same VAE. Beside it: the scaling factor, three Casts, and what makes bytes and `spoilt`.
PIXELS: Counts = {
    "NhwcConv": 36, "GroupNorm": 5, "SkipGroupNorm": 25, "MatMul": 6, "Softmax": 1, "BiasAdd": 3, "Expand": 3,
    "Reshape": 34, "Transpose": 5, "Add": 7 + 1, "Mul": 1 + 3, "Cast": 3, "Div": 1, "Clip": 1, "Round": 1,
    "ReduceSum": 1,
}  # fmt: skip
# Convolutions of three and four channels, and of shortcuts the biases, beside the one that makes bytes.
OWN_PIXELS: Counts = {
    "NhwcConv": 36, "FusedGroupNorm": 30, "MatMul": 6, "RowSoftmax": 1, "FusedAdd": 3 + 3, "Interleave": 3,
    "Reshape": 6, "Transpose": 5, "Add": 4 + 1, "Mul": 1 + 3, "Cast": 3, "Div": 1, "Clip": 1, "Round": 1,
    "ReduceSum": 1,
}  # fmt: skip


def _unet(name: str) -> Blueprint:
    pipeline = catalogue.load(name)
    return Blueprint(component=component("unet"), config=pipeline.models["unet"], time_ids=pipeline.time_ids)


@functools.cache
def _loop(name: str, target: Target = Target.CUDA) -> LoopGraphs:
    return author_loop(_unet(name), target, DType.FLOAT16, GUIDED)


@functools.cache
def _pixels(name: str, target: Target = Target.CUDA) -> AuthoredGraph:
    vae = Blueprint(component=component("vae_decoder"), config=catalogue.load(name).models["vae"])
    return author_pixels(vae, target, DType.FLOAT16, latent=LATENT, scaling_factor=0.13025)


def _graph(name: str, which: str, target: Target = Target.CUDA) -> AuthoredGraph:
    if which == "pixels":
        return _pixels(name, target)
    graphs = _loop(name, target)
    return graphs.step if which == "step" else graphs.conditions


def _transposed(graph: AuthoredGraph) -> Shapes:
    """The shapes that are transposed, in order."""
    nodes = (node for node in graph.model.graph if node.op_type == "Transpose")
    return [shape.numpy() for node in nodes if (shape := node.outputs[0].shape) is not None]


@pytest.mark.parametrize("name", NAMES)
def test_a_step_on_cuda(name: str) -> None:
    assert _loop(name).step.operator_counts() == STEP[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_conditions_on_cuda(name: str) -> None:
    assert _loop(name).conditions.operator_counts() == CONDITIONS[name]


@pytest.mark.parametrize("name", NAMES)
def test_pixels_on_cuda(name: str) -> None:
    assert _pixels(name).operator_counts() == PIXELS


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_in_own_operators(name: str) -> None:
    expected = {"step": OWN_STEP[name], "conditions": OWN_CONDITIONS[name], "pixels": OWN_PIXELS}

    for which in GRAPHS:
        assert _graph(name, which, Target.OWN).operator_counts() == Counter(expected[which]), which


@pytest.mark.parametrize("name", catalogue.names())
def test_every_familys_step_has_own_operators_and_no_stock_norm(name: str) -> None:
    counts = _loop(name, Target.OWN).step.operator_counts()

    # The softmax is of heads that are too wide for attention, which no denoiser has.
    assert counts.keys() >= OWN_OPERATORS - {"RowSoftmax"}
    assert not counts.keys() & {
        "GroupNorm", "SkipGroupNorm", "LayerNormalization", "BiasSplitGelu",
        "BiasAdd", "Expand",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", GRAPHS)
def test_every_node_of_an_own_graph_has_a_kernel(name: str, which: str) -> None:
    kernels = {**CUDA_KERNELS, **dict.fromkeys(OWN_OPERATORS, frozenset({HALF}))}
    for node in _graph(name, which, Target.OWN).model.graph:
        operand = node.inputs[0]
        assert operand is not None
        assert operand.dtype in kernels[node.op_type], node.name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", GRAPHS)
def test_every_node_has_a_kernel_on_cuda(name: str, which: str) -> None:
    for node in _graph(name, which).model.graph:
        operand = node.inputs[0]
        assert operand is not None
        assert operand.dtype in CUDA_KERNELS[node.op_type], node.name


@pytest.mark.parametrize("name", NAMES)
def test_a_step_changes_layouts_of_the_latent_alone(name: str) -> None:
    assert _transposed(_loop(name).step) == [(2, 128, 128, 4), (2, 4, 128, 128)]
    assert _transposed(_loop(name).conditions) == []


@pytest.mark.parametrize("name", NAMES)
def test_pixels_leave_in_the_layout_of_pictures(name: str) -> None:
    latent, *attention = _transposed(_pixels(name))

    assert latent == (1, 128, 128, 4)
    # Heads before and after the one attention, at the latent's size.
    assert attention == [(1, 1, 16384, 512), (1, 1, 512, 16384), (1, 1, 16384, 512), (1, 16384, 1, 512)]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_the_latent_does_not_reach_is_left_in_the_step(name: str) -> None:
    graphs, whole = _loop(name), _unet(name).author(Target.CUDA, DType.FLOAT16)
    step, before = ({recipe.name for recipe in graph.recipes} for graph in (graphs.step, graphs.conditions))

    assert not step & before
    assert step | before == {recipe.name for recipe in whole.recipes}
    of_text = {weight for weight in before if ".attn2.to_k." in weight or ".attn2.to_v." in weight}
    of_time = {weight for weight in before if ".time_emb_proj." in weight}
    first = {"time_embedding", "add_embedding"} if name.startswith("sdxl") else {"time_embedding"}
    assert {weight.split(".")[0] for weight in before - of_text - of_time} == first
    products = whole.operator_counts()["MatMul"]
    assert STEP[name]["MatMul"] + CONDITIONS[name]["MatMul"] == products


@pytest.mark.parametrize(
    ("change", "nodes"),
    [
        ({"kept": 2}, {"Gather": 2, "Reshape": 3, "Mul": 1, "Add": 1}),
        ({"noisy": True}, {"Gather": 2, "Reshape": 3, "Mul": 1, "Add": 1}),
        ({"calls": 64}, {}),
        ({"sequence": 154}, {}),
    ],
    ids=["a kept tensor more", "noise", "more calls", "a longer prompt"],
)
def test_what_a_loop_adds_to_its_step(change: dict[str, Any], nodes: Counts) -> None:
    other = author_loop(_unet("sd-1.5"), Target.CUDA, DType.FLOAT16, dataclasses.replace(GUIDED, **change))

    assert other.step.operator_counts() - _loop("sd-1.5").step.operator_counts() == Counter(nodes)
    assert other.conditions.operator_counts() == CONDITIONS["sd-1.5"]


def test_without_guidance_a_step_combines_nothing() -> None:
    alone = author_loop(
        _unet("sd-1.5"), Target.CUDA, DType.FLOAT16, dataclasses.replace(GUIDED, guided=False)
    )
    saved = _loop("sd-1.5").step.operator_counts() - alone.step.operator_counts()

    # The sample twice, its two halves, and u + g·(c − u); a bias alone is one row for one image, not for two.
    assert saved == {"Concat": 1, "Gather": 2, "Reshape": 3, "Sub": 1, "Mul": 1, "Add": 1, "Expand": 4}
