"""The same launches on a real GPU: each buffer in memory of its own size, which a memory checker watches."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from emulator.buffers import Buffer
from emulator.launching import Argument, LaunchConfig, Order
from onnxsd.kernels import loaded
from onnxsd.kernels.cubin_cache import CubinCache, cache_folder
from onnxsd.kernels.nvrtc_library import find, majors_for
from onnxsd.session import gpus, runtime, start_cuda
from onnxsd.session.driver import LIBRARY, driver

_MOST_THREADS = 0  # CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK


class RealGpu:
    """Takes the place of an `Emulator`: launches the package's kernels on the first GPU."""

    def __init__(self) -> None:
        start_cuda(0)
        visible = gpus.visible_gpus()
        assert visible, "there is no GPU"
        nvrtc = find(majors_for(runtime.available().cuda), sys.path)
        self._cubin = loaded.cubin_for(visible[0], nvrtc, CubinCache(cache_folder()))
        self._module = driver(0).load_module(self._cubin.content)
        self._launch = ctypes.CFUNCTYPE(ctypes.c_int, *(ctypes.c_void_p,) * 4)(driver(0).launcher())
        self._cuda = ctypes.CDLL(LIBRARY)
        context = ctypes.c_void_p()
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(context), ctypes.c_int(0))
        self._do("cuCtxSetCurrent", context)

    def largest_block(self, name: str) -> int:
        """The most threads that a block of a kernel may have."""
        most = ctypes.c_int()
        function = ctypes.c_void_p(driver(0).function(self._module, name))
        self._do("cuFuncGetAttribute", ctypes.byref(most), ctypes.c_int(_MOST_THREADS), function)
        return most.value

    @contextmanager
    def running(
        self, order: Order = Order.FORWARD, *, seed: int = 0, approximation: int = 0
    ) -> Iterator[None]:
        """A GPU chooses the order by itself, and its instructions are what they are."""
        yield

    def launch(self, name: str, grid: tuple[int, ...], block: int, *arguments: Argument) -> None:
        """Run a kernel on copies of its buffers, and bring them back."""
        places = {id(one): self._upload(one) for one in arguments if isinstance(one, Buffer)}
        values = [_value(one, places) for one in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        config = LaunchConfig(grid=(*grid, 1, 1)[:3], block=(block, 1, 1))
        function = driver(0).function(self._module, name)
        status = self._launch(ctypes.addressof(config), function, ctypes.addressof(pointers), None)
        assert status == 0, f"launching {name} gave {status}"
        self._do("cuCtxSynchronize")
        for one in arguments:
            if isinstance(one, Buffer):
                self._bring_back(one, places[id(one)])

    def _upload(self, buffer: Buffer) -> ctypes.c_uint64:
        address, content = ctypes.c_uint64(), np.ascontiguousarray(buffer.array)
        self._do("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(content.nbytes))
        here = ctypes.c_void_p(content.ctypes.data)
        self._do("cuMemcpyHtoD_v2", address, here, ctypes.c_size_t(content.nbytes))
        return address

    def _bring_back(self, buffer: Buffer, address: ctypes.c_uint64) -> None:
        content = np.empty(buffer.array.shape, buffer.array.dtype)
        here = ctypes.c_void_p(content.ctypes.data)
        self._do("cuMemcpyDtoH_v2", here, address, ctypes.c_size_t(content.nbytes))
        self._do("cuMemFree_v2", address)
        buffer.array[...] = content
        buffer.check()

    def _do(self, name: str, *arguments: object) -> None:
        status = getattr(self._cuda, name)(*arguments)
        assert status == 0, f"{name} gave {status}"


def _value(
    argument: Argument, places: dict[int, ctypes.c_uint64]
) -> ctypes.c_uint64 | ctypes.c_int | ctypes.c_float | ctypes.Structure:
    if isinstance(argument, ctypes.Structure):
        return argument
    if argument is None:
        return ctypes.c_uint64(0)
    if isinstance(argument, Buffer):
        return places[id(argument)]
    return ctypes.c_int(argument) if isinstance(argument, int) else ctypes.c_float(argument)
