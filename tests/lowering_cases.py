"""One small graph for each way an op is lowered, with what it must compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from numeric_reference import (
    attention,
    conv,
    feature_map,
    geglu,
    gelu,
    group_norm,
    layer_norm,
    linear,
    silu,
    sinusoid,
    tokens,
    upsample,
)

from onnxsd.ops import Ops, Scope, Tensor
from onnxsd.ops.terms import Activation, Padding
from onnxsd.tensors import Dim, DType, Size, ceil_div

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
EPS = 1e-5
# A group norm that takes along whatever comes before it.
OWN_NORM = {"FusedGroupNorm": 1, "FusedAdd": 0, "Add": 0, "Expand": 0, "Reshape": 0}
AT = Scope("layer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Batch, height, width and sequence of a case: numbers or symbols."""

    batch: Dim
    height: Dim
    width: Dim
    sequence: Dim


SYMBOLIC = Sizes(**{name: Size.symbol(name) for name in ("batch", "height", "width", "sequence")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A graph with output `y`, and the numbers that it must give for its inputs and weights."""

    name: str
    author: Callable[[Ops, Sizes], None]
    expected: Callable[[Arrays, Arrays], Array]
    # The lowering of each op that the case is about, by target.
    chosen: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # Exactly how many of these operators the graph holds, by target.
    operators: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


CASES: list[Case] = []


def case(
    expected: Callable[[Arrays, Arrays], Array],
    *,
    cuda: Mapping[str, str] | None = None,
    portable: Mapping[str, str] | None = None,
    own: Mapping[str, str] | None = None,
    holds: Mapping[str, int] | None = None,
    own_holds: Mapping[str, int] | None = None,
    name: str = "",
) -> Callable[[Callable[[Ops, Sizes], None]], Callable[[Ops, Sizes], None]]:
    """Register the decorated graph; `holds` counts operators of the cuda target, `own_holds` of the own one.

    The lowerings of target own are those of cuda but for what `own` says.
    """

    def register(author: Callable[[Ops, Sizes], None]) -> Callable[[Ops, Sizes], None]:
        CASES.append(
            Case(
                name=name or author.__name__,
                author=author,
                expected=expected,
                chosen={
                    "cuda": cuda or {},
                    "portable": portable or {},
                    "own": {**(cuda or {}), **(own or {})},
                },
                operators={"cuda": holds or {}, "own": own_holds or {}},
            )
        )
        return author

    return register


def spatial(ops: Ops, sizes: Sizes, channels: int, name: str = "x") -> Tensor:
    """An input feature map."""
    return ops.input(name, (sizes.batch, channels, sizes.height, sizes.width), spatial=True)


def sequence(ops: Ops, sizes: Sizes, width: int, name: str = "x", length: Dim | None = None) -> Tensor:
    """An input of tokens."""
    return ops.input(name, (sizes.batch, sizes.sequence if length is None else length, width))


def at(weights: Arrays, scope: str) -> tuple[Array, Array]:
    """Weight and bias of a layer."""
    return weights[f"{scope}.weight"], weights[f"{scope}.bias"]


# Convolutions: stride, padding and kernel as the models use them.

CONVOLUTIONS: tuple[tuple[str, int, int, Padding], ...] = (
    ("same", 3, 1, (1, 1, 1, 1)),
    ("strided", 3, 2, (1, 1, 1, 1)),
    ("strided, padded right and below", 3, 2, (0, 0, 1, 1)),
    ("pointwise", 1, 1, (0, 0, 0, 0)),
)


def _convolution(name: str, kernel: int, stride: int, padding: Padding) -> None:
    def expected(x: Arrays, w: Arrays) -> Array:
        return conv(x["x"], *at(w, "layer"), stride=stride, padding=padding)

    @case(
        expected, cuda={"conv": "conv"}, portable={"conv": "conv"}, holds={"NhwcConv": 1, "Add": 1}, name=name
    )
    def convolution(ops: Ops, sizes: Sizes) -> None:
        x = spatial(ops, sizes, 6)
        ops.output("y", ops.conv(x, AT, out=4, kernel=kernel, stride=stride, padding=padding))


for _parameters in CONVOLUTIONS:
    _convolution(*_parameters)


@case(lambda x, w: conv(x["x"], w["layer.weight"] * 0.25, w["layer.bias"] * 0.5))
def scaled_conv(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.conv(spatial(ops, sizes, 6), AT, out=4, weight_scale=0.25, bias_scale=0.5))


# Linear layers.


@case(
    lambda x, w: linear(x["x"], *at(w, "layer")),
    cuda={"linear": "linear"}, portable={"linear": "linear"}, holds={"MatMul": 1, "Gemm": 0},
    own_holds={"MatMul": 1, "FusedAdd": 1, "Add": 0},
)  # fmt: skip
def linear_with_bias(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.linear(sequence(ops, sizes, 6), AT, out=16))


@case(lambda x, w: linear(x["x"], *at(w, "layer")), own_holds={"MatMul": 1, "FusedAdd": 0, "Add": 1})
def linear_of_few_features(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.linear(sequence(ops, sizes, 6), AT, out=10))


@case(lambda x, w: linear(x["x"], w["layer.weight"]), holds={"MatMul": 1, "Add": 0})
def linear_without_bias(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.linear(sequence(ops, sizes, 6), AT, out=10, bias=False))


@case(lambda x, w: linear(x["x"], w["layer.weight"] * 0.25, w["layer.bias"] * 0.5))
def scaled_linear(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.linear(sequence(ops, sizes, 6), AT, out=10, weight_scale=0.25, bias_scale=0.5))


@case(lambda x, w: linear(x["x"], *at(w, "layer")))
def linear_over_rows(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.linear(ops.input("x", (sizes.batch, 6)), AT, out=10))


def _compiled_geglu(width: int) -> None:
    @case(
        lambda x, w: geglu(x["x"], *at(w, "layer")), name=f"geglu of the compiled width {width}",
        cuda={"geglu": "bias_split_gelu"}, portable={"geglu": "geglu"}, own={"geglu": "own_geglu"},
        holds={"BiasSplitGelu": 1, "Gelu": 0}, own_holds={"GEGLU": 1, "BiasSplitGelu": 0},
    )  # fmt: skip
    def compiled_geglu(ops: Ops, sizes: Sizes) -> None:
        ops.output("y", ops.geglu(sequence(ops, sizes, 6), AT, out=width // 2))


# As the kernel's source has them, not as the target does.
for _width in (2560, 5120, 6144, 10240, 12288):
    _compiled_geglu(_width)


@case(
    lambda x, w: geglu(x["x"], *at(w, "layer")),
    cuda={"geglu": "split_and_gelu"}, holds={"BiasSplitGelu": 0, "Gelu": 1},
)  # fmt: skip
def geglu_of_another_width(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.geglu(sequence(ops, sizes, 6), AT, out=12))


@case(
    lambda x, w: geglu(x["x"], *at(w, "layer")),
    cuda={"geglu": "split_and_gelu"}, own={"geglu": "own_geglu"}, own_holds={"GEGLU": 1, "Split": 0},
)  # fmt: skip
def geglu_of_rows(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.geglu(ops.input("x", (sizes.batch, 6)), AT, out=24))


# Group norms: alone, and absorbing what came before.


@case(
    lambda x, w: silu(group_norm(x["x"], *at(w, "layer"), groups=4, eps=EPS)),
    cuda={"group_norm": "fused_group_norm"}, portable={"group_norm": "group_norm"},
    own={"group_norm": "own_group_norm"}, holds={"GroupNorm": 1, "SkipGroupNorm": 0}, own_holds=OWN_NORM,
)  # fmt: skip
def group_norm_with_silu(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.group_norm(spatial(ops, sizes, 16), AT, groups=4, eps=EPS, silu=True))


@case(
    lambda x, w: group_norm(x["x"], *at(w, "layer"), groups=4, eps=0.5),
    holds={"GroupNorm": 1}, own_holds=OWN_NORM,
)  # fmt: skip
def group_norm_without_silu(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.group_norm(spatial(ops, sizes, 16), AT, groups=4, eps=0.5))


@case(
    lambda x, w: silu(group_norm(x["x"], *at(w, "layer"), groups=4, eps=EPS)),
    cuda={"group_norm": "transposed_group_norm"}, holds={"GroupNorm": 0, "InstanceNormalization": 1},
)  # fmt: skip
def group_norm_of_odd_groups(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.group_norm(spatial(ops, sizes, 12), AT, groups=4, eps=EPS, silu=True))


@case(
    lambda x, w: group_norm(x["x"], *at(w, "layer"), groups=8, eps=EPS),
    cuda={"group_norm": "transposed_group_norm"}, own={"group_norm": "own_group_norm"}, own_holds=OWN_NORM,
)  # fmt: skip
def group_norm_of_groups_of_three(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.group_norm(spatial(ops, sizes, 24), AT, groups=8, eps=EPS))


def _group_norm_that_own_kernels_refuse(channels: int) -> None:
    @case(
        lambda x, w: group_norm(x["x"], *at(w, "layer"), groups=6, eps=EPS),
        cuda={"group_norm": "fused_group_norm"}, own_holds={"FusedGroupNorm": 0, "GroupNorm": 1},
        name=f"group_norm of {channels} channels",
    )  # fmt: skip
    def refused(ops: Ops, sizes: Sizes) -> None:
        ops.output("y", ops.group_norm(spatial(ops, sizes, channels), AT, groups=6, eps=EPS))


# No eights; and with 6 groups no slab of whole groups that a block has room for.
for _channels in (12, 6 * 3080):
    _group_norm_that_own_kernels_refuse(_channels)


@case(
    lambda x, w: group_norm(conv(x["x"], *at(w, "conv")), *at(w, "layer"), groups=4, eps=EPS),
    holds={"SkipGroupNorm": 1, "GroupNorm": 0, "Add": 0, "BiasAdd": 0}, own_holds=OWN_NORM,
)  # fmt: skip
def group_norm_absorbs_a_bias(ops: Ops, sizes: Sizes) -> None:
    h = ops.conv(spatial(ops, sizes, 6), Scope("conv"), out=16)
    ops.output("y", ops.group_norm(h, AT, groups=4, eps=EPS))


@case(
    lambda x, w: group_norm(conv(x["x"], *at(w, "conv")) + x["r"], *at(w, "layer"), groups=4, eps=EPS),
    holds={"SkipGroupNorm": 1, "GroupNorm": 0, "Add": 0, "BiasAdd": 0}, own_holds=OWN_NORM,
)  # fmt: skip
def group_norm_absorbs_bias_and_residual(ops: Ops, sizes: Sizes) -> None:
    h = ops.conv(spatial(ops, sizes, 6), Scope("conv"), out=16)
    ops.output("y", ops.group_norm(ops.add(h, spatial(ops, sizes, 16, "r")), AT, groups=4, eps=EPS))


@case(
    lambda x, w: group_norm(
        conv(x["x"], *at(w, "conv")) + x["r"][:, :, None, None], *at(w, "layer"), groups=4, eps=EPS
    ),
    holds={"SkipGroupNorm": 1, "GroupNorm": 0, "Add": 0, "BiasAdd": 0}, own_holds=OWN_NORM,
)  # fmt: skip
def group_norm_absorbs_bias_and_rows(ops: Ops, sizes: Sizes) -> None:
    h = ops.conv(spatial(ops, sizes, 6), Scope("conv"), out=16)
    h = ops.add_channels(h, ops.input("r", (sizes.batch, 16)))
    ops.output("y", ops.group_norm(h, AT, groups=4, eps=EPS))


@case(
    lambda x, w: group_norm(x["x"] + x["r"], *at(w, "layer"), groups=4, eps=EPS),
    holds={"SkipGroupNorm": 1, "GroupNorm": 0, "Add": 0}, own_holds=OWN_NORM,
)  # fmt: skip
def group_norm_absorbs_a_plain_sum(ops: Ops, sizes: Sizes) -> None:
    h = ops.add(spatial(ops, sizes, 16), spatial(ops, sizes, 16, "r"))
    ops.output("y", ops.group_norm(h, AT, groups=4, eps=EPS))


@case(
    lambda x, w: group_norm(conv(x["x"], *at(w, "conv")) + x["r"], *at(w, "layer"), groups=4, eps=EPS),
    holds={"SkipGroupNorm": 0, "BiasAdd": 1},
)  # fmt: skip
def odd_groups_after_a_sum(ops: Ops, sizes: Sizes) -> None:
    h = ops.conv(spatial(ops, sizes, 6), Scope("conv"), out=12)
    ops.output("y", ops.group_norm(ops.add(h, spatial(ops, sizes, 12, "r")), AT, groups=4, eps=EPS))


# Layer norms.


@case(
    lambda x, w: layer_norm(x["x"], *at(w, "layer"), eps=0.1),
    cuda={"layer_norm": "layer_norm"}, portable={"layer_norm": "layer_norm"},
    own={"layer_norm": "own_layer_norm"}, holds={"LayerNormalization": 1, "SkipLayerNormalization": 0},
    own_holds={"FusedLayerNorm": 1},
)  # fmt: skip
def layer_norm_alone(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.layer_norm(sequence(ops, sizes, 8), AT, eps=0.1))


def _layer_norm_that_own_kernels_refuse(width: int) -> None:
    @case(
        lambda x, w: layer_norm(x["x"] + x["r"], *at(w, "layer"), eps=0.1),
        cuda={"layer_norm": "layer_norm"}, own_holds={"FusedLayerNorm": 0, "SkipLayerNormalization": 1},
        name=f"layer_norm of width {width}",
    )  # fmt: skip
    def refused(ops: Ops, sizes: Sizes) -> None:
        total = ops.add(sequence(ops, sizes, width), sequence(ops, sizes, width, "r"))
        ops.output("y", ops.layer_norm(total, AT, eps=0.1))


for _width in (12, 2056):
    _layer_norm_that_own_kernels_refuse(_width)


def _normed_and_kept(x: Array, w: Arrays) -> Array:
    return layer_norm(x, *at(w, "layer"), eps=0.1) + x


@case(
    lambda x, w: _normed_and_kept(linear(x["x"], *at(w, "fc")), w),
    holds={"MatMul": 1, "LayerNormalization": 1, "Add": 2},
    own_holds={"MatMul": 1, "FusedLayerNorm": 1, "FusedAdd": 1, "Add": 0},
)  # fmt: skip
def layer_norm_absorbs_a_bias(ops: Ops, sizes: Sizes) -> None:
    h = ops.linear(sequence(ops, sizes, 6), Scope("fc"), out=16)
    ops.output("y", ops.add(ops.layer_norm(h, AT, eps=0.1), h))


@case(
    lambda x, w: _normed_and_kept(tokens(conv(x["x"], *at(w, "conv"))), w),
    own_holds={"NhwcConv": 1, "FusedLayerNorm": 1, "FusedAdd": 1, "Add": 0},
)  # fmt: skip
def layer_norm_absorbs_a_bias_through_tokens(ops: Ops, sizes: Sizes) -> None:
    h = ops.tokens(ops.conv(spatial(ops, sizes, 6), Scope("conv"), out=16))
    ops.output("y", ops.add(ops.layer_norm(h, AT, eps=0.1), h))


@case(
    lambda x, w: layer_norm(linear(x["x"], *at(w, "fc")) + x["r"], *at(w, "layer"), eps=0.1),
    holds={"LayerNormalization": 0, "SkipLayerNormalization": 1, "Add": 0, "BiasAdd": 0},
    own={"layer_norm": "layer_norm"},
    own_holds={"FusedLayerNorm": 0, "SkipLayerNormalization": 1, "FusedAdd": 0, "Add": 0},
)  # fmt: skip
def layer_norm_absorbs_bias_and_residual(ops: Ops, sizes: Sizes) -> None:
    h = ops.linear(sequence(ops, sizes, 6), Scope("fc"), out=8)
    ops.output("y", ops.layer_norm(ops.add(h, sequence(ops, sizes, 8, "r")), AT, eps=0.1))


@case(
    lambda x, w: layer_norm(linear(x["x"], w["fc.weight"]) + x["r"], *at(w, "layer"), eps=0.1),
    holds={"LayerNormalization": 0, "SkipLayerNormalization": 1, "Add": 0},
    own={"layer_norm": "layer_norm"},
    own_holds={"FusedLayerNorm": 0, "SkipLayerNormalization": 1, "FusedAdd": 0, "Add": 0},
)  # fmt: skip
def layer_norm_absorbs_a_residual(ops: Ops, sizes: Sizes) -> None:
    h = ops.linear(sequence(ops, sizes, 6), Scope("fc"), out=8, bias=False)
    ops.output("y", ops.layer_norm(ops.add(h, sequence(ops, sizes, 8, "r")), AT, eps=0.1))


# Tables.


@case(
    lambda x, w: w["layer.weight"][x["ids"].astype(int)],
    cuda={"embedding": "embedding"}, portable={"embedding": "embedding"},
)  # fmt: skip
def embedding(ops: Ops, sizes: Sizes) -> None:
    ids = ops.input("ids", (sizes.batch, sizes.sequence), dtype=DType.INT64)
    ops.output("y", ops.embedding(ids, AT, rows=20, width=8))


@case(
    lambda x, w: x["x"] + w["layer.weight"][: x["x"].shape[1]],
    cuda={"positions": "positions", "add_positions": "add_positions"},
    portable={"positions": "positions", "add_positions": "add"},
)  # fmt: skip
def positions(ops: Ops, sizes: Sizes) -> None:
    x = sequence(ops, sizes, 8)
    ops.output("y", ops.add_positions(x, ops.positions(sizes.sequence, AT, rows=20, width=8)))


# Attention.


def _attention(name: str, width: int, heads: int, *, causal: bool, upcast: bool, fused: bool) -> None:
    def expected(x: Arrays, w: Arrays) -> Array:
        key, value = (x["q"] if causal else x[other] for other in ("k", "v"))
        return attention(x["q"], key, value, heads=heads, causal=causal)

    lowering = "multi_head_attention" if fused else "plain_attention"
    holds = {"MultiHeadAttention": int(fused), "Softmax": int(not fused)}

    @case(
        expected,
        cuda={"attention": lowering},
        portable={"attention": "plain_attention"},
        holds=holds,
        name=name,
    )
    def attend(ops: Ops, sizes: Sizes) -> None:
        query = sequence(ops, sizes, width, "q")
        key, value = (
            query if causal else sequence(ops, sizes, width, other, length=5) for other in ("k", "v")
        )
        ops.output(
            "y",
            ops.attention(
                query, key, value, AT, heads=heads, upcast=upcast, causal_up_to=20 if causal else None
            ),
        )


_attention("heads of 8", 16, 2, causal=False, upcast=False, fused=True)
_attention("heads of 8, upcast", 16, 2, causal=False, upcast=True, fused=True)
_attention("causal", 16, 2, causal=True, upcast=False, fused=True)
_attention("head of 256", 256, 1, causal=False, upcast=False, fused=True)
_attention("head of 264", 264, 1, causal=False, upcast=False, fused=False)
_attention("head of 264, upcast", 264, 1, causal=False, upcast=True, fused=False)
_attention("causal head of 264", 264, 1, causal=True, upcast=False, fused=False)


# Elementwise.


def _activation(kind: Activation, function: Callable[[Array], Array]) -> None:
    @case(
        lambda x, w: function(x["x"]), name=f"activation {kind.value}",
        cuda={"activation": "activation"}, portable={"activation": "activation"},
    )  # fmt: skip
    def activation(ops: Ops, sizes: Sizes) -> None:
        ops.output("y", ops.activation(sequence(ops, sizes, 8), kind))


_activation(Activation.SILU, silu)
_activation(Activation.GELU, gelu)
_activation(Activation.QUICK_GELU, lambda x: silu(x, 1.702))


@case(
    lambda x, w: x["x"] + x["r"], cuda={"add": "add"}, portable={"add": "add"},
    holds={"Add": 1}, own_holds={"FusedAdd": 1, "Add": 0},
)  # fmt: skip
def add(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.add(sequence(ops, sizes, 8), sequence(ops, sizes, 8, "r")))


@case(
    lambda x, w: conv(x["x"], *at(w, "layer")) + x["r"],
    holds={"BiasAdd": 1, "Add": 0}, own_holds={"FusedAdd": 1, "BiasAdd": 0, "Add": 0, "Reshape": 0},
)  # fmt: skip
def add_of_feature_maps(ops: Ops, sizes: Sizes) -> None:
    h = ops.conv(spatial(ops, sizes, 6), AT, out=8)
    ops.output("y", ops.add(h, spatial(ops, sizes, 8, "r")))


@case(lambda x, w: conv(x["x"], *at(w, "layer")) + x["r"], own_holds={"FusedAdd": 0, "BiasAdd": 1})
def add_of_few_channels(ops: Ops, sizes: Sizes) -> None:
    h = ops.conv(spatial(ops, sizes, 6), AT, out=4)
    ops.output("y", ops.add(h, spatial(ops, sizes, 4, "r")))


@case(
    lambda x, w: linear(x["x"], *at(w, "layer")) + x["r"],
    holds={"BiasAdd": 1, "Add": 0}, own_holds={"FusedAdd": 1, "BiasAdd": 0, "Add": 0},
)  # fmt: skip
def add_of_tokens(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.add(ops.linear(sequence(ops, sizes, 6), AT, out=8), sequence(ops, sizes, 8, "r")))


@case(
    lambda x, w: linear(x["x"], *at(w, "layer")) + x["r"],
    holds={"BiasAdd": 0, "Add": 2}, own_holds={"FusedAdd": 1, "Add": 0},
)  # fmt: skip
def add_of_rows(ops: Ops, sizes: Sizes) -> None:
    x, r = (ops.input(name, (sizes.batch, width)) for name, width in (("x", 6), ("r", 8)))
    ops.output("y", ops.add(ops.linear(x, AT, out=8), r))


def _two_convolutions(x: Arrays, w: Arrays) -> Array:
    return conv(x["x"], *at(w, "layer")) + conv(x["x"], *at(w, "shortcut"), padding=(0, 0, 0, 0))


def _with_shortcut(ops: Ops, sizes: Sizes, out: int) -> tuple[Tensor, Tensor]:
    """The sum of two convolutions, and the second."""
    x = spatial(ops, sizes, 6)
    shortcut = ops.conv(x, Scope("shortcut"), out=out, kernel=1, padding=(0, 0, 0, 0))
    return ops.add(ops.conv(x, AT, out=out), shortcut), shortcut


# The Add is that of the two biases: numbers of channels, not of pixels.
@case(_two_convolutions, holds={"NhwcConv": 2, "BiasAdd": 1, "Add": 1})
def two_biases_of_convolutions_are_one(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", _with_shortcut(ops, sizes, 4)[0])


@case(
    lambda x, w: group_norm(_two_convolutions(x, w), *at(w, "norm"), groups=4, eps=EPS),
    holds={"NhwcConv": 2, "SkipGroupNorm": 1, "BiasAdd": 0, "Add": 1},
    own_holds={"NhwcConv": 2, "FusedGroupNorm": 1, "FusedAdd": 0, "Add": 1},
)  # fmt: skip
def a_norm_absorbs_two_biases_as_one(ops: Ops, sizes: Sizes) -> None:
    total, _ = _with_shortcut(ops, sizes, 16)
    ops.output("y", ops.group_norm(total, Scope("norm"), groups=4, eps=EPS))


@case(
    lambda x, w: np.concatenate(
        [_two_convolutions(x, w), conv(x["x"], *at(w, "shortcut"), padding=(0, 0, 0, 0))], axis=1
    ),
    holds={"NhwcConv": 2, "BiasAdd": 1, "Add": 2},
    own_holds={"NhwcConv": 2, "FusedConcat": 1, "FusedAdd": 1, "Add": 1},
)
def a_shortcut_without_its_bias_has_it_where_it_is_used_again(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.concat_channels(*_with_shortcut(ops, sizes, 8)))


@case(
    lambda x, w: linear(x["x"], *at(w, "layer")) + linear(x["r"], *at(w, "other")),
    holds={"MatMul": 2, "BiasAdd": 1, "Add": 1},
)
def two_biases_of_linears_are_one(ops: Ops, sizes: Sizes) -> None:
    other = ops.linear(sequence(ops, sizes, 8, "r"), Scope("other"), out=4)
    ops.output("y", ops.add(ops.linear(sequence(ops, sizes, 6), AT, out=4), other))


def _rows_of_a_linear(x: Arrays, w: Arrays) -> Array:
    return conv(x["x"], *at(w, "layer")) + linear(x["r"], *at(w, "rows"))[:, :, None, None]


@case(
    _rows_of_a_linear,
    holds={"MatMul": 1, "Add": 3}, own_holds={"MatMul": 1, "FusedAdd": 1, "Add": 1, "Reshape": 0},
)  # fmt: skip
def two_biases_of_a_convolution_and_rows_are_one(ops: Ops, sizes: Sizes) -> None:
    rows = ops.linear(ops.input("r", (sizes.batch, 8)), Scope("rows"), out=8)
    ops.output("y", ops.add_channels(ops.conv(spatial(ops, sizes, 6), AT, out=8), rows))


@case(
    lambda x, w: group_norm(_rows_of_a_linear(x, w), *at(w, "norm"), groups=4, eps=EPS),
    holds={"MatMul": 1, "SkipGroupNorm": 1, "Add": 1},
    own_holds={"MatMul": 1, "FusedGroupNorm": 1, "FusedAdd": 0, "Add": 1},
)
def a_norm_absorbs_two_biases_and_rows(ops: Ops, sizes: Sizes) -> None:
    rows = ops.linear(ops.input("r", (sizes.batch, 8)), Scope("rows"), out=16)
    h = ops.add_channels(ops.conv(spatial(ops, sizes, 6), AT, out=16), rows)
    ops.output("y", ops.group_norm(h, Scope("norm"), groups=4, eps=EPS))


@case(
    lambda x, w: conv(x["x"], *at(w, "layer")) + x["r"][:, :, None, None],
    cuda={"add_channels": "add"}, portable={"add_channels": "add_channels"},
)  # fmt: skip
def add_channels(ops: Ops, sizes: Sizes) -> None:
    h = ops.conv(spatial(ops, sizes, 6), AT, out=4)
    ops.output("y", ops.add_channels(h, ops.input("r", (sizes.batch, 4))))


@case(
    lambda x, w: np.concatenate([x["x"], x["r"]], axis=1),
    cuda={"concat_channels": "concat_channels"}, portable={"concat_channels": "concat_channels"},
    own={"concat_channels": "own_concat"}, own_holds={"FusedConcat": 1, "Concat": 0},
)  # fmt: skip
def concat_channels(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.concat_channels(spatial(ops, sizes, 8), spatial(ops, sizes, 16, "r")))


def _concatenation_that_own_kernels_refuse(left: int, right: int) -> None:
    @case(
        lambda x, w: np.concatenate([x["x"], x["r"]], axis=1),
        cuda={"concat_channels": "concat_channels"}, own_holds={"FusedConcat": 0, "Concat": 1},
        name=f"concat_channels of {left} and {right}",
    )  # fmt: skip
    def refused(ops: Ops, sizes: Sizes) -> None:
        ops.output("y", ops.concat_channels(spatial(ops, sizes, left), spatial(ops, sizes, right, "r")))


for _left, _right in ((6, 8), (8, 4)):
    _concatenation_that_own_kernels_refuse(_left, _right)


@case(
    lambda x, w: np.concatenate([conv(x["x"], *at(w, "layer")), x["r"]], axis=1),
    own_holds={"FusedConcat": 1, "FusedAdd": 0, "Add": 0},
)  # fmt: skip
def concat_absorbs_a_bias(ops: Ops, sizes: Sizes) -> None:
    h = ops.conv(spatial(ops, sizes, 6), AT, out=8)
    ops.output("y", ops.concat_channels(h, spatial(ops, sizes, 16, "r")))


# A sum beside something, and then once more where it was held back.
@case(
    lambda x, w: (
        np.concatenate([conv(x["x"], *at(w, "layer")) + x["r"], x["r"]], axis=1)
        + np.concatenate([x["r"], conv(x["x"], *at(w, "layer")) + x["r"]], axis=1)
    ),
    holds={"NhwcConv": 1, "BiasAdd": 1},
    own_holds={"NhwcConv": 1, "FusedConcat": 2, "FusedAdd": 2, "Add": 0},
)
def concat_absorbs_a_sum_that_is_settled_later(ops: Ops, sizes: Sizes) -> None:
    r = spatial(ops, sizes, 8, "r")
    total = ops.add(ops.conv(spatial(ops, sizes, 6), AT, out=8), r)
    ops.output("y", ops.add(ops.concat_channels(total, r), ops.concat_channels(r, total)))


@case(
    lambda x, w: np.concatenate([x["x"] + x["r"][:, :, None, None], x["x"]], axis=1),
    own_holds={"FusedConcat": 1, "FusedAdd": 1, "Add": 0},
)  # fmt: skip
def rows_are_added_before_a_concatenation(ops: Ops, sizes: Sizes) -> None:
    x = spatial(ops, sizes, 8)
    total = ops.add_channels(x, ops.input("r", (sizes.batch, 8)))
    ops.output("y", ops.concat_channels(total, x))


@case(
    lambda x, w: np.concatenate([x["x"], x["r"]], axis=-1),
    cuda={"concat_features": "concat_features"}, portable={"concat_features": "concat_features"},
)  # fmt: skip
def concat_features(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.concat_features(sequence(ops, sizes, 6), sequence(ops, sizes, 4, "r")))


# Layout.


@case(
    lambda x, w: upsample(x["x"], 2 * x["x"].shape[2], 2 * x["x"].shape[3]),
    cuda={"upsample": "upsample"}, portable={"upsample": "upsample"}, own={"upsample": "own_upsample"},
    own_holds={"UpsampleNearest": 1, "Expand": 0, "Reshape": 0},
)  # fmt: skip
def upsample_twice(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.upsample(spatial(ops, sizes, 8)))


@case(
    lambda x, w: upsample(x["x"], 2 * x["x"].shape[2], 2 * x["x"].shape[3]),
    cuda={"upsample": "upsample"}, own_holds={"UpsampleNearest": 0, "Expand": 1},
)  # fmt: skip
def upsample_of_few_channels(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.upsample(spatial(ops, sizes, 6)))


@case(
    lambda x, w: upsample(conv(x["x"], *at(w, "down"), stride=2), *x["x"].shape[2:]),
    own_holds={"UpsampleNearest": 1, "FusedAdd": 0, "Add": 0, "Slice": 0, "Expand": 0},
)  # fmt: skip
def upsample_to_a_skip(ops: Ops, sizes: Sizes) -> None:
    x = spatial(ops, sizes, 6)
    ops.output("y", ops.upsample(ops.conv(x, Scope("down"), out=8, stride=2), like=x))


def _upsampled_sum(x: Arrays, w: Arrays) -> Array:
    total = conv(x["x"], *at(w, "layer")) + x["r"]
    return upsample(total, 2 * total.shape[2], 2 * total.shape[3])


@case(
    _upsampled_sum, holds={"BiasAdd": 1}, own_holds={"UpsampleNearest": 1, "FusedAdd": 0, "Add": 0}
)  # fmt: skip
def upsample_absorbs_bias_and_residual(ops: Ops, sizes: Sizes) -> None:
    h = ops.conv(spatial(ops, sizes, 6), AT, out=8)
    ops.output("y", ops.upsample(ops.add(h, spatial(ops, sizes, 8, "r"))))


@case(
    lambda x, w: (
        conv(_upsampled_sum(x, w), *at(w, "down"), stride=2) + conv(x["x"], *at(w, "layer")) + x["r"]
    ),
    holds={"NhwcConv": 2, "BiasAdd": 2, "Expand": 1},
    own_holds={"NhwcConv": 2, "UpsampleNearest": 1, "FusedAdd": 2},
)  # fmt: skip
def a_sum_that_is_upsampled_and_settled_later(ops: Ops, sizes: Sizes) -> None:
    total = ops.add(ops.conv(spatial(ops, sizes, 6), AT, out=8), spatial(ops, sizes, 8, "r"))
    back = ops.conv(ops.upsample(total), Scope("down"), out=8, stride=2)
    ops.output("y", ops.add(back, total))


@case(
    lambda x, w: upsample(
        x["x"] + x["r"][:, :, None, None], 2 * x["x"].shape[2], 2 * x["x"].shape[3]
    ),
    own_holds={"UpsampleNearest": 1, "FusedAdd": 1, "Add": 0},
)  # fmt: skip
def rows_are_added_before_an_upsampling(ops: Ops, sizes: Sizes) -> None:
    total = ops.add_channels(spatial(ops, sizes, 8), ops.input("r", (sizes.batch, 8)))
    ops.output("y", ops.upsample(total))


# A convolution behind a doubling takes the small map; what is held back of that is added up first.


def _doubled(x: Array) -> Array:
    return upsample(x, 2 * x.shape[2], 2 * x.shape[3])


@case(
    lambda x, w: conv(_doubled(x["x"]), *at(w, "layer")),
    cuda={"conv": "conv"}, own={"conv": "own_conv_of_phases"},
    own_holds={"NhwcConv": 1, "Interleave": 1, "UpsampleNearest": 0, "FusedAdd": 0, "Add": 0},
)  # fmt: skip
def a_convolution_of_a_doubled_map(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.conv(ops.upsample(spatial(ops, sizes, 8)), AT, out=16))


@case(
    lambda x, w: conv(_doubled(x["x"]), w["layer.weight"] * 0.25, w["layer.bias"] * 0.5),
    own_holds={"NhwcConv": 1, "Interleave": 1, "UpsampleNearest": 0},
)  # fmt: skip
def a_scaled_convolution_of_a_doubled_map(ops: Ops, sizes: Sizes) -> None:
    doubled = ops.upsample(spatial(ops, sizes, 16))
    ops.output("y", ops.conv(doubled, AT, out=8, weight_scale=0.25, bias_scale=0.5))


@case(
    lambda x, w: group_norm(
        conv(_doubled(conv(x["x"], *at(w, "first")) + x["r"]), *at(w, "layer")), *at(w, "norm"), groups=4,
        eps=EPS,
    ),
    own_holds={"NhwcConv": 2, "Interleave": 1, "UpsampleNearest": 0, "FusedAdd": 1, "FusedGroupNorm": 1},
)  # fmt: skip
def a_convolution_of_a_doubled_sum(ops: Ops, sizes: Sizes) -> None:
    h = ops.add(ops.conv(spatial(ops, sizes, 6), Scope("first"), out=8), spatial(ops, sizes, 8, "r"))
    h = ops.conv(ops.upsample(h), AT, out=32)
    ops.output("y", ops.group_norm(h, Scope("norm"), groups=4, eps=EPS))


# One size of the two is odd in each batch but two.
@case(
    lambda x, w: conv(
        upsample(conv(x["x"], *at(w, "down"), stride=2), *x["x"].shape[2:]), *at(w, "layer")
    ),
    own_holds={"NhwcConv": 2, "Interleave": 0, "UpsampleNearest": 1, "FusedAdd": 1},
)  # fmt: skip
def a_convolution_of_a_map_that_was_cut(ops: Ops, sizes: Sizes) -> None:
    x = spatial(ops, sizes, 6)
    h = ops.upsample(ops.conv(x, Scope("down"), out=8, stride=2), like=x)
    ops.output("y", ops.conv(h, AT, out=8))


@case(
    lambda x, w: conv(_doubled(x["x"]), *at(w, "layer")) + _doubled(x["x"]),
    own_holds={"NhwcConv": 1, "Interleave": 1, "UpsampleNearest": 1, "FusedAdd": 1, "Add": 0},
)  # fmt: skip
def a_doubled_map_that_is_asked_for_as_well(ops: Ops, sizes: Sizes) -> None:
    doubled = ops.upsample(spatial(ops, sizes, 8))
    ops.output("y", ops.add(ops.conv(doubled, AT, out=8), doubled))


def _doubling_that_is_not_folded(kernel: int, stride: int, padding: Padding, out: int) -> None:
    @case(
        lambda x, w: conv(_doubled(x["x"]), *at(w, "layer"), stride=stride, padding=padding),
        own_holds={"NhwcConv": 1, "Interleave": 0, "UpsampleNearest": 1},
        name=f"convolution of a doubled map: {kernel}, {stride}, {padding} to {out}",
    )  # fmt: skip
    def refused(ops: Ops, sizes: Sizes) -> None:
        doubled = ops.upsample(spatial(ops, sizes, 8))
        ops.output("y", ops.conv(doubled, AT, out=out, kernel=kernel, stride=stride, padding=padding))


for _refused in (
    (1, 1, (0, 0, 0, 0), 8), (3, 2, (1, 1, 1, 1), 8), (3, 1, (0, 0, 2, 2), 8), (3, 1, (1, 1, 1, 1), 12),
):  # fmt: skip
    _doubling_that_is_not_folded(*_refused)


@case(lambda x, w: tokens(x["x"]), cuda={"tokens": "tokens"}, portable={"tokens": "tokens"})
def tokens_of_a_feature_map(ops: Ops, sizes: Sizes) -> None:
    ops.output("y", ops.tokens(spatial(ops, sizes, 6)))


@case(
    lambda x, w: feature_map(tokens(x["x"]) + tokens(x["x"]), *x["x"].shape[2:]),
    cuda={"feature_map": "feature_map"}, portable={"feature_map": "feature_map"},
)  # fmt: skip
def feature_map_of_tokens(ops: Ops, sizes: Sizes) -> None:
    x = spatial(ops, sizes, 6)
    flat = ops.tokens(x)
    ops.output("y", ops.feature_map(ops.add(flat, flat), like=x))


@case(
    lambda x, w: layer_norm(tokens(conv(x["x"], *at(w, "conv"))) + x["r"], *at(w, "layer"), eps=EPS),
    holds={"SkipLayerNormalization": 1, "Add": 0},
)  # fmt: skip
def a_bias_held_back_through_tokens(ops: Ops, sizes: Sizes) -> None:
    h = ops.tokens(ops.conv(spatial(ops, sizes, 6), Scope("conv"), out=4))
    residual = ops.input("r", (sizes.batch, sizes.height * sizes.width, 4))
    ops.output("y", ops.layer_norm(ops.add(h, residual), AT, eps=EPS))


@case(
    lambda x, w: group_norm(
        feature_map(linear(tokens(x["x"]), *at(w, "fc")), *x["x"].shape[2:]) + x["x"], *at(w, "layer"),
        groups=4, eps=EPS,
    ),
    holds={"SkipGroupNorm": 1, "Add": 0, "BiasAdd": 0},
)  # fmt: skip
def a_bias_held_back_through_a_feature_map(ops: Ops, sizes: Sizes) -> None:
    x = spatial(ops, sizes, 16)
    h = ops.feature_map(ops.linear(ops.tokens(x), Scope("fc"), out=16), like=x)
    ops.output("y", ops.group_norm(ops.add(h, x), AT, groups=4, eps=EPS))


# What is emitted outside the vocabulary, and what is taken out of it.


@case(lambda x, w: linear(x["x"] * x["x"], *at(w, "layer")))
def a_value_as_a_tensor(ops: Ops, sizes: Sizes) -> None:
    x = ops.value(sequence(ops, sizes, 6))
    ops.output("y", ops.linear(ops.tensor(ops.graph.emit("Mul", x, x)), AT, out=4))


@case(lambda x, w: conv(x["x"] * x["x"], *at(w, "layer")))
def a_value_as_a_feature_map(ops: Ops, sizes: Sizes) -> None:
    x = ops.value(ops.input("x", (sizes.batch, 6, sizes.height, sizes.width)))
    ops.output("y", ops.conv(ops.spatial(ops.graph.emit("Mul", x, x)), AT, out=4))


@case(lambda x, w: conv(x["x"], *at(w, "layer")).transpose(0, 2, 3, 1), holds={"Transpose": 1})
def a_feature_map_in_nhwc(ops: Ops, sizes: Sizes) -> None:
    ops.graph.output("y", ops.nhwc(ops.conv(spatial(ops, sizes, 6), AT, out=4)))


@case(lambda x, w: conv(x["x"], *at(w, "layer")), holds={"Transpose": 2})
def a_feature_map_in_nchw(ops: Ops, sizes: Sizes) -> None:
    ops.graph.output("y", ops.nchw(ops.conv(spatial(ops, sizes, 6), AT, out=4)))


# Tables of a row for each call of a loop.


@case(
    lambda x, w: linear(x["x"], *at(w, "layer")).reshape(3, len(x["x"]) // 3, 8),
    holds={"MatMul": 1, "Add": 1, "Reshape": 1},
)
def rows_split_by_call(ops: Ops, sizes: Sizes) -> None:
    x = ops.input("x", (sizes.batch * 3, 6))
    ops.output("y", ops.split_rows(ops.linear(x, AT, out=8), 3, sizes.batch))


@case(lambda x, w: np.asarray(x["table"][int(x["index"][0])]), holds={"Gather": 1, "Reshape": 1})
def entry_of_a_table(ops: Ops, sizes: Sizes) -> None:
    table = ops.input("table", (20, sizes.batch, sizes.sequence, 6))
    ops.output("y", ops.entry(table, ops.input("index", (1,), dtype=DType.INT64)))


# Composites.


@case(lambda x, w: sinusoid(x["t"], 8, cosine_first=True, shift=0.0))
def sinusoid_cosine_first(ops: Ops, sizes: Sizes) -> None:
    t = ops.input("t", (sizes.batch, sizes.sequence), dtype=DType.FLOAT32)
    ops.output("y", ops.sinusoid(t, width=8, flip_sin_to_cos=True, freq_shift=0.0))


@case(
    lambda x, w: np.repeat(sinusoid(x["t"][None], 8, cosine_first=False, shift=1.0), len(x["r"]), 0) + x["r"]
)
def sinusoid_of_a_scalar_repeated(ops: Ops, sizes: Sizes) -> None:
    rows = ops.input("r", (sizes.batch, 8))
    row = ops.as_row(ops.input("t", (), dtype=DType.FLOAT32))
    waves = ops.sinusoid(row, width=8, flip_sin_to_cos=False, freq_shift=1.0)
    ops.output("y", ops.add(ops.repeat_rows(waves, sizes.batch), rows))


@case(lambda x, w: linear(x["x"].reshape(len(x["x"]), -1), *at(w, "layer")))
def flattened_rows(ops: Ops, sizes: Sizes) -> None:
    rows = ops.flatten_rows(ops.input("x", (sizes.batch, 3, 4)))
    ops.output("y", ops.linear(rows, AT, out=4))


@case(lambda x, w: x["x"][np.arange(len(x["ids"])), x["ids"].argmax(1)])
def row_at_the_largest_id(ops: Ops, sizes: Sizes) -> None:
    ids = ops.input("ids", (sizes.batch, sizes.sequence), dtype=DType.INT64)
    ops.output("y", ops.at_position(sequence(ops, sizes, 8), ops.first_largest(ids)))


@case(lambda x, w: x["x"][np.arange(len(x["ids"])), (x["ids"] == 7).argmax(1)])
def row_at_an_id(ops: Ops, sizes: Sizes) -> None:
    ids = ops.input("ids", (sizes.batch, sizes.sequence), dtype=DType.INT64)
    ops.output("y", ops.at_position(sequence(ops, sizes, 8), ops.first_equal(ids, 7)))


# Values that are held back and then wanted by more than one.


def _norm(x: Array, w: Arrays, scope: str) -> Array:
    return group_norm(x, *at(w, scope), groups=4, eps=EPS)


def _absorbed_sum(x: Arrays, w: Arrays) -> Array:
    total = conv(x["x"], *at(w, "conv1")) + x["x"]
    return conv(_norm(total, w, "norm"), *at(w, "conv2")) + total


@case(_absorbed_sum, holds={"SkipGroupNorm": 1, "NhwcConv": 2, "BiasAdd": 1, "Add": 0})
def a_sum_absorbed_by_a_norm_and_used_as_residual(ops: Ops, sizes: Sizes) -> None:
    x = spatial(ops, sizes, 16)
    total = ops.add(ops.conv(x, Scope("conv1"), out=16), x)
    h = ops.group_norm(total, Scope("norm"), groups=4, eps=EPS)
    ops.output("y", ops.add(ops.conv(h, Scope("conv2"), out=16), total))


@case(
    lambda x, w: np.concatenate(
        [_norm(conv(x["x"], *at(w, "conv")), w, "norm"), conv(x["x"], *at(w, "conv"))], axis=1
    ),
    holds={"SkipGroupNorm": 1, "NhwcConv": 1},
)  # fmt: skip
def a_convolution_absorbed_by_a_norm_and_used_as_skip(ops: Ops, sizes: Sizes) -> None:
    h = ops.conv(spatial(ops, sizes, 6), Scope("conv"), out=16)
    normed = ops.group_norm(h, Scope("norm"), groups=4, eps=EPS)
    ops.output("y", ops.concat_channels(normed, h))


@case(
    lambda x, w: np.concatenate(
        [_norm(conv(x["x"], *at(w, "conv")), w, "norm"), conv(x["x"], *at(w, "conv"))], axis=1
    ),
    holds={"GroupNorm": 1, "SkipGroupNorm": 0, "NhwcConv": 1},
)  # fmt: skip
def a_convolution_used_before_its_norm(ops: Ops, sizes: Sizes) -> None:
    h = ops.conv(spatial(ops, sizes, 6), Scope("conv"), out=16)
    both = ops.concat_channels(h, h)
    normed = ops.group_norm(h, Scope("norm"), groups=4, eps=EPS)
    assert both.shape[1] == 32
    ops.output("y", ops.concat_channels(normed, h))


def _two_norms(x: Arrays, w: Arrays) -> Array:
    total = linear(x["x"], *at(w, "fc")) + x["r"]
    return layer_norm(total, *at(w, "a"), eps=EPS) + layer_norm(total, *at(w, "b"), eps=EPS) + total


@case(_two_norms, holds={"SkipLayerNormalization": 1, "LayerNormalization": 1, "MatMul": 1, "BiasAdd": 0})
def a_sum_of_tokens_under_two_norms(ops: Ops, sizes: Sizes) -> None:
    total = ops.add(ops.linear(sequence(ops, sizes, 6), Scope("fc"), out=8), sequence(ops, sizes, 8, "r"))
    a, b = (ops.layer_norm(total, Scope(name), eps=EPS) for name in ("a", "b"))
    ops.output("y", ops.add(ops.add(a, b), total))


@case(
    lambda x, w: _norm(_norm(conv(x["x"], *at(w, "conv")) + x["x"], w, "a") + x["x"], w, "b") + x["x"],
    holds={"SkipGroupNorm": 2},
)  # fmt: skip
def a_norm_of_a_norm(ops: Ops, sizes: Sizes) -> None:
    x = spatial(ops, sizes, 16)
    h = ops.group_norm(ops.add(ops.conv(x, Scope("conv"), out=16), x), Scope("a"), groups=4, eps=EPS)
    h = ops.group_norm(ops.add(h, x), Scope("b"), groups=4, eps=EPS)
    ops.output("y", ops.add(h, x))


@case(lambda x, w: conv(x["x"], *at(w, "conv"), stride=2) + x["r"])
def a_residual_of_a_computed_size(ops: Ops, sizes: Sizes) -> None:
    shape = (sizes.batch, 4, ceil_div(sizes.height, 2), ceil_div(sizes.width, 2))
    residual = ops.input("r", shape, spatial=True)
    h = ops.conv(spatial(ops, sizes, 6), Scope("conv"), out=4, stride=2)
    ops.output("y", ops.add(h, residual))
