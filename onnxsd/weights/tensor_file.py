"""safetensors files, memory-mapped: one tensor at a time is in memory, whatever the size of the file."""

from __future__ import annotations

import contextlib
import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.errors import ResourceError, WeightsError
from onnxsd.tensors import DType

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """Where one tensor lies in a file."""

    dtype: DType
    shape: tuple[int, ...]
    start: int
    stop: int


class TensorFile:
    """One safetensors file: `entries` by name, and their contents when asked for.

    Raises:
        WeightsError: the file is truncated or not a safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _validate(path)
        with path.open("rb") as file:  # the map holds the file open on its own
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        header_bytes = int.from_bytes(self._map[:8], "little")
        self.entries = _entries(path, json.loads(self._map[8 : 8 + header_bytes]), 8 + header_bytes)

    def read(self, name: str) -> Array:
        """A copy-free view of a tensor; bfloat16 comes as its bits in uint16. Call `release` when done."""
        entry = self.entries[name]
        if not math.prod(entry.shape):
            return np.empty(entry.shape, STORED_AS[entry.dtype])
        flat = np.frombuffer(self._map, STORED_AS[entry.dtype], math.prod(entry.shape), entry.start)
        return flat.reshape(entry.shape)

    def release(self, name: str) -> None:
        """Let the pages of a tensor go, so that reading a large file does not fill the memory."""
        if not hasattr(self._map, "madvise"):  # Windows drops clean pages by itself
            return
        entry = self.entries[name]
        start = entry.start - entry.start % mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, start, entry.stop - start)

    def close(self) -> None:
        """Unmap the file, or let it go with its last view, as when an error still holds one."""
        with contextlib.suppress(BufferError):
            self._map.close()

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# numpy has no bfloat16 of its own.
STORED_AS: dict[DType, np.dtype[Any]] = {
    DType.FLOAT32: np.dtype("<f4"),
    DType.FLOAT16: np.dtype("<f2"),
    DType.BFLOAT16: np.dtype("<u2"),
    DType.INT64: np.dtype("<i8"),
    DType.INT32: np.dtype("<i4"),
    DType.BOOL: np.dtype("?"),
}


def _validate(path: Path) -> None:
    """Let the safetensors library judge the header and the file's length."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy"):
            pass
    except SafetensorError as error:
        size = path.stat().st_size
        raise WeightsError(
            f"{path} is truncated or not a safetensors file: {size:,} bytes are there; {error}",
            hint="download or copy the file again",
        ) from error
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error}") from error


def _entries(path: Path, header: Mapping[str, Any], base: int) -> dict[str, TensorEntry]:
    entries = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = next((read for read in STORED_AS if read.value == entry["dtype"]), None)
        if dtype is None:
            raise WeightsError(
                f"{path}: {name} is of type {entry['dtype']}",
                hint="float32, float16 and bfloat16 weights are read",
            )
        start, stop = entry["data_offsets"]
        entries[name] = TensorEntry(
            dtype=dtype, shape=tuple(entry["shape"]), start=base + start, stop=base + stop
        )
    return entries
