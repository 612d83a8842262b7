"""NVIDIA's driver, as far as memory and kernels go: what ONNX Runtime's Python interface has no words for.

ONNX Runtime takes device tensors from an arena that never gives memory back, and uploads from pageable
memory. The driver's own calls allocate exactly, free for real, say how much is free, and copy from pinned
memory. `libcuda` is part of the driver, so it is there wherever CUDA runs, and its context is the one that
ONNX Runtime's CUDA provider works in (the device's primary context).

Source: CUDA Driver API, sections Memory Management, Primary Context Management, Stream Management, Module
Management, Execution Control.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

from onnxsd.errors import DeviceMemoryError, NotReadyError, ProviderFallbackError, ResourceError
from onnxsd.session.failures import out_of_memory
from onnxsd.session.settings import Provider

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_OUT_OF_MEMORY = 2
_NON_BLOCKING = 1
# Pinned memory that every context may use.
_PORTABLE = 1


class Driver:
    """One device's primary context, current for as long as a call takes."""

    def __init__(self, library: Any, ordinal: int) -> None:
        """`library` is libcuda; `ordinal` counts the devices that CUDA_VISIBLE_DEVICES leaves."""
        self._library = library
        self.ordinal = ordinal
        self._call("cuInit", 0)
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), ordinal)
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._context = context

    def allocate(self, size_bytes: int) -> int:
        """The address of new device memory, aligned to 256 bytes at least."""
        address = ctypes.c_uint64()
        size = ctypes.c_size_t(size_bytes)
        self._call("cuMemAlloc_v2", ctypes.byref(address), size, doing=f"hold {_mebibytes(size_bytes)}")
        return address.value

    def free(self, address: int) -> None:
        """Give device memory back; waits for work that uses it."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def memory(self) -> tuple[int, int]:
        """(free, all) bytes of the device, over all processes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate_pinned(self, size_bytes: int) -> int:
        """The address of host memory that the device copies from without the host's help."""
        address = ctypes.c_void_p()
        size = ctypes.c_size_t(size_bytes)
        try:
            self._call("cuMemHostAlloc", ctypes.byref(address), size, ctypes.c_uint(_PORTABLE))
        except DeviceMemoryError as error:
            raise ResourceError(
                f"cannot pin {_mebibytes(size_bytes)} of the machine's own memory for uploads",
                hint="end other programs that hold memory, or raise the limit of locked memory (`ulimit -l`)",
            ) from error
        return int(address.value or 0)

    def free_pinned(self, address: int) -> None:
        """Give pinned memory back."""
        self._call("cuMemFreeHost", ctypes.c_void_p(address))

    def stream(self) -> int:
        """A new stream, which waits for no other."""
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(_NON_BLOCKING))
        return int(stream.value or 0)

    def destroy_stream(self, stream: int) -> None:
        """Give a stream back."""
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def copy_to_device(self, address: int, source: int, size_bytes: int, stream: int) -> None:
        """Begin a copy from pinned memory; `wait` on the stream before the source changes."""
        self._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(address),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size_bytes),
            ctypes.c_void_p(stream),
        )

    def wait(self, stream: int) -> None:
        """Return when everything given to a stream is done."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def load_module(self, image: bytes) -> int:
        """The module of a cubin, which is in the device's memory from now on."""
        module = ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(image), doing="load kernels")
        return int(module.value or 0)

    def unload_module(self, module: int) -> None:
        """Give a module back; none of its functions may be used afterwards."""
        self._call("cuModuleUnload", ctypes.c_void_p(module))

    def function(self, module: int, name: str) -> int:
        """A kernel of a module, ready to be launched."""
        function = ctypes.c_void_p()
        self._call("cuModuleGetFunction", ctypes.byref(function), ctypes.c_void_p(module), name.encode())
        # Since CUDA 12.4. Otherwise its first launch may load it, which can wait for the whole device,
        # and that while another thread captures a graph (CUDA Programming Guide, Lazy Loading).
        if hasattr(self._library, "cuFuncLoad"):
            self._call("cuFuncLoad", function)
        return int(function.value or 0)

    def launcher(self) -> int:
        """The address of `cuLaunchKernelEx`, for native code that launches kernels by itself."""
        try:
            return ctypes.cast(self._library.cuLaunchKernelEx, ctypes.c_void_p).value or 0
        except AttributeError as error:
            raise NotReadyError(
                "the NVIDIA driver has no cuLaunchKernelEx, which came with CUDA 11.8",
                hint="run `onnxsd doctor`, which names the driver to install",
            ) from error

    def _call(self, name: str, *arguments: Any, doing: str | None = None) -> None:
        status = self._status(name, *arguments)
        if status == _OUT_OF_MEMORY:
            raise out_of_memory(doing=doing or name, provider=Provider.CUDA)
        if status:
            raise NotReadyError(
                f"the NVIDIA driver's {name} failed: {self._name_of(status)}",
                hint="run `onnxsd doctor --for generate`",
            )

    def _status(self, name: str, *arguments: Any) -> int:
        """Call with this context current, and the thread's own afterwards: it may be another device's."""
        if not hasattr(self, "_context"):
            return int(getattr(self._library, name)(*arguments))
        if status := self._library.cuCtxPushCurrent_v2(self._context):
            return int(status)
        try:
            return int(getattr(self._library, name)(*arguments))
        finally:
            self._library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))

    def _name_of(self, status: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorName(status, ctypes.byref(text))
        return text.value.decode() if text.value else f"error {status}"


@functools.cache
def driver(ordinal: int) -> Driver:
    """The driver of one device, loaded with the first call."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise ProviderFallbackError(
            f"asked for cuda, but the NVIDIA driver's library cannot be loaded: {error}",
            hint="run `onnxsd doctor --for generate` to see why and what to install",
        ) from error
    return Driver(library, ordinal)


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"
