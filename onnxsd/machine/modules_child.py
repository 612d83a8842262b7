"""Where `import NAME` would find each name that matters, by looking at the folders; nothing is imported.

Run here, or as text by any Python from 3.8 on, after damage_child. It also says which package owns which
native library, since both are questions to a RECORD.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

FACT = "modules"
ABSENT: dict[str, Any] = {"modules": [], "library_owners": {}}
# Each import name, and the packages that may own it.
_NAMES = {
    "onnxruntime": r"onnxruntime.*|ort-.*",
    "torch": r"torch",
    "numpy": r"numpy",
    "onnx": r"onnx",
    "google.protobuf": r"protobuf",
    "diffusers": r"diffusers",
    "transformers": r"transformers",
    "optimum": r"optimum.*",
    "tensorrt": r"tensorrt.*",
    "onnxsd": r"onnxsd",
}
_WITH_LIBRARIES = re.compile(r"nvidia-.*|tensorrt.*|torch|onnxruntime.*|ort-.*")
_LIBRARY = re.compile(r"([^,]+(?:\.so(?:\.[\d.]+)?|\.dll)),[^,]*,(\d*)")


def facts(known: dict[str, Any]) -> dict[str, Any]:
    """Every place of each name, the one that is imported first, and the packages that own libraries."""
    path = _searched(known)
    listings = {folder: _listing(folder) for folder, _ in path}
    modules = [found for name in _NAMES for found in _places(name, path, listings, known)]
    return {"modules": modules, "library_owners": _library_owners(known)}


def _searched(known: dict[str, Any]) -> list[tuple[str, str]]:
    """Each folder of the search with the kind of place that it is; the current one comes first, as for
    `python -m` and `python -c`."""
    variable = [os.path.normpath(part) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    folders = [known["current_folder"], *known["path"]] if known["current_folder"] else known["path"]
    return [(folder, _place(folder, variable, known)) for folder in dict.fromkeys(folders)]


def _place(folder: str, variable: list[str], known: dict[str, Any]) -> str:
    if os.path.normpath(folder) in variable:
        return "pythonpath"
    if folder == known["current_folder"]:
        return "current-folder"
    if folder == known["user_site_folder"]:
        return "user-site"
    parts = Path(folder).parts
    inside = any(parts[: len(Path(prefix).parts)] == Path(prefix).parts for prefix in known["prefixes"])
    return "environment" if inside else "other"


def _listing(folder: str) -> set[str]:
    """The first parts of the names in a folder: a cheap way to know that a module is not there."""
    try:
        return {item.name.partition(".")[0] for item in Path(folder).iterdir()}
    except (OSError, ValueError):
        return set()  # the import would pass it over too


def _places(
    name: str, path: list[tuple[str, str]], listings: dict[str, set[str]], known: dict[str, Any]
) -> list[dict[str, Any]]:
    """Where a name lies; folders without an `__init__` count only where there is nothing better."""
    regular: list[dict[str, Any]] = []
    bare: list[dict[str, Any]] = []
    seen = set()
    for folder, place in path:
        if name.partition(".")[0] not in listings[folder]:
            continue
        base = Path(folder).joinpath(*name.split("."))
        try:
            file = _file_of(base)
            found = file or (base if base.is_dir() else None)
            if found is None or found.resolve() in seen:
                continue
            seen.add(found.resolve())
        except (OSError, ValueError, RuntimeError):
            continue
        one = {"name": name, "path": str(found), "owner": _owner(name, found, known), "place": place}
        (regular if file else bare).append(one)
    return regular or bare


def _file_of(base: Path) -> Path | None:
    """The file that an import of `base` would read, in the order of Python's own finder."""
    suffixes = all_suffixes()
    packages = [base / f"__init__{suffix}" for suffix in suffixes] if base.is_dir() else []
    modules = [base.with_name(base.name + suffix) for suffix in suffixes]
    return next((file for file in [*packages, *modules] if file.is_file()), None)


def _owner(name: str, file: Path, known: dict[str, Any]) -> str | None:
    """The package that lists the file; of several, the one with the fewest files that are not its own."""
    counts = known["damage_counts"]
    owners = [
        one
        for one in known["distributions"]
        if re.fullmatch(_NAMES[name], one["name"])
        and _lists(Path(one["metadata"]), Path(one["location"]), file)
    ]
    owners.sort(key=lambda one: counts.get(one["metadata"], 0))
    return str(owners[0]["name"]) if owners else None


def _lists(metadata: Path, location: Path, file: Path) -> bool:
    if location not in file.parents:
        return False
    inside = file.relative_to(location).as_posix()
    record = _text(metadata / "RECORD")
    if record is not None:
        lines = "\n" + record
        return f"\n{inside}," in lines or f"\n{inside}/" in lines
    listed = _text(metadata / "top_level.txt") or ""  # an old installer's
    return inside.split("/")[0].partition(".")[0] in listed.split()


def _library_owners(known: dict[str, Any]) -> dict[str, list[str]]:
    """Each native library that a package lists, with the package's name and version.

    Where two list one, it is the package's whose size fits.
    """
    found: dict[str, list[str]] = {}
    for one in known["distributions"]:
        if not _WITH_LIBRARIES.fullmatch(one["name"]):
            continue
        for inside, size in _libraries_of(Path(one["metadata"])):
            path = Path(one["location"]) / inside
            if str(path) not in found or _has_size(path, size):
                found[str(path)] = [one["name"], one["version"]]
    return found


def _libraries_of(metadata: Path) -> list[tuple[str, str]]:
    """The native libraries of a RECORD, with their sizes."""
    text = _text(metadata / "RECORD") or ""
    found = [_LIBRARY.match(line) for mark in (".so", ".dll") for line in _lines_with(mark, text)]
    return [(match.group(1), match.group(2)) for match in found if match]


def _lines_with(mark: str, text: str) -> Iterator[str]:
    """The lines that hold a mark; torch lists 13,000 files, and a dozen libraries."""
    at = text.find(mark)
    while at >= 0:
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        yield text[text.rfind("\n", 0, at) + 1 : end]
        at = text.find(mark, end)


def _has_size(path: Path, size: str) -> bool:
    try:
        return size.isdecimal() and path.stat().st_size == int(size)
    except OSError:
        return False


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return None
