"""Filling device memory from arrays on the host, through pinned buffers and several threads.

The driver copies pageable memory (a mapped file) at the speed of one thread; from pinned buffers the device
fetches by itself, and each thread fills one while others are being fetched. Measured on an H200 with 16
cores, 5 GiB from the page cache: 6.4 GiB/s pageable, 12 with two threads, 21 with four, 41 with eight.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxsd.session.block import Block
from onnxsd.session.driver import Driver

Bytes: TypeAlias = npt.NDArray[np.uint8]
CHUNK_BYTES = 16 << 20
MOST_LANES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An array that belongs at an offset of the block; it is asked for by one of the threads."""

    offset: int
    size_bytes: int
    read: Callable[[], npt.NDArray[Any]]


def fill(block: Block, parts: Sequence[Part]) -> None:
    """Copy every part to its place in the block; done when this returns.

    Args:
        parts: by rising offset, without overlap. What lies between two of them may be overwritten.
    """
    groups = list(_groups(parts))
    queue = _Queue(groups)
    lanes = min(MOST_LANES, os.cpu_count() or 1, max(1, len(groups)))
    with ThreadPoolExecutor(lanes, thread_name_prefix="onnxsd-upload") as pool:
        try:
            # `map`, not a loop over futures: one of those in a variable keeps its error, and the error this
            # frame with the block.
            list(pool.map(lambda _: _work(block, queue), range(lanes)))
        finally:
            queue.close()


class _Queue:
    """Groups for whichever thread is free next; none any more once one of them has failed."""

    def __init__(self, groups: Sequence[list[Part]]) -> None:
        self._groups = iter(groups)
        self._turn = threading.Lock()
        self._closed = False

    def next(self) -> list[Part] | None:
        with self._turn:
            return None if self._closed else next(self._groups, None)

    def close(self) -> None:
        self._closed = True


def _groups(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Neighbours that fit a buffer together; what is larger than one goes alone."""
    group: list[Part] = []
    for part in parts:
        if group and part.offset + part.size_bytes - group[0].offset > CHUNK_BYTES:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def _work(block: Block, queue: _Queue) -> None:
    """One thread: group after group until none is left."""
    try:
        with _lane(block.driver) as lane:
            while (group := queue.next()) is not None:
                lane.copy(block, group)
    except BaseException:
        queue.close()
        raise


@contextmanager
def _lane(driver: Driver) -> Iterator[_Lane]:
    with ExitStack() as given_back:
        pinned = driver.allocate_pinned(CHUNK_BYTES)
        given_back.callback(driver.free_pinned, pinned)
        stream = driver.stream()
        given_back.callback(driver.destroy_stream, stream)
        # Also after an error: the device may still be fetching from the buffer.
        given_back.callback(driver.wait, stream)
        yield _Lane(driver, pinned, stream)


class _Lane:
    """One pinned buffer and the stream that empties it."""

    def __init__(self, driver: Driver, pinned: int, stream: int) -> None:
        self._driver = driver
        self._pinned = pinned
        self._stream = stream
        self._buffer: Bytes = np.ctypeslib.as_array((ctypes.c_uint8 * CHUNK_BYTES).from_address(pinned))

    def copy(self, block: Block, group: list[Part]) -> None:
        """Copy the parts of a group."""
        start = group[0].offset
        if len(group) == 1 and group[0].size_bytes > CHUNK_BYTES:
            self._copy_large(block, start, _bytes_of(group[0]))
            return
        self._driver.wait(self._stream)
        for part in group:
            begin = part.offset - start
            self._buffer[begin : begin + part.size_bytes] = _bytes_of(part)
        end = group[-1].offset + group[-1].size_bytes
        self._send(block, start, end - start)

    def _copy_large(self, block: Block, start: int, content: Bytes) -> None:
        for begin in range(0, content.size, CHUNK_BYTES):
            piece = content[begin : begin + CHUNK_BYTES]
            self._driver.wait(self._stream)
            self._buffer[: piece.size] = piece
            self._send(block, start + begin, piece.size)

    def _send(self, block: Block, offset: int, size_bytes: int) -> None:
        self._driver.copy_to_device(block.address + offset, self._pinned, size_bytes, self._stream)


def _bytes_of(part: Part) -> Bytes:
    content = np.asarray(part.read(), order="C").reshape(-1).view(np.uint8)
    assert content.size == part.size_bytes
    return content
