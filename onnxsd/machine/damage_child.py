"""Installed files against what their packages' RECORD says of them: overwritten, cut short, gone.

Run here, or as text by any Python from 3.8 on, after packages_child. Runtimes are compared file by file;
NVIDIA's packages by their libraries, which two packages of different CUDA majors install under one name.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from pathlib import Path
from typing import Any

FACT = "damaged"
ABSENT: dict[str, Any] = {"damaged": [], "damage_counts": {}}
_RUNTIME = re.compile(r"onnxruntime.*|ort-.*")
_LIBRARIES = re.compile(r"nvidia-.*|tensorrt.*")
_BINARY = re.compile(r"\.(?:so|dll|pyd|dylib)(?:\.|$)")
# What is hashed: Python files of this size at most, no deeper than onnxruntime/capi. For the rest the size
# must do: of another release, it differs for the large ones.
_HASHED_UP_TO_BYTES = 64 * 1024
_HASHED_UP_TO_PARTS = 3
_REPORTED_PER_PACKAGE = 40


def facts(known: dict[str, Any]) -> dict[str, Any]:
    """The files that differ, libraries first, and the packages that cannot be checked."""
    damaged: list[dict[str, str]] = []
    faults: list[list[str]] = list(known["faults"])
    counts: dict[str, int] = {}
    for one in known["distributions"]:
        whole = _RUNTIME.fullmatch(one["name"]) is not None
        if not whole and not _LIBRARIES.fullmatch(one["name"]):
            continue
        try:
            found = _damaged(Path(one["metadata"]), whole=whole)
        except Exception as error:  # noqa: BLE001  (one package of many; it is recorded)
            faults.append(["damaged", f"{one['name']} {one['version']}: {type(error).__name__}: {error}"])
            continue
        counts[one["metadata"]] = len(found)
        kept = found[:_REPORTED_PER_PACKAGE]
        damaged += [{"distribution": one["name"], "path": path, "problem": what} for path, what in kept]
    return {"damaged": damaged, "damage_counts": counts, "faults": faults}


def _damaged(metadata: Path, *, whole: bool) -> list[tuple[str, str]]:
    record = metadata / "RECORD"
    if not record.exists():
        raise FileNotFoundError(f"it has no RECORD in {metadata}")
    text = record.read_bytes().decode("utf-8", errors="surrogateescape")
    found = []
    for row in csv.reader(text.splitlines()):
        if not row or not (_is_compared(row[0]) if whole else _BINARY.search(row[0])):
            continue
        problem = _problem(metadata.parent / row[0], row)
        if problem is not None:
            found.append((row[0], problem))
    return sorted(found, key=lambda one: (_BINARY.search(one[0]) is None, one))


def _is_compared(path: str) -> bool:
    """Not what is written after the wheel was unpacked, nor what lies outside, such as scripts."""
    return not path.endswith(".pyc") and ".." not in path and ".dist-info/" not in path


def _problem(path: Path, row: list[str]) -> str | None:
    """What is wrong with one file of a RECORD's row: path, hash, size."""
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    said = row[2] if len(row) > 2 else ""
    if said.isdecimal() and int(said) != size:
        return "altered"
    algorithm, _, digest = row[1].partition("=") if len(row) > 1 else ("", "", "")
    small = size <= _HASHED_UP_TO_BYTES and row[0].count("/") < _HASHED_UP_TO_PARTS
    if algorithm != "sha256" or path.suffix != ".py" or not small:
        return None
    actual = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
    return None if actual == digest else "altered"
