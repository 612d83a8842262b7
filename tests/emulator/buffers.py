"""Memory for a kernel: between guards that show what is written beside it, and poisoned where it writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# The strictest alignment that kernels expect of a pointer, and what ONNX Runtime's arenas give.
ALIGNMENT_BYTES = 256
GUARD_BYTES = 4096
# A float16 or float32 number of such bytes is none, so what is read from beside a buffer shows, too.
POISON = 0xFF


class Buffer:
    """An array between two guards; an input must stay as it is, an output is poisoned."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, content: Array | None = None) -> None:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._bytes = np.full(size + 2 * GUARD_BYTES + ALIGNMENT_BYTES, POISON, np.uint8)
        # A guard's bytes and then as many as the alignment wants.
        self._begin = GUARD_BYTES + -(self._bytes.ctypes.data + GUARD_BYTES) % ALIGNMENT_BYTES
        self._end = self._begin + size
        self.array: Array = self._bytes[self._begin : self._end].view(dtype).reshape(shape)
        self._content = content
        if content is not None:
            self.array[...] = content

    @property
    def address(self) -> int:
        """Where the array begins."""
        return int(self.array.ctypes.data)

    def check(self) -> None:
        """Fail where a kernel wrote beside the array, or into an input."""
        for name, guard in (("before", self._bytes[: self._begin]), ("behind", self._bytes[self._end :])):
            assert (guard == POISON).all(), f"a kernel wrote {name} a buffer of shape {self.array.shape}"
        if self._content is not None:
            same = self.array.tobytes() == np.ascontiguousarray(self._content).tobytes()
            assert same, f"a kernel wrote into its input of shape {self.array.shape}"


def given(array: Array) -> Buffer:
    """A kernel's input."""
    return Buffer(array.shape, array.dtype, array)


def wanted(shape: tuple[int, ...], dtype: Any = np.float16) -> Buffer:
    """A kernel's output, each number of which must be written."""
    return Buffer(shape, dtype)
