"""A libcuda whose device is host memory: it counts what is alive, copies late as a device may, and fails."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OUT_OF_MEMORY, INVALID_CONTEXT, INVALID_VALUE, NO_BINARY, NOT_FOUND = 2, 201, 1, 209, 500
NAMES = {
    INVALID_VALUE: b"CUDA_ERROR_INVALID_VALUE",
    OUT_OF_MEMORY: b"CUDA_ERROR_OUT_OF_MEMORY",
    100: b"CUDA_ERROR_NO_DEVICE",
    101: b"CUDA_ERROR_INVALID_DEVICE",
    INVALID_CONTEXT: b"CUDA_ERROR_INVALID_CONTEXT",
    NO_BINARY: b"CUDA_ERROR_NO_BINARY_FOR_GPU",
    NOT_FOUND: b"CUDA_ERROR_NOT_FOUND",
    700: b"CUDA_ERROR_ILLEGAL_ADDRESS",
}
# How the fake's images begin.
CUBIN = b"fake cubin\n"
# What a device's memory is aligned to.
ALIGNMENT = 256
_WITHOUT_CONTEXT = {
    "cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuGetErrorName",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copy that a stream has still to make."""

    target: int
    source: int
    size_bytes: int


class FakeCuda:
    """Give it to `Driver`. Every call is looked up by its name in libcuda.

    device, pinned: what is alive, by address. allocated: every size of device memory that was given, in
    order. streams: what each has still to do. modules: the images that are loaded, by module; an image of the
    fake is `CUBIN` and the names of its functions, each in a line. functions: their names, by the address
    that was given; `loaded` are those in the device's memory. absent: calls that this driver does not have.
    misused: what a device would have paid for with wrong bytes or a crash.
    """

    def __init__(self, total_bytes: int = 1 << 30, devices: int = 1) -> None:
        self.total_bytes = total_bytes
        self.devices = devices
        self.device: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.allocated: list[int] = []
        self.streams: dict[int, list[Copy]] = {}
        self.misused: list[str] = []
        self.absent: set[str] = set()
        self.modules: dict[int, bytes] = {}
        self.functions: dict[int, str] = {}
        self.loaded: set[int] = set()
        # Called by native code alone: an address is all that Python wants of it.
        self.cuLaunchKernelEx = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: INVALID_VALUE)
        self.calls: dict[str, int] = {}
        self._current: dict[int, list[int]] = {}
        self._left: list[Copy] = []
        self._failures: dict[str, tuple[int, int]] = {}
        self._named = 0
        self._lock = threading.RLock()
        self._does: dict[str, Callable[..., int]] = {
            "cuInit": lambda flags: 0,
            "cuDeviceGet": self._device_get,
            "cuDevicePrimaryCtxRetain": self._retain,
            "cuCtxPushCurrent_v2": self._push,
            "cuCtxPopCurrent_v2": self._pop,
            "cuGetErrorName": self._error_name,
            "cuMemAlloc_v2": self._allocate,
            "cuMemFree_v2": lambda address: self._free(self.device, address),
            "cuMemGetInfo_v2": self._memory,
            "cuMemHostAlloc": self._pin,
            "cuMemFreeHost": self._unpin,
            "cuStreamCreate": self._create_stream,
            "cuStreamDestroy_v2": self._destroy_stream,
            "cuStreamSynchronize": self._synchronize,
            "cuMemcpyHtoDAsync_v2": self._copy,
            "cuModuleLoadData": self._load_module,
            "cuModuleUnload": self._unload_module,
            "cuModuleGetFunction": self._get_function,
            "cuFuncLoad": self._load_function,
        }

    def fail(self, name: str, status: int, *, after: int = 0) -> None:
        """Let a call give this status from now on, once it has worked `after` times."""
        self._failures[name] = (status, self.calls.get(name, 0) + after)

    def heal(self) -> None:
        """Let every call work again."""
        self._failures.clear()

    @property
    def used_bytes(self) -> int:
        """Device memory that is alive."""
        return sum(size for _, size in self.device.values())

    @property
    def nothing_on_the_host(self) -> bool:
        """Whether every pinned buffer and stream was given back, and none misused."""
        return not (self.pinned or self.streams or self.misused)

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("cu") or name in self.absent:
            raise AttributeError(name)
        return lambda *arguments: self._call(name, *arguments)

    def _call(self, name: str, *arguments: Any) -> int:
        with self._lock:
            count = self.calls[name] = self.calls.get(name, 0) + 1
            status, after = self._failures.get(name, (0, 0))
            if status and count > after:
                return status
            if name not in _WITHOUT_CONTEXT and not self._current.get(threading.get_ident()):
                return INVALID_CONTEXT
            return self._does[name](*arguments)

    def _device_get(self, device: Any, ordinal: int) -> int:
        device._obj.value = ordinal
        return 0 if ordinal < self.devices else 101

    def _retain(self, context: Any, device: Any) -> int:
        context._obj.value = 0xC0DA + device.value
        return 0

    def _push(self, context: Any) -> int:
        if not context.value:
            self.misused.append("no context was made current")
        self._current.setdefault(threading.get_ident(), []).append(context.value or 0)
        return 0

    def _pop(self, context: Any) -> int:
        context._obj.value = self._current[threading.get_ident()].pop()
        return 0

    def _error_name(self, status: int, text: Any) -> int:
        if status not in NAMES:
            return INVALID_VALUE
        text._obj.value = NAMES[status]
        return 0

    def _allocate(self, address: Any, size: Any) -> int:
        if self.used_bytes + size.value > self.total_bytes:
            return OUT_OF_MEMORY
        self.allocated.append(size.value)
        address._obj.value = _take(self.device, size.value)
        return 0

    def _memory(self, free: Any, total: Any) -> int:
        free._obj.value, total._obj.value = self.total_bytes - self.used_bytes, self.total_bytes
        return 0

    def _pin(self, address: Any, size: Any, flags: Any) -> int:
        address._obj.value = _take(self.pinned, size.value)
        return 0

    def _unpin(self, address: Any) -> int:
        waiting = [copy for copies in self.streams.values() for copy in copies] + self._left
        if any(_lies_in(self.pinned, address.value, copy.source) for copy in waiting):
            self.misused.append("pinned memory was given back while a copy reads it")
        return self._free(self.pinned, address)

    def _free(self, alive: dict[int, Any], address: Any) -> int:
        return 0 if alive.pop(address.value, None) else INVALID_VALUE

    def _create_stream(self, stream: Any, flags: Any) -> int:
        self._named += 1
        stream._obj.value = self._named
        self.streams[self._named] = []
        return 0

    def _destroy_stream(self, stream: Any) -> int:
        # The device goes on with what the stream was given.
        self._left += self.streams.pop(stream.value)
        return 0

    def _copy(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        copy = Copy(target=target.value, source=source.value, size_bytes=size.value)
        for alive, begin in ((self.device, copy.target), (self.pinned, copy.source)):
            last = begin + max(copy.size_bytes, 1) - 1
            if not any(_lies_in(alive, one, begin) and _lies_in(alive, one, last) for one in alive):
                self.misused.append(f"a copy of {copy.size_bytes} bytes leaves its memory")
                return INVALID_VALUE
        self.streams[stream.value].append(copy)
        return 0

    def _synchronize(self, stream: Any) -> int:
        for copy in self.streams[stream.value]:
            ctypes.memmove(copy.target, copy.source, copy.size_bytes)
        self.streams[stream.value].clear()
        return 0

    def _load_module(self, module: Any, image: Any) -> int:
        if not image.value.startswith(CUBIN):
            return NO_BINARY
        self._named += 1
        module._obj.value = self._named
        self.modules[self._named] = image.value
        return 0

    def _unload_module(self, module: Any) -> int:
        return 0 if self.modules.pop(module.value, None) else INVALID_VALUE

    def _get_function(self, function: Any, module: Any, name: bytes) -> int:
        if name not in self.modules[module.value].removeprefix(CUBIN).split():
            return NOT_FOUND
        self._named += 1
        function._obj.value = self._named
        self.functions[self._named] = name.decode()
        return 0

    def _load_function(self, function: Any) -> int:
        self.loaded.add(function.value)
        return 0


def _take(alive: dict[int, Any], size_bytes: int) -> int:
    """The address of new memory, which is not zero to begin with."""
    memory = (ctypes.c_uint8 * (size_bytes + ALIGNMENT))()
    ctypes.memset(memory, 0xAB, min(ctypes.sizeof(memory), 1 << 20))
    address = -(-ctypes.addressof(memory) // ALIGNMENT) * ALIGNMENT
    alive[address] = (memory, size_bytes)
    return address


def _lies_in(alive: dict[int, Any], start: int, address: int) -> bool:
    return start in alive and start <= address < start + alive[start][1]
