"""One range of device memory that is ours, and tensors as views of it that ONNX Runtime takes for its own."""

from __future__ import annotations

import ctypes
import functools
import sys
import weakref
from math import prod
from typing import Any

import numpy as np

from onnxsd.session import runtime
from onnxsd.session.driver import Driver

# ONNX Runtime reads no DLPack code of bool (6, since DLPack 1.0): bytes are given, and said to mean bool.
_KINDS = {"i": 0, "u": 1, "f": 2, "b": 1}
_CUDA = 2


class Block:
    """Device memory of one size; it is freed when neither it nor a view of it is left, or by `close`."""

    def __init__(self, driver: Driver, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.driver = driver
        self.address = driver.allocate(max(size_bytes, 1))
        self._free = weakref.finalize(self, driver.free, self.address)
        # At the process's end the driver takes everything back by itself, and in the right order.
        self._free.atexit = False

    def close(self) -> None:
        """Give the memory back now; no view may be used afterwards."""
        self._free()

    def view(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """An `OrtValue` over the bytes from `offset` on, which ONNX Runtime takes as owned by its user."""
        assert offset + prod(shape) * dtype.itemsize <= max(self.size_bytes, 1)
        capsule = dlpack_capsule(self.address + offset, shape, dtype, self.driver.ordinal)
        module = runtime.load()
        # The second argument: whether uint8 means bool, which DLPack before 1.0 has no word for. The class
        # itself, since up to 1.25 the one that Python shows has no such method.
        native = module.capi.onnxruntime_pybind11_state.OrtValue
        return module.OrtValue(native.from_dlpack(capsule, dtype == np.bool_))


class _Tensor(ctypes.Structure):
    """DLPack's DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    """DLPack's DLManagedTensor."""

    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


@functools.cache
def _c_library() -> Any:
    """C's `malloc` and `free`, of one library."""
    c = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    return c


def dlpack_capsule(address: int, shape: tuple[int, ...], dtype: np.dtype[Any], ordinal: int) -> Any:
    """A DLPack capsule of a contiguous CUDA tensor; the memory stays the caller's.

    The structure lies in C's heap with C's own `free` as its deleter: whoever takes the capsule may drop it
    at any time and on any thread, even when Python has gone. https://dmlc.github.io/dlpack/latest/c_api.html
    """
    c = _c_library()
    size = ctypes.sizeof(_Managed)
    place = c.malloc(size + 8 * max(len(shape), 1))
    if not place:
        raise MemoryError
    (ctypes.c_int64 * len(shape)).from_address(place + size)[:] = list(shape)
    managed = _Managed.from_address(place)
    managed.context = None
    managed.deleter = ctypes.cast(c.free, ctypes.c_void_p)
    managed.tensor = _Tensor(
        data=address,
        device_type=_CUDA,
        device_id=ordinal,
        ndim=len(shape),
        code=_KINDS[dtype.kind],
        bits=dtype.itemsize * 8,
        lanes=1,
        shape=place + size,
        strides=None,
        byte_offset=0,
    )
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(place, b"dltensor", None)
