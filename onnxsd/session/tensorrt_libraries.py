"""TensorRT's own libraries: what the provider asks for, where pip puts it, and its version."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

from onnxsd.errors import NotReadyError
from onnxsd.session import runtime

# Where pip's TensorRT puts its libraries; no loader looks there.
_PACKAGE = "tensorrt_libs"
_PROVIDERS = ("libonnxruntime_providers_tensorrt.so", "onnxruntime_providers_tensorrt.dll")
_NAME = re.compile(
    rb"lib(?:nvinfer|nvinfer_plugin|nvonnxparser)\.so\.\d+|nv(?:infer|infer_plugin|onnxparser)_\d+\.dll"
)
_MAIN = re.compile(r"libnvinfer\.so\.\d+|nvinfer_\d+\.dll")


def names() -> tuple[str, ...]:
    """TensorRT's libraries by the names that the installed provider asks the loader for, libnvinfer first."""
    folder = Path(runtime.load().__file__).parent / "capi"
    for provider in _PROVIDERS:
        if (folder / provider).is_file():
            return names_in((folder / provider).read_bytes())
    return ()


def names_in(provider: bytes) -> tuple[str, ...]:
    """The names of TensorRT's libraries in the provider's file."""
    found = sorted({name.decode() for name in _NAME.findall(provider)})
    return tuple(sorted(found, key=lambda name: not _MAIN.fullmatch(name)))


def is_one(text: str) -> bool:
    """Whether a text names one of TensorRT's libraries."""
    return _NAME.search(text.encode()) is not None


@functools.cache
def preload() -> str:
    """Load the libraries of pip's TensorRT, which the provider then finds; a line for each that fails."""
    folder = pip_folder()
    return "" if folder is None else load_from(folder, names())


def load_from(folder: Path, wanted: tuple[str, ...]) -> str:
    """Load those of the libraries that lie in a folder; a line for each that fails."""
    notes = []
    for path in (folder / name for name in wanted):
        if path.is_file():
            try:
                ctypes.CDLL(str(path))
            except OSError as error:
                notes.append(f"{error}\n")  # it names the file
    return "".join(notes)


def pip_folder() -> Path | None:
    """Where pip's TensorRT lies; None where it is not installed."""
    package = importlib.util.find_spec(_PACKAGE)
    places = list(package.submodule_search_locations or ()) if package else []
    return Path(places[0]) if places else None


def version() -> str:
    """The version of the TensorRT that the provider runs on, as its library says: `10.16.1.11`."""
    main = next((name for name in names() if _MAIN.fullmatch(name)), None)
    if main is None:
        raise NotReadyError(f"the TensorRT provider of {runtime.available()} names no libnvinfer")
    try:
        # Loaded before, by `preload` or by the provider; the loader gives the same one again.
        return version_of(ctypes.CDLL(main))
    except (OSError, AttributeError) as error:
        raise NotReadyError(f"{main} cannot be asked for TensorRT's version: {error}") from error


def version_of(library: Any) -> str:
    """What libnvinfer says of itself: 101601 is 10.16.1 (NV_TENSORRT_VERSION in NvInferVersion.h)."""
    number = int(library.getInferLibVersion())
    text = f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
    # The fourth number tells two builds of one version apart.
    return f"{text}.{int(library.getInferLibBuildVersion())}"
