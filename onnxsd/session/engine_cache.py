"""Where TensorRT's engines are kept: each in a folder of its own, by everything that it depends on."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

# What a kept engine's folder says of itself; it is written when the engine has been used once.
DESCRIPTION = "engine.json"
_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """What builds engines here; those of another one are not valid, and neither are its timings."""

    onnxruntime: str
    tensorrt: str
    driver: str
    gpu: str
    compute_capability: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """Everything that an engine depends on: two that differ in any of it never share a file.

    model_sha256, data_sha256: of the ONNX file and of its weights. options: those that the engine is built
    with, its sizes among them.
    """

    component: str
    model_sha256: str
    data_sha256: str
    options: tuple[tuple[str, str], ...]
    builder: Builder

    @property
    def folder_name(self) -> str:
        """The name of the engine's folder."""
        return f"{self.component}-{_digest(asdict(self))}"

    @property
    def timing_name(self) -> str:
        """The name of the folder of timings, which depend on nothing but what builds."""
        return f"timings-{_digest(asdict(self.builder))}"


@contextmanager
def kept(root: Path, key: EngineKey) -> Iterator[Path]:
    """The folder for a session to find its engine in, or to write it to.

    An engine that is not there yet is built in a private folder, which gets its name at the end: one that was
    interrupted is never found again, and two processes never write the same file.
    """
    finished = root / key.folder_name
    if finished.is_dir():
        yield finished
        return
    root.mkdir(parents=True, exist_ok=True)
    private = tempfile.TemporaryDirectory(prefix=f"{key.folder_name}.", dir=root, ignore_cleanup_errors=True)
    with private as name:
        yield Path(name)
        description = json.dumps(asdict(key), indent=1, ensure_ascii=False)
        Path(name, DESCRIPTION).write_text(description + "\n", encoding="utf-8")
        # Another process may have finished the same engine meanwhile: its folder stays, and serves as well.
        with suppress(OSError):
            Path(name).rename(finished)


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
