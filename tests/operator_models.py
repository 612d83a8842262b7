"""Models of one `com.microsoft` node each, as the cuda target emits them, of shapes that its kernels take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsd.ops.graph import Graph
from onnxsd.tensors import DType

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator with operands of these shapes, of which those in `weights` are initializers."""

    operator: str
    shapes: tuple[tuple[int, ...], ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[int, ...] = (0,)
    weights: tuple[int, ...] = ()
    # Operands that stay float32 whatever the type of the others.
    float32: tuple[int, ...] = ()

    def model(self, dtype: DType) -> ir.Model:
        """The model with inputs `x0`, `x1`, … and an output `y0`, `y1`, … for each of `outputs`."""
        graph = Graph(self.operator)
        operands = []
        for index, shape in enumerate(self.shapes):
            if index in self.weights:
                operands.append(graph.constant(self.numbers(dtype)[index], f"x{index}"))
            else:
                operands.append(graph.input(f"x{index}", self._dtype(index, dtype), shape))
        values = graph.emit_all(self.operator, *operands, outputs=self.outputs, **self.attributes)
        for index, value in zip(self.outputs, values, strict=True):
            graph.output(f"y{index}", value)
        return graph.finish({}).model

    def numbers(self, dtype: DType) -> list[Array]:
        """Random operands; weights are small enough for sums over them to stay near 1."""
        generator = np.random.default_rng(0)
        made = []
        for index, shape in enumerate(self.shapes):
            spread = np.prod(shape[1:]) ** -0.5 if index in self.weights and len(shape) > 1 else 1.0
            numbers = generator.standard_normal(shape) * spread
            made.append(numbers.astype(np.float16).astype(self._dtype(index, dtype).numpy_name))
        return made

    def feeds(self, dtype: DType) -> dict[str, Array]:
        """The inputs."""
        numbers = self.numbers(dtype)
        return {f"x{i}": array for i, array in enumerate(numbers) if i not in self.weights}

    def _dtype(self, index: int, dtype: DType) -> DType:
        return DType.FLOAT32 if index in self.float32 else dtype


CONV: Mapping[str, Any] = {"dilations": (1, 1), "group": 1}
SAME: Mapping[str, Any] = {**CONV, "kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1)}
STRIDED: Mapping[str, Any] = {**SAME, "strides": (2, 2), "pads": (0, 0, 1, 1)}
POINT: Mapping[str, Any] = {**CONV, "kernel_shape": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0)}
GROUPS: Mapping[str, Any] = {"groups": 32, "epsilon": 1e-5, "activation": 1, "channels_last": 1}
PLAIN: Mapping[str, Any] = {**GROUPS, "epsilon": 0.01, "activation": 0}
MAP, CHANNELS, TOKENS = (2, 8, 6, 320), (320,), (2, 48, 320)
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
}  # fmt: skip
