"""Memory for a kernel: a page that may not be touched beside it, and poison where the kernel writes."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Kernels take 16 bytes at a time, and may expect nothing more of a pointer.
ALIGNMENT_BYTES = 16
# So far beside a buffer nothing may be touched: more than any row is long.
GUARD_BYTES = 16 * mmap.PAGESIZE
# A float16 or float32 number of such bytes is none, so what is read from beside a buffer shows, too.
POISON = 0xFF
_PROT_NONE = 0

_begins_at_a_page = False


@contextmanager
def beginning_at_a_page() -> Iterator[None]:
    """Buffers that are made meanwhile begin at a page's beginning; otherwise they end at a page's end.

    There a kernel that touches what lies beyond is stopped; at the other side a write is seen afterwards.
    """
    global _begins_at_a_page
    before, _begins_at_a_page = _begins_at_a_page, True
    try:
        yield
    finally:
        _begins_at_a_page = before


class Buffer:
    """An array between two guards; an input must stay as it is, an output is poisoned."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, content: Array | None = None) -> None:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        aligned = -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        begin = 0 if _begins_at_a_page else pages - aligned
        self._pages = _between_guards(pages)
        self._pages[:] = POISON
        self._around = self._pages[:begin], self._pages[begin + size :]
        self.array: Array = self._pages[begin : begin + size].view(dtype).reshape(shape)
        self._content = content
        if content is not None:
            self.array[...] = content

    @property
    def address(self) -> int:
        """Where the array begins."""
        return int(self.array.ctypes.data)

    def beside(self, address: int) -> str:
        """Where an address is that lies in the array's guards; nothing where it does not."""
        if 0 < self.address - address <= GUARD_BYTES:
            return f"{self.address - address} bytes before a buffer of shape {self.array.shape}"
        behind = address - self.address - self.array.nbytes
        if 0 <= behind < GUARD_BYTES:
            return f"{behind} bytes behind a buffer of shape {self.array.shape}"
        return ""

    def check(self) -> None:
        """Fail where a kernel wrote beside the array, or into an input."""
        for name, around in zip(("before", "behind"), self._around, strict=True):
            assert (around == POISON).all(), f"a kernel wrote {name} a buffer of shape {self.array.shape}"
        if self._content is not None:
            same = self.array.tobytes() == np.ascontiguousarray(self._content).tobytes()
            assert same, f"a kernel wrote into its input of shape {self.array.shape}"


def _between_guards(size: int) -> npt.NDArray[np.uint8]:
    """So many bytes, before and behind which nothing may be touched; `size` is a multiple of a page's."""
    pages = np.frombuffer(mmap.mmap(-1, size + 2 * GUARD_BYTES), np.uint8)
    library = ctypes.CDLL(None, use_errno=True)
    for guard in (pages[:GUARD_BYTES], pages[GUARD_BYTES + size :]):
        address, length = ctypes.c_void_p(guard.ctypes.data), ctypes.c_size_t(GUARD_BYTES)
        if library.mprotect(address, length, _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    return pages[GUARD_BYTES : GUARD_BYTES + size]


def given(array: Array) -> Buffer:
    """A kernel's input."""
    return Buffer(array.shape, array.dtype, array)


def wanted(shape: tuple[int, ...], dtype: Any = np.float16) -> Buffer:
    """A kernel's output, each number of which must be written."""
    return Buffer(shape, dtype)
