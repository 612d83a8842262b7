"""Filling a block through pinned buffers and threads, over a libcuda that copies only when waited for."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fake_cuda import FakeCuda

from onnxsd.errors import NotReadyError, ResourceError
from onnxsd.session import staging
from onnxsd.session.block import Block
from onnxsd.session.driver import Driver
from onnxsd.session.staging import Part, fill
from onnxsd.tensors import aligned

Array = npt.NDArray[Any]
CHUNK = 4096
LANES = 4
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(staging, "MOST_LANES", LANES)
    monkeypatch.setattr(os, "cpu_count", lambda: LANES)


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def driver(cuda: FakeCuda) -> Driver:
    return Driver(cuda, 0)


def random_array(size_bytes: int, seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, size_bytes, np.uint8)


def parts_of(arrays: Sequence[Array]) -> tuple[list[Part], int]:
    """Arrays one after another as a data file has them, and the size of it all."""
    parts, end = [], 0
    for array in arrays:
        offset = aligned(end)
        parts.append(Part(offset=offset, size_bytes=array.nbytes, read=functools.partial(np.asarray, array)))
        end = offset + array.nbytes
    return parts, end


def held(block: Block, part: Part) -> bytes:
    return ctypes.string_at(block.address + part.offset, part.size_bytes)


def filled(driver: Driver, arrays: Sequence[Array]) -> None:
    """Fill a block of these arrays and look at every byte."""
    parts, size_bytes = parts_of(arrays)
    block = Block(driver, size_bytes)
    fill(block, parts)

    for part, array in zip(parts, arrays, strict=True):
        assert held(block, part) == np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [0],
        [1],
        [CHUNK - 1],
        [CHUNK],
        [CHUNK + 1],
        [5 * CHUNK],
        [5 * CHUNK + 3],
        [256] * 100,
        [CHUNK] * 20,
        [10, 3 * CHUNK + 7, 10, 10, CHUNK, 0, 10, CHUNK - 256, 256, CHUNK + 1, 10],
    ],
    ids=lambda sizes: f"{len(sizes)} parts of {max(sizes, default=0)}",
)
def test_every_byte_is_in_its_place(cuda: FakeCuda, driver: Driver, sizes: list[int]) -> None:
    filled(driver, [random_array(size, seed) for seed, size in enumerate(sizes)])

    assert cuda.nothing_on_the_host


@pytest.mark.parametrize("seed", range(5))
def test_so_it_is_for_many_parts_of_any_sizes(cuda: FakeCuda, driver: Driver, seed: int) -> None:
    sizes = np.random.default_rng(seed).choice([1, 100, 300, 1000, 4096, 5000, 20_000], 200)
    filled(driver, [random_array(int(size), number) for number, size in enumerate(sizes)])

    assert cuda.nothing_on_the_host


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_, np.uint8])
@pytest.mark.parametrize("columns", [7, 3000])
def test_arrays_in_another_order_arrive_in_their_own(driver: Driver, dtype: Any, columns: int) -> None:
    """Weights are transposed while they load: small ones and those of several buffers."""
    array: Array = random_array(9 * columns, 1).astype(dtype).reshape(9, columns)

    filled(driver, [array.T, array[::2], np.array(3, dtype), array.astype(dtype, order="F")])


def test_each_part_is_asked_for_once(driver: Driver) -> None:
    asked: list[int] = []

    def reader(index: int) -> Callable[[], Array]:
        def read() -> Array:
            asked.append(index)
            return np.full(1024, index, np.uint8)

        return read

    parts = [Part(offset=1024 * index, size_bytes=1024, read=reader(index)) for index in range(64)]
    block = Block(driver, 64 * 1024)
    fill(block, parts)

    assert sorted(asked) == list(range(64))
    assert all(held(block, part) == bytes([index]) * 1024 for index, part in enumerate(parts))


def test_threads_read_at_the_same_time(driver: Driver) -> None:
    """Each reader waits for all the others: one thread alone would never come to the second."""
    together = threading.Barrier(LANES)

    def read() -> Array:
        together.wait(timeout=30)
        return np.ones(CHUNK, np.uint8)

    parts = [Part(offset=CHUNK * index, size_bytes=CHUNK, read=read) for index in range(LANES)]
    block = Block(driver, LANES * CHUNK)
    fill(block, parts)

    assert ctypes.string_at(block.address, LANES * CHUNK) == bytes([1]) * LANES * CHUNK


@pytest.mark.parametrize("at", [0, 1, 10, 39])
@pytest.mark.parametrize("size_bytes", [CHUNK // 2, CHUNK, 3 * CHUNK])
def test_what_a_reader_raises_reaches_the_caller(
    cuda: FakeCuda, driver: Driver, at: int, size_bytes: int
) -> None:
    def spoilt() -> Array:
        raise KeyError("the file is gone")

    parts, size = parts_of([random_array(size_bytes, seed) for seed in range(40)])
    parts[at] = Part(offset=parts[at].offset, size_bytes=size_bytes, read=spoilt)
    block = Block(driver, size)

    with pytest.raises(KeyError, match="the file is gone"):
        fill(block, parts)

    assert cuda.nothing_on_the_host, cuda.misused
    del block
    assert not cuda.device


@pytest.mark.parametrize("after", [0, 1, LANES - 1])
def test_memory_that_cannot_be_pinned_is_an_error(cuda: FakeCuda, driver: Driver, after: int) -> None:
    cuda.fail("cuMemHostAlloc", 2, after=after)
    parts, size = parts_of([random_array(CHUNK, seed) for seed in range(40)])

    with pytest.raises(ResourceError, match="of the machine's own memory"):
        fill(Block(driver, size), parts)

    assert cuda.nothing_on_the_host


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("cuStreamCreate", 0),
        ("cuMemcpyHtoDAsync_v2", 0),
        ("cuMemcpyHtoDAsync_v2", 7),
        ("cuStreamSynchronize", 5),
    ],
)
def test_a_failing_device_leaves_nothing_behind(
    cuda: FakeCuda, driver: Driver, name: str, after: int
) -> None:
    cuda.fail(name, 700, after=after)
    parts, size = parts_of([random_array(CHUNK, seed) for seed in range(40)])

    with pytest.raises(NotReadyError, match=f"{name} failed: CUDA_ERROR_ILLEGAL_ADDRESS"):
        fill(Block(driver, size), parts)

    assert not cuda.pinned


def test_after_a_failure_it_works_again(cuda: FakeCuda, driver: Driver) -> None:
    cuda.fail("cuMemcpyHtoDAsync_v2", 700)
    with pytest.raises(NotReadyError):
        filled(driver, [random_array(CHUNK, 1)])
    cuda.heal()

    filled(driver, [random_array(3 * CHUNK, 2)])
    assert not cuda.pinned
