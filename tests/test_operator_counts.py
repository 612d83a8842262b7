"""How many of each operator the full-size graphs hold, so that a lost fusion fails a test."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from onnxsd.models import catalogue
from onnxsd.models.components import COMPONENTS, Blueprint, component
from onnxsd.ops import Target
from onnxsd.tensors import DType

Counts = Mapping[str, int]
# Sizes of one image of 1024 × 1024 with guidance; no count depends on them.
STATIC = {
    "unet": {"batch": 2, "height": 128, "width": 128, "sequence": 77},
    "vae_decoder": {"batch": 1, "height": 128, "width": 128},
    "vae_encoder": {"batch": 1, "height": 1024, "width": 1024},
    "text_encoder": {"batch": 1, "sequence": 77},
    "text_encoder_2": {"batch": 1, "sequence": 77},
}
# Nodes that compute sizes: none may be left in a static graph, which has to run on the GPU alone.
OF_SIZES = {"Shape", "Constant", "ConstantOfShape", "Range", "Slice"}

# Every static unet casts and waves its timestep (and time ids), and has two layouts: NCHW in and out.
ONE_WAVE: Counts = {"Cast": 1, "Cos": 1, "Sin": 1, "Mul": 1, "QuickGelu": 2, "Transpose": 2}
TWO_WAVES: Counts = {"Cast": 2, "Cos": 2, "Sin": 2, "Mul": 2, "QuickGelu": 3, "Transpose": 2}
SD: Counts = {
    **ONE_WAVE, "MatMul": 184, "NhwcConv": 98, "GroupNorm": 12, "SkipGroupNorm": 49, "LayerNormalization": 16,
    "SkipLayerNormalization": 32, "MultiHeadAttention": 32, "BiasSplitGelu": 16, "BiasAdd": 31, "Add": 24,
    "Concat": 13, "Expand": 8, "Reshape": 89,
}  # fmt: skip
CUDA_UNETS: Mapping[str, Counts] = {
    "sd-1.5": SD,
    "sd-1.5-inpainting": SD,
    # The guidance embedding's projection, and its sum with the timestep's waves.
    "lcm": {**SD, "MatMul": 185, "Add": 25},
    # Its transformers' projections are linear: 32 fewer convolutions.
    "sd-2.1": {**SD, "MatMul": 216, "NhwcConv": 66, "Add": 40},
    "sdxl-base-1.0": {
        **TWO_WAVES, "MatMul": 743, "NhwcConv": 51, "GroupNorm": 9, "SkipGroupNorm": 37,
        "LayerNormalization": 11, "SkipLayerNormalization": 199, "MultiHeadAttention": 140,
        "BiasSplitGelu": 70, "BiasAdd": 22, "Add": 33, "Concat": 12, "Expand": 6, "Reshape": 66,
    },
    "sdxl-refiner-1.0": {
        **TWO_WAVES, "MatMul": 488, "NhwcConv": 66, "GroupNorm": 12, "SkipGroupNorm": 44,
        "LayerNormalization": 11, "SkipLayerNormalization": 121, "MultiHeadAttention": 88,
        "BiasSplitGelu": 44, "BiasAdd": 26, "Add": 38, "Concat": 15, "Expand": 8, "Reshape": 81,
    },
    "ssd-1b": {
        **TWO_WAVES, "MatMul": 380, "NhwcConv": 49, "GroupNorm": 9, "SkipGroupNorm": 34,
        "LayerNormalization": 10, "SkipLayerNormalization": 92, "MultiHeadAttention": 68,
        "BiasSplitGelu": 34, "BiasAdd": 21, "Add": 31, "Concat": 12, "Expand": 6, "Reshape": 64,
    },
}  # fmt: skip
# All shipped VAEs have one architecture. One head of 512 is two MatMuls and a Softmax, and four Transposes.
CUDA_VAES: Mapping[str, Counts] = {
    "vae_decoder": {
        "NhwcConv": 36, "SkipGroupNorm": 30, "MatMul": 6, "Softmax": 1, "Mul": 1, "Add": 3, "BiasAdd": 3,
        "Expand": 3, "Transpose": 6, "Reshape": 39,
    },
    "vae_encoder": {
        "NhwcConv": 28, "SkipGroupNorm": 22, "MatMul": 6, "Softmax": 1, "Mul": 1, "Add": 3, "BiasAdd": 3,
        "Transpose": 6, "Reshape": 29,
    },
}  # fmt: skip


def _cuda_text_encoder(layers: int, activation: str, *, projected: bool) -> Counts:
    """Per layer: Q, K, V, output and two of the perceptron; the biases of all but what a norm absorbs."""
    return {
        "MatMul": 6 * layers + projected, "MultiHeadAttention": layers, activation: layers,
        "LayerNormalization": 1, "SkipLayerNormalization": 2 * layers, "Add": 4 * layers + 1,
        "Gather": 1, "GatherND": 1, "ArgMax": 1, "Cast": 1, "Reshape": 1,
    }  # fmt: skip


CUDA_TEXT_ENCODERS: Mapping[tuple[str, str], Counts] = {
    ("sd-1.5", "text_encoder"): _cuda_text_encoder(12, "QuickGelu", projected=False),
    ("sd-2.1", "text_encoder"): _cuda_text_encoder(23, "Gelu", projected=False),
    ("sdxl-base-1.0", "text_encoder"): _cuda_text_encoder(12, "QuickGelu", projected=False),
    ("sdxl-base-1.0", "text_encoder_2"): _cuda_text_encoder(32, "Gelu", projected=True),
}

PORTABLE_UNETS: Mapping[str, Counts] = {
    "sd-1.5": {
        "Conv": 98, "InstanceNormalization": 61, "LayerNormalization": 48, "MatMul": 248, "Softmax": 32,
        "Erf": 16, "Split": 16, "Resize": 3, "Concat": 13, "Transpose": 160, "Sigmoid": 47, "Add": 273,
        "Mul": 205, "Reshape": 306, "Expand": 1, "Cast": 1, "Sin": 1, "Cos": 1,
    },
    "sdxl-base-1.0": {
        "Conv": 51, "InstanceNormalization": 46, "LayerNormalization": 210, "MatMul": 1023, "Softmax": 140,
        "Erf": 70, "Split": 70, "Resize": 2, "Concat": 12, "Transpose": 582, "Sigmoid": 38, "Add": 695,
        "Mul": 506, "Reshape": 695, "Expand": 1, "Cast": 2, "Sin": 2, "Cos": 2,
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """What a graph holds."""

    counts: Counter[str]
    domains: frozenset[str]


@functools.cache
def _operators(name: str, part: str, target: Target, *, static: bool = True) -> Operators:
    pipeline = catalogue.load(name)
    blueprint = Blueprint(
        component=component(part),
        config=pipeline.models[component(part).source],
        time_ids=pipeline.time_ids,
    )
    graph = blueprint.author(target, DType.FLOAT16, STATIC[part] if static else None)
    domains = frozenset(node.domain for node in graph.model.graph)
    return Operators(counts=graph.operator_counts(), domains=domains)


def _parts(name: str) -> list[str]:
    return [entry.name for entry in COMPONENTS if entry.source in catalogue.load(name).models]


EVERY_PART = [(name, part) for name in catalogue.names() for part in _parts(name)]


@pytest.mark.parametrize("name", catalogue.names())
def test_unet_on_cuda(name: str) -> None:
    assert _operators(name, "unet", Target.CUDA).counts == CUDA_UNETS[name]


def test_sdxl_on_cuda_holds_what_was_measured() -> None:
    """The counts behind the figures in docs/performance.md, norms with and without a skip taken together."""
    counts = _operators("sdxl-base-1.0", "unet", Target.CUDA).counts

    assert counts["MatMul"] == 743
    assert counts["NhwcConv"] == 51
    assert counts["GroupNorm"] + counts["SkipGroupNorm"] == 46
    assert counts["LayerNormalization"] + counts["SkipLayerNormalization"] == 210
    assert counts["MultiHeadAttention"] == 140
    assert counts["BiasSplitGelu"] == 70
    assert counts["Transpose"] == 2


@pytest.mark.parametrize("part", CUDA_VAES)
@pytest.mark.parametrize("name", catalogue.names())
def test_vae_on_cuda(name: str, part: str) -> None:
    assert _operators(name, part, Target.CUDA).counts == CUDA_VAES[part]


@pytest.mark.parametrize(("name", "part"), CUDA_TEXT_ENCODERS)
def test_text_encoder_on_cuda(name: str, part: str) -> None:
    counts = _operators(name, part, Target.CUDA).counts

    assert counts == CUDA_TEXT_ENCODERS[name, part]


@pytest.mark.parametrize("name", PORTABLE_UNETS)
def test_unet_on_any_runtime(name: str) -> None:
    assert _operators(name, "unet", Target.PORTABLE).counts == PORTABLE_UNETS[name]


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
@pytest.mark.parametrize("target", Target, ids=lambda target: target.value)
def test_a_static_graph_computes_no_sizes(name: str, part: str, target: Target) -> None:
    assert not OF_SIZES & _operators(name, part, target).counts.keys()


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
@pytest.mark.parametrize("target", Target, ids=lambda target: target.value)
def test_symbolic_sizes_cost_only_nodes_that_compute_sizes(name: str, part: str, target: Target) -> None:
    static = _operators(name, part, target).counts
    symbolic = _operators(name, part, target, static=False).counts

    assert not static - symbolic
    assert (symbolic - static).keys() <= OF_SIZES | {"Concat", "Mul", "Add", "Expand", "Reshape"}


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_the_portable_target_holds_standard_operators_only(name: str, part: str) -> None:
    assert _operators(name, part, Target.PORTABLE).domains == {""}
