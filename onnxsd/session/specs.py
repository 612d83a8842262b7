"""Inputs and outputs as a model declares them, and what fits them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxsd.errors import BadInputError, UsageError
from onnxsd.session.device import ELEMENT_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An input or output of a model: a size is a number, a symbol, or `None` where it has no name."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join('?' if size is None else str(size) for size in self.shape)}]"

    def accepts(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this type and shape fits; a symbol takes any size."""
        if dtype != self.dtype or len(shape) != len(self.shape):
            return False
        pairs = zip(self.shape, shape, strict=True)
        return all(size == given for size, given in pairs if isinstance(size, int))


def spec_of(argument: Any) -> TensorSpec:
    """What ONNX Runtime says of one input or output."""
    if argument.type not in ELEMENT_TYPES:
        raise BadInputError(
            f"{argument.name} is {argument.type}; onnxsd runs models of {', '.join(ELEMENT_TYPES)} only"
        )
    shape = tuple(size if isinstance(size, int) else (size or None) for size in argument.shape)
    return TensorSpec(name=argument.name, dtype=np.dtype(ELEMENT_TYPES[argument.type]), shape=shape)


def named(specs: tuple[TensorSpec, ...], name: str, label: str) -> TensorSpec:
    """The spec of that name; an error that lists the others."""
    for spec in specs:
        if spec.name == name:
            return spec
    raise UsageError(f"{label} has no {name} there; it has {', '.join(spec.name for spec in specs)}")


def require_fits(spec: TensorSpec, dtype: np.dtype[Any], shape: tuple[int, ...], label: str) -> None:
    """Refuse a tensor of another type or shape than an input or output declares."""
    if not spec.accepts(dtype, tuple(shape)):
        raise BadInputError(f"{label}: {spec.name} is {spec}, and {dtype.name}{list(shape)} was given")
