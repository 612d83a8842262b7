"""Where CUDA, cuDNN, TensorRT and the driver's library lie: every place, none of them loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsd.machine import ld_cache
from onnxsd.machine.facts import Library, Origin
from onnxsd.machine.library_names import component_of, version_in
from onnxsd.machine.reader import Reader, readable
from onnxsd.records import Dotted

# Where the packages of one environment put libraries, below each folder of the path.
_IN_PACKAGES = (
    ("nvidia/*/lib", Origin.PIP),
    ("nvidia/*/bin", Origin.PIP),
    ("nvidia/*/bin/x86_64", Origin.PIP),  # Windows, CUDA 13
    ("tensorrt_libs", Origin.PIP),
    ("torch/lib", Origin.BUNDLED),
    ("onnxruntime/capi", Origin.BUNDLED),
)
_SYSTEM_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/lib/wsl/lib")
_MULTIARCH = ("/lib/{}-linux-gnu", "/usr/lib/{}-linux-gnu")
_TOOLKITS = ("usr/local/cuda", "usr/local/cuda-*", "opt/cuda", "usr/lib/cuda")
_IN_TOOLKIT = ("lib64", "lib", "targets/*/lib", "compat", "bin", "bin/x64")
_TOOLKIT_VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDNN_PATH")
_ORDER = (
    "cudart", "cublas", "cublasLt", "cudnn", "cufft", "curand", "nvrtc", "nvJitLink", "tensorrt", "cuda",
)  # fmt: skip
LD_CACHE = Path("/etc/ld.so.cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Where to look: what the interpreter says of itself, the environment, and the file system's root."""

    told: Mapping[str, Any]
    variables: Mapping[str, str]
    root: Path = Path("/")


def libraries(search: Search, reader: Reader) -> tuple[Library, ...]:
    """Every library found, by component and, within one, in the loader's order of preference.

    That order: LD_LIBRARY_PATH; what the packages of this environment bring (their own search paths and
    `preload_dlls` find it); conda; the loader's cache and folders; last the toolkits, which no loader
    looks into unless one of the former names them.
    """
    found: dict[Path, Library] = {}
    for origin, file in _candidates(search, reader):
        component = component_of(file.name)
        real = file.resolve()  # the same file by another way is not another copy
        if component is not None and real not in found:
            found[real] = _library(component, file, real, origin, search.told["library_owners"])
    return tuple(sorted(found.values(), key=lambda one: _ORDER.index(one.component)))


def _library(
    component: str, file: Path, real: Path, origin: Origin, owners: Mapping[str, list[str]]
) -> Library:
    owner, owners_version = owners.get(str(file)) or _owner_by_another_way(real, owners)
    return Library(
        component=component,
        soname=file.name,
        path=readable(str(file)),
        version=_best_version(real.name, file.name, owners_version if owner != "torch" else None),
        origin=origin,
        owner=owner,
    )


def _owner_by_another_way(real: Path, owners: Mapping[str, list[str]]) -> list[str] | list[None]:
    """The owner of a file that was found through a link, or by another name of its folder."""
    same = (path for path in owners if path.endswith(real.name) and Path(path).resolve() == real)
    found = next(same, None)
    return owners[found] if found else [None, None]


def _best_version(real_name: str, name: str, owners_version: str | None) -> Dotted | None:
    """By the name of the file that a link leads to, else by the package, else by the name alone."""
    named = version_in(real_name) or version_in(name)
    if owners_version is None or (named is not None and len(named.parts) > 1):
        return named
    try:
        by_package = Dotted.parse(owners_version)
    except ValueError:
        return named  # a package version with letters in it
    if named is not None and named.parts[0] != by_package.parts[0]:
        return named  # onnxruntime-gpu 1.31.1 may bundle a libcudart.so.13
    return by_package


def _candidates(search: Search, reader: Reader) -> Iterator[tuple[Origin, Path]]:
    """Files that may be libraries, with their origin, from the most to the least preferred."""
    for folder in _listed(search.variables.get("LD_LIBRARY_PATH", "")):
        yield from _in(folder, Origin.LD_LIBRARY_PATH, reader)
    for entry in search.told["path"]:
        for pattern, origin in _IN_PACKAGES:
            for folder in _matching(Path(entry), pattern):
                yield from _in(folder, origin, reader)
    for prefix in search.told["prefixes"]:
        if (Path(prefix) / "conda-meta").is_dir():
            yield from _in(Path(prefix) / "lib", Origin.CONDA, reader)
    yield from _cached(search, reader)
    for folder in _system_folders(search):
        yield from _in(folder, Origin.SYSTEM, reader)
    for toolkit in _toolkits(search):
        for inside in _IN_TOOLKIT:
            for folder in _matching(toolkit, inside):
                yield from _in(folder, Origin.TOOLKIT, reader)


def _in(folder: Path, origin: Origin, reader: Reader) -> Iterator[tuple[Origin, Path]]:
    """The libraries in one folder; it may be missing, a file, or forbidden."""
    try:
        files = sorted(file for file in folder.iterdir() if component_of(file.name))
        present = [file for file in files if file.exists()]  # not a link that leads nowhere
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        reader.note("libraries", f"{folder}: {error}")
        return
    for file in present:
        yield origin, file


def _cached(search: Search, reader: Reader) -> Iterator[tuple[Origin, Path]]:
    cache = search.root / LD_CACHE.relative_to("/")
    nothing: list[tuple[str, str]] = []
    listed = reader.read("libraries", lambda: ld_cache.libraries(cache, search.told["processor"]), nothing)
    for name, file in listed:
        if component_of(name) and Path(file).exists():
            yield Origin.LD_CACHE, Path(file)


def _system_folders(search: Search) -> list[Path]:
    if search.told["system"] == "win32":
        return [Path(part) for part in search.variables.get("PATH", "").split(";") if part]
    names = [*_SYSTEM_FOLDERS, *(pattern.format(search.told["processor"]) for pattern in _MULTIARCH)]
    return list(_distinct(search.root / name.lstrip("/") for name in names))


def _toolkits(search: Search) -> list[Path]:
    named = [search.variables.get(name, "") for name in _TOOLKIT_VARIABLES]
    found = [Path(value) for value in named if value]
    for pattern in _TOOLKITS:
        found += _matching(search.root, pattern)
    return list(_distinct(found))


def _distinct(folders: Iterable[Path]) -> Iterator[Path]:
    """The folders, without other names of earlier ones (/lib is /usr/lib, cuda is cuda-12.4)."""
    seen = set()
    for folder in folders:
        try:
            real = folder.resolve()
        except (OSError, ValueError, RuntimeError):
            continue
        if real not in seen:
            seen.add(real)
            yield folder


def _matching(base: Path, pattern: str) -> list[Path]:
    """The folders below `base` that a pattern gives; none where `base` is no readable folder."""
    try:
        return sorted(base.glob(pattern)) if "*" in pattern else [base / pattern]
    except (OSError, ValueError):
        return []


def _listed(value: str) -> list[Path]:
    """The folders of a list such as LD_LIBRARY_PATH; an empty part means the current folder, so none here."""
    separator = ";" if sys.platform == "win32" else ":"
    return [Path(part) for part in value.split(separator) if part]


def driver_library(found: Iterable[Library]) -> Dotted | None:
    """The version of the driver's library that the loader would take, where its file name tells it."""
    first = next((one for one in found if one.component == "cuda"), None)
    if first is None or first.version is None or len(first.version.parts) < 2:
        return None
    return first.version
