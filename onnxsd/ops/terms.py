"""What the ops of the vocabulary are given and give back: places, tensors, and values not emitted yet."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from onnxsd.ops.operators import Value
from onnxsd.tensors import DType, Shape, shape_text


@dataclass(frozen=True, slots=True)
class Scope:
    """A place in the checkpoint: `at / "norm1"` is the child, `str(at / "weight")` a tensor's name."""

    path: str = ""

    def __truediv__(self, child: str | int) -> Scope:
        return Scope(f"{self.path}.{child}" if self.path else str(child))

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Tensor:
    """A value in a model definition: its logical shape, and whether it is a feature map.

    A spatial tensor's shape is (batch, channels, height, width) in every target.
    """

    shape: Shape
    dtype: DType
    spatial: bool = False

    def __str__(self) -> str:
        return shape_text(self.shape)


class Activation(enum.Enum):
    """Activation functions, by the names that config.json files use."""

    SILU = "silu"
    GELU = "gelu"
    QUICK_GELU = "quick_gelu"


class Deferred(Protocol):
    """A value that is not emitted yet, so that its consumer may absorb what is left to do."""

    def settle(self) -> Value:
        """Emit what is left to do and return the value."""


Source: TypeAlias = Value | Deferred


class Refused(Exception):  # noqa: N818 - not an error: the next lowering is tried
    """A lowering's word that its kernel cannot take these operands, with the reason."""


Lowering: TypeAlias = Callable[..., Source]
# Padding of a convolution: top, left, bottom, right.
Padding: TypeAlias = "tuple[int, int, int, int]"
SAME: Padding = (1, 1, 1, 1)
