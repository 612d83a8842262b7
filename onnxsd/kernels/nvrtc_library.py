"""Which NVRTC is used: the one that is loaded already, the loader's, or that of pip's packages."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from onnxsd.errors import NotReadyError
from onnxsd.kernels.nvrtc import Nvrtc
from onnxsd.machine.own_kernels import NVRTC_MAJORS

_WINDOWS = sys.platform == "win32"
_PATH_LENGTH = 32768


def find(majors: Iterable[int], path: Iterable[str]) -> Nvrtc:
    """The first NVRTC that loads: by its name, as CUDA's other libraries do, else from pip's packages.

    Args:
        majors: CUDA's majors in the order in which they are tried.
        path: folders that hold Python packages, as `sys.path`.
    """
    tried, folders = tuple(majors), tuple(path)
    refused: list[str] = []
    for candidate in (one for major in tried for one in _candidates(major, folders)):
        library = _load(candidate)
        if not isinstance(library, str):
            return Nvrtc(library)
        if Path(candidate).name != candidate:  # a name alone is mostly not found
            refused.append(library)
    if refused:
        raise NotReadyError(
            f"NVRTC cannot be loaded: {refused[0]}", hint=_install(tried[0], "--force-reinstall ")
        )
    names = " or ".join(library_name(major) for major in tried)
    raise NotReadyError(
        f"NVRTC was not found: neither the loader nor pip's packages have {names}", hint=_install(tried[0])
    )


def majors_for(cuda: str | None) -> tuple[int, ...]:
    """CUDA's majors to look for, that of ONNX Runtime's build (`"13.0"`) first."""
    own = () if cuda is None else (int(cuda.partition(".")[0]),)
    return tuple(dict.fromkeys((*own, *NVRTC_MAJORS)))


def library_name(major: int) -> str:
    """The name by which the loader knows NVRTC."""
    return f"nvrtc64_{major}0_0.dll" if _WINDOWS else f"libnvrtc.so.{major}"


def _candidates(major: int, path: Iterable[str]) -> Iterator[str]:
    """What the loader is asked for, in order: what is loaded already is found by its name as well."""
    name = library_name(major)
    yield name
    if _WINDOWS and (found := ctypes.util.find_library(name)):  # a bare name is not looked up on PATH there
        yield found
    inside = ("bin", "bin/x86_64") if _WINDOWS else ("lib",)
    for folder in path:
        # nvidia/cu13/lib, and nvidia/cuda_nvrtc/lib up to CUDA 12.
        places = (found for part in inside for found in Path(folder, "nvidia").glob(f"*/{part}/{name}"))
        yield from map(str, sorted(places))


def _load(name: str) -> Any:
    """A library, or why it does not load."""
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        return str(error)
    if not hasattr(library, "nvrtcVersion"):
        return f"{name} is a library, but not NVRTC"
    _load_builtins(library)
    return library


def _load_builtins(library: Any) -> None:
    """Load what NVRTC asks the loader for by its name when it compiles, from beside it.

    pip's packages up to CUDA 13.0 do not tell the loader to look there. What does not load is named by the
    compilation that needs it.
    """
    folder = _file_of(library).resolve().parent
    for path in sorted(folder.glob("nvrtc-builtins*.dll" if _WINDOWS else "libnvrtc-builtins.so.*")):
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(path))


def _file_of(library: Any) -> Path:
    """The file that a library was loaded from, by whomever."""
    if sys.platform == "win32":
        name = ctypes.create_unicode_buffer(_PATH_LENGTH)
        ctypes.windll.kernel32.GetModuleFileNameW(ctypes.c_void_p(library._handle), name, _PATH_LENGTH)
        return Path(name.value)
    found = _Symbol()
    address = ctypes.cast(library.nvrtcVersion, ctypes.c_void_p)
    ctypes.CDLL(None).dladdr(address, ctypes.byref(found))
    return Path(os.fsdecode(found.file or library._name))


class _Symbol(ctypes.Structure):
    """dladdr's Dl_info."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _install(major: int, options: str = "") -> str:
    package = "nvidia-cuda-nvrtc" if major >= 13 else f"nvidia-cuda-nvrtc-cu{major}"
    return f"pip install {options}'{package}=={major}.*'"
