"""Models of one fused node each, as the targets cuda and own emit them, of shapes that its kernels take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsd.ops.graph import Graph
from onnxsd.ops.operators import OPERATORS, Value
from onnxsd.tensors import DType

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator with operands of these shapes, of which those in `weights` are initializers.

    An operand that is left out has None for a shape.
    """

    operator: str
    shapes: tuple[tuple[int, ...] | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[int, ...] = (0,)
    weights: tuple[int, ...] = ()
    # Operands that stay float32 whatever the type of the others.
    float32: tuple[int, ...] = ()

    @property
    def domain(self) -> str:
        """Where the operator lives."""
        return OPERATORS[self.operator].domain

    def model(self, dtype: DType) -> ir.Model:
        """The model with inputs `x0`, `x1`, … and an output `y0`, `y1`, … for each of `outputs`."""
        graph = Graph(self.operator)
        operands: list[Value | None] = []
        for index, shape in enumerate(self.shapes):
            if shape is None:
                operands.append(None)
            elif index in self.weights:
                operands.append(graph.constant(self.numbers(dtype)[f"x{index}"], f"x{index}"))
            else:
                operands.append(graph.input(f"x{index}", self._dtype(index, dtype), shape))
        values = graph.emit_all(self.operator, *operands, outputs=self.outputs, **self.attributes)
        for index, value in zip(self.outputs, values, strict=True):
            graph.output(f"y{index}", value)
        return graph.finish({}).model

    def numbers(self, dtype: DType) -> dict[str, Array]:
        """Random operands by name; weights are small enough for sums over them to stay near 1."""
        generator = np.random.default_rng(0)
        made = {}
        for index, shape in enumerate(self.shapes):
            if shape is None:
                continue
            spread = np.prod(shape[1:]) ** -0.5 if index in self.weights and len(shape) > 1 else 1.0
            numbers = generator.standard_normal(shape) * spread
            made[f"x{index}"] = numbers.astype(np.float16).astype(self._dtype(index, dtype).numpy_name)
        return made

    def feeds(self, dtype: DType) -> dict[str, Array]:
        """The inputs."""
        weights = {f"x{index}" for index in self.weights}
        return {name: array for name, array in self.numbers(dtype).items() if name not in weights}

    def _dtype(self, index: int, dtype: DType) -> DType:
        return DType.FLOAT32 if index in self.float32 else dtype


CONV: Mapping[str, Any] = {"dilations": (1, 1), "group": 1}
SAME: Mapping[str, Any] = {**CONV, "kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1)}
STRIDED: Mapping[str, Any] = {**SAME, "strides": (2, 2), "pads": (0, 0, 1, 1)}
POINT: Mapping[str, Any] = {**CONV, "kernel_shape": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0)}
GROUPS: Mapping[str, Any] = {"groups": 32, "epsilon": 1e-5, "activation": 1, "channels_last": 1}
PLAIN: Mapping[str, Any] = {**GROUPS, "epsilon": 0.01, "activation": 0}
OWN_GROUPS: Mapping[str, Any] = {"groups": 32, "epsilon": 1e-5, "activation": 1, "slab": 8, "parts": 3}
MAP, ROWS, CHANNELS, TOKENS = (2, 8, 6, 320), (2, 320), (320,), (2, 48, 320)


def _fused_group_norm(attributes: Mapping[str, Any], *addends: tuple[int, ...] | None) -> Node:
    """The norm of a feature map and addends, and the sum where there are any."""
    return Node(
        operator="FusedGroupNorm", shapes=(MAP, CHANNELS, CHANNELS, *addends), attributes=attributes,
        outputs=(0, 2) if addends else (0,), weights=(1, 2, 4), float32=(1, 2),
    )  # fmt: skip


def _fused_layer_norm(epsilon: float, *addends: tuple[int, ...] | None) -> Node:
    """The norm of tokens and addends, and the sum where there are any."""
    return Node(
        operator="FusedLayerNorm", shapes=(TOKENS, CHANNELS, CHANNELS, *addends),
        attributes={"epsilon": epsilon}, outputs=(0, 1) if addends else (0,), weights=(1, 2, 4),
    )  # fmt: skip


NODES: Mapping[str, Node] = {
    "NhwcConv": Node(
        operator="NhwcConv", shapes=(MAP, (64, 3, 3, 320), (64,)), attributes=SAME, weights=(1, 2)
    ),
    "NhwcConv without bias": Node(
        operator="NhwcConv", shapes=(MAP, (64, 3, 3, 320)), attributes=SAME, weights=(1,)
    ),
    "NhwcConv strided": Node(
        operator="NhwcConv", shapes=(MAP, (64, 3, 3, 320), (64,)), attributes=STRIDED, weights=(1, 2)
    ),
    "NhwcConv of a point": Node(
        operator="NhwcConv", shapes=(MAP, (64, 1, 1, 320), (64,)), attributes=POINT, weights=(1, 2)
    ),
    "GroupNorm": Node(
        operator="GroupNorm", shapes=(MAP, CHANNELS, CHANNELS), attributes=GROUPS,
        weights=(1, 2), float32=(1, 2),
    ),
    "GroupNorm without activation": Node(
        operator="GroupNorm", shapes=(MAP, CHANNELS, CHANNELS), attributes=PLAIN,
        weights=(1, 2), float32=(1, 2),
    ),
    "SkipGroupNorm": Node(
        operator="SkipGroupNorm", shapes=(MAP, CHANNELS, CHANNELS, MAP, CHANNELS), attributes=GROUPS,
        outputs=(0, 1), weights=(1, 2, 4), float32=(1, 2),
    ),
    "SkipGroupNorm without bias": Node(
        operator="SkipGroupNorm", shapes=(MAP, CHANNELS, CHANNELS, MAP), attributes=PLAIN,
        outputs=(0, 1), weights=(1, 2), float32=(1, 2),
    ),
    "SkipGroupNorm with rows": Node(
        operator="SkipGroupNorm", shapes=(MAP, CHANNELS, CHANNELS, (2, 320), CHANNELS), attributes=GROUPS,
        weights=(1, 2, 4), float32=(1, 2),
    ),
    "SkipGroupNorm with rows alone": Node(
        operator="SkipGroupNorm", shapes=(MAP, CHANNELS, CHANNELS, (2, 320)), attributes=GROUPS,
        outputs=(0, 1), weights=(1, 2), float32=(1, 2),
    ),
    "SkipLayerNormalization": Node(
        operator="SkipLayerNormalization", shapes=(TOKENS, TOKENS, CHANNELS, CHANNELS, CHANNELS),
        attributes={"epsilon": 1e-5}, outputs=(0, 3), weights=(2, 3, 4),
    ),
    "SkipLayerNormalization alone": Node(
        operator="SkipLayerNormalization", shapes=(TOKENS, TOKENS, CHANNELS, CHANNELS),
        attributes={"epsilon": 0.01}, weights=(2, 3),
    ),
    "MultiHeadAttention": Node(
        operator="MultiHeadAttention", shapes=((2, 48, 128), (2, 77, 128), (2, 77, 128)),
        attributes={"num_heads": 2, "unidirectional": 0},
    ),
    "MultiHeadAttention causal": Node(
        operator="MultiHeadAttention", shapes=((2, 77, 128),) * 3,
        attributes={"num_heads": 2, "unidirectional": 1},
    ),
    **{
        f"BiasSplitGelu {width}": Node(
            operator="BiasSplitGelu", shapes=((2, 12, width), (width,)), weights=(1,)
        )
        for width in (2560, 5120, 6144, 10240, 12288)
    },
    "BiasAdd": Node(operator="BiasAdd", shapes=(TOKENS, CHANNELS, TOKENS), weights=(1,)),
    "Gelu": Node(operator="Gelu", shapes=(TOKENS,)),
    "QuickGelu": Node(operator="QuickGelu", shapes=(TOKENS,), attributes={"alpha": 1.702}),
    "SiLU": Node(operator="QuickGelu", shapes=(TOKENS,), attributes={"alpha": 1.0}),
    "FusedGroupNorm": _fused_group_norm(OWN_GROUPS),
    "FusedGroupNorm without activation": _fused_group_norm({**OWN_GROUPS, "activation": 0, "epsilon": 0.01}),
    "FusedGroupNorm of a sum": _fused_group_norm(OWN_GROUPS, MAP, CHANNELS),
    "FusedGroupNorm of a residual": _fused_group_norm(OWN_GROUPS, MAP),
    "FusedGroupNorm of a bias": _fused_group_norm(OWN_GROUPS, None, CHANNELS),
    "FusedGroupNorm with rows": _fused_group_norm(OWN_GROUPS, ROWS, CHANNELS),
    "FusedGroupNorm with rows alone": _fused_group_norm({**OWN_GROUPS, "parts": 1}, ROWS),
    "FusedLayerNorm": _fused_layer_norm(1e-5),
    "FusedLayerNorm of a sum": _fused_layer_norm(0.01, TOKENS, CHANNELS),
    "FusedLayerNorm of a residual": _fused_layer_norm(1e-5, TOKENS),
    "FusedLayerNorm of a bias": _fused_layer_norm(1e-5, None, CHANNELS),
    "RowSoftmax": Node(operator="RowSoftmax", shapes=((2, 12, 80),)),
    "GEGLU": Node(operator="GEGLU", shapes=((2, 12, 80), (80,)), weights=(1,)),
    "UpsampleNearest": Node(
        operator="UpsampleNearest", shapes=(MAP,), attributes={"height": 16, "width": 12}
    ),
    "UpsampleNearest to odd sizes": Node(
        operator="UpsampleNearest", shapes=(MAP, MAP, CHANNELS), attributes={"height": 15, "width": 11},
        weights=(2,),
    ),
    "UpsampleNearest of a bias": Node(
        operator="UpsampleNearest", shapes=(MAP, None, CHANNELS), attributes={"height": 15, "width": 12},
        weights=(2,),
    ),
    "Interleave": Node(operator="Interleave", shapes=((2, 8, 6, 64),)),
    "Interleave with a bias": Node(operator="Interleave", shapes=((2, 3, 6, 64), (16,)), weights=(1,)),
    "FusedAdd": Node(operator="FusedAdd", shapes=(MAP, MAP, CHANNELS), weights=(2,)),
    "FusedAdd of a bias": Node(operator="FusedAdd", shapes=(TOKENS, None, CHANNELS), weights=(2,)),
    "FusedAdd of a residual": Node(operator="FusedAdd", shapes=(ROWS, ROWS)),
    "FusedAdd of rows": Node(operator="FusedAdd", shapes=(MAP, ROWS, CHANNELS), weights=(2,)),
    "FusedConcat": Node(operator="FusedConcat", shapes=(MAP, (2, 8, 6, 64))),
    "FusedConcat of a sum": Node(
        operator="FusedConcat", shapes=(MAP, (2, 8, 6, 64), MAP, CHANNELS), weights=(3,)
    ),
    "FusedConcat of a bias": Node(
        operator="FusedConcat", shapes=(MAP, (2, 8, 6, 64), None, CHANNELS), weights=(3,)
    ),
}  # fmt: skip
