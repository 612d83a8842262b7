"""What onnxsd's own kernels ask of a machine, and what of it is there; nothing is loaded or written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxsd.machine import built_from
from onnxsd.machine.facts import OwnKernels
from onnxsd.machine.reader import readable

# The oldest GPU: the kernels' 16-byte accesses and float16 arithmetic are those of Turing.
OLDEST_CAPABILITY = (7, 5)
# CUDA's majors whose NVRTC compiles them, in the order of the search where ONNX Runtime names none.
NVRTC_MAJORS = (13, 12)
_KERNELS = "kernels"  # the package inside onnxsd, and the cache's folder
_OUR_PACKAGE = Path(__file__).parents[1]


def library_file(system: str) -> str:
    """What the native library is called, for a `sys.platform`."""
    return "_operators.dll" if system == "win32" else "_operators.so"


def own_kernels(
    told: Mapping[str, Any], environ: Mapping[str, str], home: Path, *, ours: bool
) -> OwnKernels | None:
    """What is there of the onnxsd that an interpreter has; None where it has none, or one without kernels.

    Args:
        told: what the interpreter says of itself and its modules.
        ours: whether it is this one, whose onnxsd is this very package.
    """
    package = _OUR_PACKAGE if ours else _package_of(told)
    if package is None or not (package / _KERNELS).is_dir():
        return None
    cache = cache_folder(told["system"], environ, home)
    library = package / _KERNELS / library_file(told["system"])
    there = library.is_file()
    return OwnKernels(
        library=there,
        outdated=not built_from.fits(library, package) if there else None,
        cache_folder=readable(str(cache)),
        cache_fault=why_not_writable(cache),
    )


def cache_folder(system: str, environ: Mapping[str, str], home: Path) -> Path:
    """Where compiled kernels are kept: in the user's cache folder, as platformdirs has it.

    Written out here because the doctor does without platformdirs, which may not be installed yet.
    """
    if system == "win32":
        local = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
        return local / "onnxsd" / "onnxsd" / "Cache" / _KERNELS
    if system == "darwin":
        caches = home / "Library" / "Caches"
    else:
        caches = Path(environ.get("XDG_CACHE_HOME", "").strip() or home / ".cache")
    return caches / "onnxsd" / _KERNELS


def why_not_writable(folder: Path) -> str | None:
    """Why a folder, there or yet to be made, takes no files; None where it does."""
    there = next(place for place in (folder, *folder.parents) if os.access(place, os.F_OK))
    if not there.is_dir():
        return readable(f"{there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        return readable(f"{there} may not be written to")
    return None


def _package_of(told: Mapping[str, Any]) -> Path | None:
    """The folder of an interpreter's onnxsd: the installed one, as the command runs it, before that of the
    current folder, which `python -m onnxsd` runs."""
    places = [one for one in told["modules"] if one["name"] == "onnxsd"]
    places.sort(key=lambda one: str(one["place"]) == "current-folder")
    inits = (Path(one["path"]) for one in places)
    return next((path.parent for path in inits if path.name == "__init__.py"), None)
