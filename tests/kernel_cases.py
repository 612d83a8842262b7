"""What tests of own kernels need: NVRTC and the native library of this environment, and a fake NVRTC."""

# ruff: noqa: N802  (NVRTC's own names)
from __future__ import annotations

import ctypes
import platform
import shutil
import sys
from typing import Any

import pytest

from onnxsd.errors import NotReadyError
from onnxsd.kernels import library
from onnxsd.kernels.library import OperatorLibrary
from onnxsd.kernels.nvrtc import Nvrtc
from onnxsd.kernels.nvrtc_library import find, majors_for

# Where the test environment has NVRTC's package.
INSTALLED = sys.platform == "linux" and platform.machine() == "x86_64"


def real_nvrtc() -> Nvrtc:
    """An NVRTC that compiles; a test that needs one is skipped only where the environment cannot have it."""
    try:
        return find(majors_for(None), sys.path)
    except NotReadyError as error:
        if INSTALLED:
            raise
        pytest.skip(str(error))


def native_library() -> OperatorLibrary:
    """The library that was built from `native/`; a test that needs it is skipped only where none can be."""
    compiler = next(filter(shutil.which, ("c++", "g++", "clang++", "cl")), None)
    if not library.PATH.is_file() and (compiler is None or sys.platform == "darwin"):
        pytest.skip("the native library was not built: there is no compiler here, or no CUDA")
    return OperatorLibrary(library.PATH)


class Launches:
    """A `cuLaunchKernelEx` that launches nothing: it notes for which functions, and gives a status."""

    def __init__(self, status: int = 0) -> None:
        self.functions: list[int] = []
        self.status = status
        pointer = ctypes.c_void_p
        kind = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer, ctypes.POINTER(pointer), pointer)
        self._call = kind(self._launch)
        self.address = ctypes.cast(self._call, pointer).value or 0

    def saw(self, function: int, arguments: Any) -> None:
        """Called at each launch; `arguments` are addresses of a kernel's arguments."""

    def _launch(self, config: Any, function: int, arguments: Any, extra: Any) -> int:
        self.functions.append(function)
        self.saw(function, arguments)
        return self.status


class FakeNvrtc:
    """A libnvrtc of any version; `status` is what compiling gives, `log` what it says."""

    def __init__(
        self,
        version: tuple[int, int] = (13, 5),
        architectures: tuple[int, ...] = (75, 80, 90, 120),
        status: int = 0,
        log: str = "",
        cubin: bytes = b"cu\0bi",
    ) -> None:
        self.version, self.architectures, self.status, self.log = version, architectures, status, log
        self.cubin = cubin
        self.alive = self.compiled = 0
        self.options: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        does = getattr(type(self), f"_{name}", None)
        if does is None:
            raise AttributeError(name)
        return lambda *arguments: does(self, *arguments)

    def _nvrtcVersion(self, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = self.version
        return 0

    def _nvrtcGetNumSupportedArchs(self, count: Any) -> int:
        count._obj.value = len(self.architectures)
        return 0

    def _nvrtcGetSupportedArchs(self, found: Any) -> int:
        found[:] = self.architectures
        return 0

    def _nvrtcCreateProgram(self, program: Any, *_: Any) -> int:
        program._obj.value = 1
        self.alive += 1
        return 0

    def _nvrtcDestroyProgram(self, _: Any) -> int:
        self.alive -= 1
        return 0

    def _nvrtcCompileProgram(self, _: Any, count: int, words: Any) -> int:
        self.options = list(words[:count])
        self.compiled += 1
        return self.status

    def _nvrtcGetProgramLogSize(self, _: Any, size: Any) -> int:
        size._obj.value = len(self.log) + 1
        return 0

    def _nvrtcGetProgramLog(self, _: Any, to: Any) -> int:
        to.value = self.log.encode()
        return 0

    def _nvrtcGetCUBINSize(self, _: Any, size: Any) -> int:
        size._obj.value = len(self.cubin)
        return 0

    def _nvrtcGetCUBIN(self, _: Any, to: Any) -> int:
        to[: len(self.cubin)] = self.cubin
        return 0

    def _nvrtcGetErrorString(self, status: int) -> bytes:
        return {5: b"NVRTC_ERROR_INVALID_OPTION", 6: b"NVRTC_ERROR_COMPILATION"}[status]
