"""How many of each operator the full-size graphs hold, so that a lost fusion fails a test."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir
import pytest

from onnxsd.models import catalogue
from onnxsd.models.components import COMPONENTS, Blueprint, component
from onnxsd.ops import EXPORTED, Target
from onnxsd.tensors import DType

Counts = Mapping[str, int]
Sizes = Mapping[str, int]
# One image of 1024 × 1024 with guidance: no convolution of a UNet is so large that it adds its own bias.
STATIC: Mapping[str, Sizes] = {
    "unet": {"batch": 2, "height": 128, "width": 128, "sequence": 77},
    "vae_decoder": {"batch": 1, "height": 32, "width": 32},
    "vae_encoder": {"batch": 1, "height": 256, "width": 256},
    "text_encoder": {"batch": 1, "sequence": 77},
    "text_encoder_2": {"batch": 1, "sequence": 77},
}
# The same image for the VAEs, where 256 × 256 is small; and for a UNet four images with guidance.
LARGE: Mapping[str, Sizes] = {
    "unet": {**STATIC["unet"], "batch": 8},
    "vae_decoder": {"batch": 1, "height": 128, "width": 128},
    "vae_encoder": {"batch": 1, "height": 1024, "width": 1024},
}
# Nodes that compute sizes: none may be left in a static graph, which has to run on the GPU alone.
OF_SIZES = {"Shape", "Constant", "ConstantOfShape", "Range", "Slice"}

# The Adds of a UNet: 2 biases of the time's perceptron, and with an added condition 2 of its own and the sum;
# in each residual block the bias of the time's row to the first convolution's, and where there is a shortcut
# its bias to the second's; and where nothing that follows takes it along, the bias of conv_out, of each
# upsampler and of each transformer's projection in.
# Every static unet casts and waves its timestep (and time ids), and has two layouts: NCHW in and out.
ONE_WAVE: Counts = {"Cast": 1, "Cos": 1, "Sin": 1, "Mul": 1, "QuickGelu": 2, "Transpose": 2}
TWO_WAVES: Counts = {"Cast": 2, "Cos": 2, "Sin": 2, "Mul": 2, "QuickGelu": 3, "Transpose": 2}
SD: Counts = {
    **ONE_WAVE, "MatMul": 184, "NhwcConv": 98, "GroupNorm": 12, "SkipGroupNorm": 49, "LayerNormalization": 16,
    "SkipLayerNormalization": 32, "MultiHeadAttention": 32, "BiasSplitGelu": 16, "BiasAdd": 31, "Add": 58,
    "Concat": 13, "Expand": 8, "Reshape": 89,
}  # fmt: skip
CUDA_UNETS: Mapping[str, Counts] = {
    "sd-1.5": SD,
    "sd-1.5-inpainting": SD,
    # The guidance embedding's projection, and its sum with the timestep's waves.
    "lcm": {**SD, "MatMul": 185, "Add": 59},
    # Its transformers' projections are linear: 32 fewer convolutions.
    "sd-2.1": {**SD, "MatMul": 216, "NhwcConv": 66},
    "sdxl-base-1.0": {
        **TWO_WAVES, "MatMul": 743, "NhwcConv": 51, "GroupNorm": 9, "SkipGroupNorm": 37,
        "LayerNormalization": 11, "SkipLayerNormalization": 199, "MultiHeadAttention": 140,
        "BiasSplitGelu": 70, "BiasAdd": 22, "Add": 47, "Concat": 12, "Expand": 6, "Reshape": 66,
    },
    "sdxl-refiner-1.0": {
        **TWO_WAVES, "MatMul": 488, "NhwcConv": 66, "GroupNorm": 12, "SkipGroupNorm": 44,
        "LayerNormalization": 11, "SkipLayerNormalization": 121, "MultiHeadAttention": 88,
        "BiasSplitGelu": 44, "BiasAdd": 26, "Add": 56, "Concat": 15, "Expand": 8, "Reshape": 81,
    },
    "ssd-1b": {
        **TWO_WAVES, "MatMul": 380, "NhwcConv": 49, "GroupNorm": 9, "SkipGroupNorm": 34,
        "LayerNormalization": 10, "SkipLayerNormalization": 92, "MultiHeadAttention": 68,
        "BiasSplitGelu": 34, "BiasAdd": 21, "Add": 45, "Concat": 12, "Expand": 6, "Reshape": 64,
    },
}  # fmt: skip
# All shipped VAEs have one architecture. One head of 512 is two MatMuls and a Softmax, and four Transposes.
# The Adds: Q, K and V; conv_out and the convolution beside the latents; and the biases of two shortcuts to
# their blocks'.
CUDA_VAES: Mapping[str, Counts] = {
    "vae_decoder": {
        "NhwcConv": 36, "SkipGroupNorm": 30, "MatMul": 6, "Softmax": 1, "Mul": 1, "Add": 7, "BiasAdd": 3,
        "Expand": 3, "Transpose": 6, "Reshape": 39,
    },
    "vae_encoder": {
        "NhwcConv": 28, "SkipGroupNorm": 22, "MatMul": 6, "Softmax": 1, "Mul": 1, "Add": 7, "BiasAdd": 3,
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

# In own operators. No norm, GEGLU, upsampling or concatenation of feature maps is a stock one. A doubling is
# in the convolution behind it, and an Interleave puts the phases together. What nothing that follows takes
# along is one FusedAdd: before each down- and upsampler, after the last feed-forward of each transformer, and
# two or three in the time's perceptrons. The Adds that are left are of two biases (in each
# residual block that of the time's row and that of a shortcut, and with an added condition those of the two
# perceptrons), and of conv_out's four channels.
OWN_SD: Counts = {
    **ONE_WAVE, "MatMul": 184, "NhwcConv": 98, "FusedGroupNorm": 61, "FusedLayerNorm": 16,
    "SkipLayerNormalization": 32, "FusedConcat": 12,
    "MultiHeadAttention": 32, "GEGLU": 16, "Interleave": 3, "FusedAdd": 24, "Add": 22 + 14 + 1,
    "Concat": 1, "Expand": 1, "Reshape": 34,
}  # fmt: skip
OWN_UNETS: Mapping[str, Counts] = {
    "sd-1.5": OWN_SD,
    "sd-1.5-inpainting": OWN_SD,
    "lcm": {**OWN_SD, "MatMul": 185, "FusedAdd": 25},
    "sd-2.1": {**OWN_SD, "MatMul": 216, "NhwcConv": 66},
    "sdxl-base-1.0": {
        **TWO_WAVES, "MatMul": 743, "NhwcConv": 51, "FusedGroupNorm": 46, "FusedLayerNorm": 11,
        "SkipLayerNormalization": 199,
        "FusedConcat": 9, "MultiHeadAttention": 140, "GEGLU": 70, "Interleave": 2, "FusedAdd": 18,
        "Add": 17 + 11 + 2, "Concat": 3, "Expand": 1, "Reshape": 26,
    },
    "sdxl-refiner-1.0": {
        **TWO_WAVES, "MatMul": 488, "NhwcConv": 66, "FusedGroupNorm": 56, "FusedLayerNorm": 11,
        "SkipLayerNormalization": 121,
        "FusedConcat": 12, "MultiHeadAttention": 88, "GEGLU": 44, "Interleave": 3, "FusedAdd": 20,
        "Add": 22 + 14 + 2, "Concat": 3, "Expand": 1, "Reshape": 26,
    },
    "ssd-1b": {
        **TWO_WAVES, "MatMul": 380, "NhwcConv": 49, "FusedGroupNorm": 43, "FusedLayerNorm": 10,
        "SkipLayerNormalization": 92,
        "FusedConcat": 9, "MultiHeadAttention": 68, "GEGLU": 34, "Interleave": 2, "FusedAdd": 17,
        "Add": 16 + 11 + 2, "Concat": 3, "Expand": 1, "Reshape": 24,
    },
}  # fmt: skip
# FusedAdd: Q, K and V, the three sums before an up- or downsampler, and in the encoder the two convolutions
# of eight channels at the end. Add: the biases of two shortcuts to their blocks', and in the decoder the
# biases of the convolutions of four and of three channels.
OWN_VAES: Mapping[str, Counts] = {
    "vae_decoder": {
        "NhwcConv": 36, "FusedGroupNorm": 30, "MatMul": 6, "RowSoftmax": 1, "Mul": 1, "FusedAdd": 6, "Add": 4,
        "Interleave": 3, "Transpose": 6, "Reshape": 6,
    },
    "vae_encoder": {
        "NhwcConv": 28, "FusedGroupNorm": 22, "MatMul": 6, "RowSoftmax": 1, "Mul": 1, "FusedAdd": 8, "Add": 2,
        "Transpose": 6, "Reshape": 6,
    },
}  # fmt: skip


def _own_text_encoder(layers: int, activation: str, *, projected: bool) -> Counts:
    """As on stock kernels, but that only the positions are an Add."""
    return {
        "MatMul": 6 * layers + projected, "MultiHeadAttention": layers, activation: layers,
        "FusedLayerNorm": 1, "SkipLayerNormalization": 2 * layers, "FusedAdd": 4 * layers, "Add": 1,
        "Gather": 1, "GatherND": 1, "ArgMax": 1, "Cast": 1, "Reshape": 1,
    }  # fmt: skip


OWN_TEXT_ENCODERS: Mapping[tuple[str, str], Counts] = {
    ("sd-1.5", "text_encoder"): _own_text_encoder(12, "QuickGelu", projected=False),
    ("sd-2.1", "text_encoder"): _own_text_encoder(23, "Gelu", projected=False),
    ("sdxl-base-1.0", "text_encoder"): _own_text_encoder(12, "QuickGelu", projected=False),
    ("sdxl-base-1.0", "text_encoder_2"): _own_text_encoder(32, "Gelu", projected=True),
    ("sdxl-refiner-1.0", "text_encoder_2"): _own_text_encoder(32, "Gelu", projected=True),
}
# What stands for operators of the stock graph in the own one.
REPLACED = {
    "FusedGroupNorm": ("GroupNorm", "SkipGroupNorm"),
    "FusedLayerNorm": ("LayerNormalization",),
    "GEGLU": ("BiasSplitGelu",),
    "RowSoftmax": ("Softmax",),
}
# What may differ besides: ways to add, upsample and concatenate, and what gives a value another shape.
WAYS = {"Add", "BiasAdd", "FusedAdd", "Concat", "FusedConcat", "Interleave", "Expand", "Reshape"}

# Odd after each halving: 129, 65, 33, 17.
ODD: Mapping[str, Sizes] = {
    "unet": {**STATIC["unet"], "height": 129},
    "vae_decoder": {**STATIC["vae_decoder"], "height": 17},
}
SIZES: Mapping[str, Mapping[str, Sizes]] = {"static": STATIC, "large": LARGE, "odd": ODD, "symbolic": {}}
Shape = tuple[int, ...]


def _native(name: str) -> Mapping[str, Sizes]:
    """One image with guidance at the size that a model was trained for."""
    side = catalogue.load(name).models["unet"]["sample_size"]
    return {
        "unet": {"batch": 2, "height": side, "width": side, "sequence": 77},
        "vae_decoder": {"batch": 1, "height": side, "width": side},
        "vae_encoder": {"batch": 1, "height": 8 * side, "width": 8 * side},
        "text_encoder": {"batch": 2, "sequence": 77},
        "text_encoder_2": {"batch": 2, "sequence": 77},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """What a graph holds."""

    counts: Counter[str]
    domains: frozenset[str]
    # Convolutions that add their own bias, by their weights: the shapes of weight and output.
    fused: Mapping[str, tuple[Shape, Shape]]
    # The shapes of what an Add gives, where all are fixed.
    added: tuple[Shape, ...]


@functools.cache
def _operators(name: str, part: str, target: Target, sizes: str = "static") -> Operators:
    """The operators of a graph of sizes that are "static", "large", "symbolic" or "native"."""
    pipeline = catalogue.load(name)
    blueprint = Blueprint(
        component=component(part),
        config=pipeline.models[component(part).source],
        time_ids=pipeline.time_ids,
    )
    chosen = _native(name) if sizes == "native" else SIZES[sizes]
    graph = blueprint.author(target, DType.FLOAT16, chosen.get(part))
    body = graph.model.graph
    return Operators(
        counts=graph.operator_counts(),
        domains=frozenset(node.domain for node in body),
        fused=dict(
            map(_fused, (node for node in body if node.op_type == "NhwcConv" and len(node.inputs) == 3))
        ),
        added=tuple(_shape(node.outputs[0]) for node in body if node.op_type == "Add" and chosen),
    )


def _fused(node: ir.Node) -> tuple[str, tuple[Shape, Shape]]:
    _, weight, _ = node.inputs
    (output,) = node.outputs
    assert weight is not None
    return str(weight.name), (_shape(weight), _shape(output))


def _shape(value: ir.Value) -> Shape:
    assert value.shape is not None
    return value.shape.numpy()


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


@pytest.mark.parametrize("name", catalogue.names())
def test_unet_in_own_operators(name: str) -> None:
    assert _operators(name, "unet", Target.OWN, "native").counts == OWN_UNETS[name]


@pytest.mark.parametrize("part", OWN_VAES)
@pytest.mark.parametrize("name", catalogue.names())
def test_vae_in_own_operators(name: str, part: str) -> None:
    assert _operators(name, part, Target.OWN, "native").counts == OWN_VAES[part]


@pytest.mark.parametrize(("name", "part"), OWN_TEXT_ENCODERS)
def test_text_encoder_in_own_operators(name: str, part: str) -> None:
    assert _operators(name, part, Target.OWN, "native").counts == OWN_TEXT_ENCODERS[name, part]


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_an_own_graph_is_the_stock_one_in_other_operators(name: str, part: str) -> None:
    own, stock = (_operators(name, part, target, "native").counts for target in (Target.OWN, Target.CUDA))
    replaced = {operator for operators in REPLACED.values() for operator in operators}

    for operator, stands_for in REPLACED.items():
        assert own[operator] == sum(stock[each] for each in stands_for), operator
    others = (own.keys() | stock.keys()) - WAYS - replaced - REPLACED.keys()
    assert {name: own[name] for name in others} == {name: stock[name] for name in others}
    assert not own.keys() & (replaced | {"BiasAdd"})
    # Rows of the time for each entry of a batch.
    assert own["Expand"] == (1 if part == "unet" else 0)
    # A text encoder's stock operators take along as much.
    assert sum(own.values()) < sum(stock.values()) or part.startswith("text_encoder")


@pytest.mark.parametrize("name", catalogue.names())
@pytest.mark.parametrize("part", ["unet", "vae_decoder"])
def test_an_upsampling_to_an_odd_size_is_written(name: str, part: str) -> None:
    """What is cut is not doubled; and of the rest the doublings stay in their convolutions."""
    odd, native = (_operators(name, part, Target.OWN, sizes).counts for sizes in ("odd", "native"))
    upsamplings = native["Interleave"]

    # Only a UNet cuts: each map that it upsamples has an odd height here.
    assert upsamplings == odd["Interleave"] + odd["UpsampleNearest"]
    assert odd["UpsampleNearest"] == (upsamplings if part == "unet" else 0)
    assert odd["NhwcConv"] == native["NhwcConv"]
    # What is held back of the small map is added while it is written twice; the bias is left to what follows.
    assert odd["FusedAdd"] == native["FusedAdd"] - odd["UpsampleNearest"]


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_an_add_in_an_own_graph_is_of_biases_or_of_what_no_kernel_takes(name: str, part: str) -> None:
    added = _operators(name, part, Target.OWN, "native").added
    large = [shape for shape in added if len(shape) > 1 and shape[-1] % 8 == 0]

    # A text's positions are added once; no op of the vocabulary holds them back.
    assert len(large) == (1 if part.startswith("text_encoder") else 0)


@pytest.mark.parametrize("name", PORTABLE_UNETS)
def test_unet_on_any_runtime(name: str) -> None:
    assert _operators(name, "unet", Target.PORTABLE).counts == PORTABLE_UNETS[name]


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
@pytest.mark.parametrize("target", Target, ids=lambda target: target.value)
def test_a_static_graph_computes_no_sizes(name: str, part: str, target: Target) -> None:
    assert not OF_SIZES & _operators(name, part, target).counts.keys()


@pytest.mark.parametrize("part", LARGE)
@pytest.mark.parametrize("target", Target, ids=lambda target: target.value)
def test_a_large_static_graph_computes_no_sizes(part: str, target: Target) -> None:
    assert not OF_SIZES & _operators("sdxl-base-1.0", part, target, "large").counts.keys()


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
@pytest.mark.parametrize("target", EXPORTED, ids=lambda target: target.value)
def test_symbolic_sizes_cost_only_nodes_that_compute_sizes(name: str, part: str, target: Target) -> None:
    static = _operators(name, part, target)
    symbolic = _operators(name, part, target, "symbolic")

    assert not static.counts - symbolic.counts
    assert (symbolic.counts - static.counts).keys() <= OF_SIZES | {
        "Concat",
        "Mul",
        "Add",
        "Expand",
        "Reshape",
    }
    assert not static.fused
    assert not symbolic.fused


# Convolutions that add their own bias in the graphs of `LARGE`: those whose output is larger than 128 MiB and
# is not added to something else. cuDNN compiles a kernel for each distinct pair of weight and output.
LARGE_CONVOLUTIONS: Mapping[str, Mapping[str, tuple[Shape, Shape]]] = {
    "vae_decoder": {
        "decoder.up_blocks.1.upsamplers.0.conv": ((512, 3, 3, 512), (1, 512, 512, 512)),
        "decoder.up_blocks.2.upsamplers.0.conv": ((256, 3, 3, 256), (1, 1024, 1024, 256)),
        "decoder.up_blocks.3.resnets.0.conv1": ((128, 3, 3, 256), (1, 1024, 1024, 128)),
        "decoder.up_blocks.3.resnets.1.conv1": ((128, 3, 3, 128), (1, 1024, 1024, 128)),
        "decoder.up_blocks.3.resnets.2.conv1": ((128, 3, 3, 128), (1, 1024, 1024, 128)),
    },
    "vae_encoder": {
        "encoder.conv_in": ((128, 3, 3, 3), (1, 1024, 1024, 128)),
        "encoder.down_blocks.0.resnets.0.conv1": ((128, 3, 3, 128), (1, 1024, 1024, 128)),
        "encoder.down_blocks.0.resnets.1.conv1": ((128, 3, 3, 128), (1, 1024, 1024, 128)),
    },
}


@pytest.mark.parametrize(("part", "distinct"), [("vae_decoder", 4), ("vae_encoder", 2)])
@pytest.mark.parametrize("name", catalogue.names())
def test_a_large_vae_on_cuda_adds_biases_in_its_large_convolutions(
    name: str, part: str, distinct: int
) -> None:
    static, large = _operators(name, part, Target.CUDA), _operators(name, part, Target.CUDA, "large")
    expected = LARGE_CONVOLUTIONS[part]

    assert large.fused == {f"{layer}.weight": shapes for layer, shapes in expected.items()}
    assert len(set(large.fused.values())) == distinct
    # Every one of them is followed by a norm, which has no bias to take along any more, nor a row made of it.
    assert large.counts - static.counts == {"GroupNorm": len(expected)}
    assert static.counts - large.counts == {"SkipGroupNorm": len(expected), "Reshape": len(expected)}


@pytest.mark.parametrize(
    ("name", "block"), [("sd-1.5", 2), ("sdxl-base-1.0", 1)], ids=["sd-1.5", "sdxl-base-1.0"]
)
def test_a_unet_for_four_large_images_adds_one_bias_in_its_convolution(name: str, block: int) -> None:
    """The last upsampler's, 640 channels at full size: a concatenation follows, and no norm."""
    static, large = _operators(name, "unet", Target.CUDA), _operators(name, "unet", Target.CUDA, "large")
    layer = f"up_blocks.{block}.upsamplers.0.conv"

    assert not static.fused
    assert large.fused == {f"{layer}.weight": ((640, 3, 3, 640), (8, 128, 128, 640))}
    assert static.counts - large.counts == {"Add": 1}
    assert not large.counts - static.counts


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_the_portable_target_holds_standard_operators_only(name: str, part: str) -> None:
    assert _operators(name, part, Target.PORTABLE).domains == {""}
