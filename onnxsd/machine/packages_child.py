"""Installed packages by their metadata, read from the folders themselves: no package is imported.

Run here, or as text by any Python from 3.8 on, after python_child. Only the packages that matter are opened,
so that an environment of thousands costs one listing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

FACT = "distributions"
ABSENT: dict[str, Any] = {"distributions": [], "tools": {}}
# Runtimes and what they load; what onnxsd[run] needs; the reference and what pins it; what is known to bring
# a runtime along.
OF_INTEREST = re.compile(
    r"onnx.*|ort-.*|nvidia-.*|tensorrt.*|cuda-.*|torch|torchvision|torchaudio|triton|numpy|scipy|protobuf|"
    r"ml-dtypes|safetensors|tokenizers|pillow|platformdirs|huggingface-hub|diffusers|transformers|accelerate|"
    r"optimum.*|peft|xformers|coloredlogs|sympy|flatbuffers|cupy.*|rembg.*|insightface|fastembed|magika|chromadb|"
    r"rapidocr.*|unstructured-inference|faster-whisper|sentence-transformers|controlnet-aux|kokoro-onnx|piper-tts"
)
RUNTIME = re.compile(r"onnxruntime.*|ort-.*")
_TOOLS = ("pip", "uv")
_HEADER_BYTES = 16 * 1024  # of the metadata: name and version stand in its first lines


def facts(known: dict[str, Any]) -> dict[str, Any]:
    """The packages of interest in the order of the path, the installers' versions, and what is broken."""
    found: list[dict[str, Any]] = []
    tools: dict[str, str] = {}
    faults: list[list[str]] = list(known["faults"])
    for entry in _distinct(known["path"]):
        for item in _metadata_of(entry, faults):
            try:
                one = _read(item)
            except Exception as error:  # noqa: BLE001  (one broken package of many; it is recorded)
                faults.append(["distribution", f"{item}: {type(error).__name__}: {error}"])
                continue
            if one is not None and one["name"] in _TOOLS:
                tools.setdefault(one["name"], one["version"])
            elif one is not None:
                found.append(one)
    found.sort(key=lambda one: str(one["name"]))  # stable: of one name, the first on the path stays first
    return {"distributions": found, "tools": tools, "faults": faults}


def _distinct(path: list[str]) -> list[Path]:
    """The folders of a path, without those that are another name of an earlier one (lib64)."""
    found: dict[Path, Path] = {}
    for folder in map(Path, path):
        real = _real_folder(folder)
        if real is not None:
            found.setdefault(real, folder)
    return list(found.values())


def _real_folder(folder: Path) -> Path | None:
    try:
        return folder.resolve() if folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):
        return None  # nothing can be imported from there either


def _metadata_of(folder: Path, faults: list[list[str]]) -> list[Path]:
    """The metadata folders (or, of old installers, files) of one folder."""
    try:
        items = sorted(item for item in folder.iterdir() if item.name.endswith((".dist-info", ".egg-info")))
    except OSError as error:
        faults.append(["distributions", f"{folder}: {error.strerror or error}"])
        return []
    left = [item for item in items if item.name.startswith("~")]
    faults += [
        ["distribution", f"{item}: left over by an installation that was interrupted"] for item in left
    ]
    return [item for item in items if item not in left]


def _read(item: Path) -> dict[str, Any] | None:
    """One package; None for one that does not matter here."""
    guessed = _canonical(item.name.rpartition(".")[0].partition("-")[0])
    if not OF_INTEREST.fullmatch(guessed) and guessed not in _TOOLS:
        return None
    headers = _headers(item)
    if not headers.get("Name") or not headers.get("Version"):
        raise ValueError("its metadata does not say its name and version")
    name = _canonical(headers["Name"])
    installer = (_text(item / "INSTALLER") or "").strip()
    return {
        "name": name,
        "version": headers["Version"],
        "installer": installer or None,
        "location": str(item.parent),
        "provides": _provides(item) if RUNTIME.fullmatch(name) else [],
        "metadata": str(item),
    }


def _headers(item: Path) -> dict[str, str]:
    """The first lines of the metadata, up to the first blank one."""
    places = (item / "METADATA", item / "PKG-INFO") if item.is_dir() else (item,)
    texts = (_text(place, _HEADER_BYTES) for place in places)
    text = next((text for text in texts if text is not None), None)
    if text is None:
        raise FileNotFoundError(f"it has no {places[0].name}")
    headers: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            break
        key, colon, value = line.partition(":")
        if colon:
            headers.setdefault(key, value.strip())
    return headers


def _provides(item: Path) -> list[str]:
    """Top-level packages that a runtime's wheel installs; only runtimes contend for one name."""
    record = _text(item / "RECORD") or ""
    listed = set(re.findall(r"^([^/,\n]+)/__init__\.py,", record, re.MULTILINE))
    return sorted(listed | set((_text(item / "top_level.txt") or "").split()))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _text(path: Path, limit: int = -1) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(limit).decode("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
