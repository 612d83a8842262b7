"""What a model declares about its weights, and whether the values given for them fit."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from onnxsd.errors import BadInputError, WeightsError

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredWeight:
    """One initializer: its shape and type, and the file that its data lies in (`None`: in the model)."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    location: str | None

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}"


def declared_weights(model: bytes | Path) -> dict[str, DeclaredWeight]:
    """The initializers of a model by name; external data is not read."""
    import onnx

    return {
        tensor.name: DeclaredWeight(
            shape=tuple(tensor.dims),
            dtype=onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type),
            location=_location(tensor),
        )
        for tensor in _parse(model).graph.initializer
    }


def require_fit(declared: Mapping[str, DeclaredWeight], given: Mapping[str, Any], label: str) -> None:
    """Refuse values for weights that the model does not have, or of another shape or type.

    ONNX Runtime ignores the first in silence and reads beyond the end of the second.
    """
    if unknown := [name for name in given if name not in declared]:
        raise WeightsError(f"{label} has no weight named {_some(unknown)}, but values were given for it")
    for name, value in given.items():
        weight = declared[name]
        if (tuple(value.shape), value.dtype) != (weight.shape, weight.dtype):
            found = f"{value.dtype.name}{list(value.shape)}"
            raise WeightsError(f"{label}: {name} is {weight} in the model, and {found} was given")


def require_all(declared: Mapping[str, DeclaredWeight], given: Mapping[str, Any], label: str) -> None:
    """Refuse a model without files of which a weight lies in a file and has no value given."""
    missing = [name for name, weight in declared.items() if weight.location is not None and name not in given]
    if missing:
        raise WeightsError(
            f"{label}: no values were given for {len(missing)} of its weights: {_some(missing)}"
        )


@contextmanager
def placeholder_files(declared: Mapping[str, DeclaredWeight]) -> Iterator[Path]:
    """A temporary folder with an empty file for each one that the model's weights are said to lie in.

    ONNX Runtime insists that the files exist even where every value is supplied. Empty ones are right:
    what would still read a placeholder instead of the value supplied fails, where a sparse file gives zeros.
    """
    with TemporaryDirectory(prefix="onnxsd-", ignore_cleanup_errors=True) as folder:
        for location in {weight.location for weight in declared.values() if weight.location is not None}:
            path = PurePosixPath(location)
            if path.is_absolute() or ".." in path.parts:
                raise BadInputError(f"the model keeps weights outside its own folder: {location}")
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        yield Path(folder)


def _parse(model: bytes | Path) -> Any:
    import onnx

    # Through importlib: protobuf has no types of its own.
    unreadable = importlib.import_module("google.protobuf.message").DecodeError
    try:
        if isinstance(model, Path):
            return onnx.load_model(str(model), load_external_data=False)
        return onnx.load_model_from_string(model)
    except (unreadable, OSError) as error:
        where = f" {model}" if isinstance(model, Path) else ""
        raise BadInputError(f"cannot read the ONNX model{where}: {error}") from error


def _location(tensor: Any) -> str | None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return str(entries["location"]) if "location" in entries else None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
