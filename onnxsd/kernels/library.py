"""The native library that brings onnxsd's operators to ONNX Runtime, as Python sees it.

It is no Python module: ONNX Runtime loads it too, and the loader gives both the same one.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from onnxsd.errors import NotReadyError
from onnxsd.machine import built_from
from onnxsd.machine.own_kernels import library_file

PATH = Path(__file__).parent / library_file(sys.platform)
_AGAIN = "install onnxsd again, so that its native library is built anew"


class OperatorLibrary:
    """One native library.

    api_version: of ONNX Runtime's C API, which it needs at least; 24 is ONNX Runtime 1.24. functions: the
    kernels that it launches, by the names that they have in a cubin.
    """

    def __init__(self, path: Path = PATH) -> None:
        """Load it; an error where it was not built, is of other sources, or lacks what is called here."""
        if not path.is_file():
            raise NotReadyError(
                "onnxsd's native library was not built when onnxsd was installed (was there a C++ compiler?)",
                hint="install a C++ compiler, then onnxsd again; ONNXSD_REQUIRE_NATIVE=1 shows what fails",
            )
        _require_our_own(path)
        self.path = path
        try:
            self._library = _declared(ctypes.CDLL(str(path)))
        except (OSError, AttributeError) as error:
            raise NotReadyError(f"onnxsd's native library cannot be loaded: {error}", hint=_AGAIN) from error
        self.api_version = int(self._library.onnxsd_api_version())
        names = map(self._library.onnxsd_function, itertools.count())
        self.functions = tuple(name.decode() for name in itertools.takewhile(bool, names))

    def provide(self, slot: int, provider: str, launch: int, functions: Iterable[int]) -> None:
        """Give it the kernels of one device, in the order of `functions`.

        Args:
            slot: the device's number, which the session's configuration names.
            provider: ONNX Runtime's name of the execution provider whose nodes launch them.
            launch: the address of `cuLaunchKernelEx`.
            functions: CUDA's functions, which must stay loaded as long as the process lives.
        """
        given = tuple(functions)
        if len(given) != len(self.functions):
            raise ValueError(f"{len(self.functions)} kernels are launched, and {len(given)} were given")
        array = (ctypes.c_void_p * len(given))(*given)
        if self._library.onnxsd_provide(slot, provider.encode(), launch, array):
            raise NotReadyError(
                f"onnxsd's native library takes no kernels for {provider} number {slot}",
                hint="take a GPU whose number is below 64; CUDA_VISIBLE_DEVICES can renumber them",
            )


def _require_our_own(path: Path) -> None:
    """Refuse a library that gives the kernels other arguments than they take."""
    try:
        fits = built_from.fits(path, PATH.parents[1])
    except OSError as error:
        raise NotReadyError(
            f"onnxsd's native library or its sources cannot be read: {error}", hint=_AGAIN
        ) from error
    if not fits:
        raise NotReadyError(
            "onnxsd's native library was built from other sources than those that are here", hint=_AGAIN
        )


def _declared(library: Any) -> Any:
    """The library with the types of its calls."""
    library.onnxsd_api_version.restype = ctypes.c_int32
    library.onnxsd_api_version.argtypes = ()
    library.onnxsd_function.restype = ctypes.c_char_p
    library.onnxsd_function.argtypes = (ctypes.c_int32,)
    library.onnxsd_provide.restype = ctypes.c_int32
    library.onnxsd_provide.argtypes = (
        ctypes.c_int32,
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_void_p),
    )
    return library
