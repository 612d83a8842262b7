"""Writes safetensors with seeded random weights, piece by piece: memory stays small whatever the size."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np

from onnxsd.errors import ResourceError
from onnxsd.tensors import DType
from onnxsd.weights.tensor_file import Array

Shapes = Mapping[str, tuple[int, ...]]

# A weight is a 16-bit random number's quantile of a normal distribution, looked up: three times as fast as
# drawing normals, and fp16 weights are exactly the fp32 ones of the same seed, cast.
QUANTILES = 1 << 16
# A multiple of 4, for a 64-bit random number gives four weights.
PIECE_ELEMENTS = 1 << 22
HEADER_ALIGNMENT_BYTES = 8
NORM_DEVIATION = 0.1
# What CLIP initializes its embeddings with; the same keeps biases small against activations of about 1.
SMALL_DEVIATION = 0.02


def write_random(path: Path, shapes: Shapes, *, scope: str, seed: int, dtype: DType) -> None:
    """Write a safetensors file in which every tensor follows from the seed, `scope` and its name alone.

    Norms scale by about 1, biases and embeddings are small, and other weights have a standard deviation of
    1/√fan-in, so that activations stay near 1 and nothing overflows in fp16.

    Args:
        path: the file, which must not exist.
        shapes: the tensors to write, by name.
        scope: tells tensors of one name apart, such as those of two text encoders.
        seed: any integer.
        dtype: FLOAT16 or FLOAT32.
    """
    try:
        with path.open("xb") as file:
            file.write(_header(shapes, dtype))
            for name in sorted(shapes):
                for piece in _pieces(name, shapes[name], f"{seed}/{scope}/{name}", dtype):
                    file.write(piece.data)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error


def file_size_bytes(shapes: Shapes, dtype: DType) -> int:
    """How large the file that `write_random` makes is."""
    return len(_header(shapes, dtype)) + sum(map(math.prod, shapes.values())) * dtype.size_bytes


def _header(shapes: Shapes, dtype: DType) -> bytes:
    # "pt": diffusers and transformers refuse a file that does not say which library's layout it has.
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(shapes):
        start, end = end, end + math.prod(shapes[name]) * dtype.size_bytes
        entries[name] = {"dtype": dtype.value, "shape": list(shapes[name]), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT_BYTES)
    return len(text).to_bytes(8, "little") + text


def _pieces(name: str, shape: tuple[int, ...], key: str, dtype: DType) -> Iterator[Array]:
    """The tensor's numbers in order, at most PIECE_ELEMENTS at a time."""
    values = _values(*_distribution(name, shape), dtype)
    # Raw bits of a named generator: numpy promises their stream, not that of its distributions.
    bits = np.random.PCG64(int.from_bytes(hashlib.sha256(key.encode()).digest(), "little"))
    left = math.prod(shape)
    while left:
        count = min(left, PIECE_ELEMENTS)
        drawn = bits.random_raw(-(-count // 4)).astype("<u8", copy=False).view("<u2")
        yield values[drawn[:count]]
        left -= count


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and standard deviation of a tensor's numbers."""
    if len(shape) == 1:
        return (0.0, SMALL_DEVIATION) if name.endswith(".bias") else (1.0, NORM_DEVIATION)
    if name.endswith("embedding.weight"):
        return 0.0, SMALL_DEVIATION
    return 0.0, 1 / math.sqrt(math.prod(shape[1:]))


@cache
def _values(mean: float, deviation: float, dtype: DType) -> Array:
    """The number that each 16-bit random number stands for."""
    exact = (mean + deviation * _normal_quantiles()).astype(np.float32)
    return exact.astype(np.dtype(dtype.numpy_name).newbyteorder("<"))


@cache
def _normal_quantiles() -> Array:
    normal = NormalDist()
    return np.array([normal.inv_cdf((index + 0.5) / QUANTILES) for index in range(QUANTILES)])
