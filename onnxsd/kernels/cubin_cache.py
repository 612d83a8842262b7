"""Where compiled kernels are kept: one checked file for each source, compiler and architecture."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

_MAGIC = b"onnxsd cubin 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_SUFFIX, _UNFINISHED = ".cubin", ".tmp"
# A few versions of onnxsd and NVRTC, on a few GPUs.
_MOST_FILES = 16
# What was begun and not finished by then belongs to a process that has died.
_UNFINISHED_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Everything that a cubin depends on: two that differ in any of it never share a file."""

    source: str
    options: tuple[str, ...]
    nvrtc: tuple[int, int]
    architecture: int

    @property
    def digest(self) -> str:
        """sha256 of all of it, in hexadecimal digits; the file's name."""
        content = [self.source, self.options, self.nvrtc, self.architecture]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What was found for a key. Neither content nor fault: nothing is kept for it."""

    content: bytes | None = None
    fault: str | None = None


class CubinCache:
    """A folder that many processes read and write at once, and that may be emptied at any time.

    What cannot be read or written is a word in the answer: a cache that fails must not fail an image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: Key) -> Entry:
        """The cubin that was kept for a key; one that is not as it was written is a fault and not used."""
        path = self._path(key)
        try:
            kept = path.read_bytes()
        except FileNotFoundError:
            return Entry()
        except OSError as error:
            return Entry(fault=_told(path, error))
        content = kept[len(_MAGIC) + _DIGEST_BYTES :]
        if not content or kept != _sealed(key, content):
            return Entry(fault=f"{path} is damaged")
        with contextlib.suppress(OSError):
            os.utime(path)  # the one that was not used for longest goes first
        return Entry(content=content)

    def write(self, key: Key, content: bytes) -> str | None:
        """Keep a cubin, in place of what was there; None, or why it cannot be kept."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._replace(self._path(key), _sealed(key, content))
        except OSError as error:
            return _told(self.folder, error)
        self._leave_the_newest()
        return None

    def _path(self, key: Key) -> Path:
        return self.folder / f"{key.digest}{_SUFFIX}"

    def _replace(self, path: Path, content: bytes) -> None:
        """Write a whole file under its name or none: others may read it meanwhile, or write the same one."""
        # Not by mkstemp, whose files their owner alone may read: a folder may be shared by users too.
        unfinished = self.folder / f"{path.stem}{uuid4().hex}{_UNFINISHED}"
        try:
            with unfinished.open("xb") as file:
                file.write(content)
            unfinished.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise

    def _leave_the_newest(self) -> None:
        """Remove what is in excess, and what dead processes left; what cannot be removed stays."""
        ages = _modified(self.folder.glob(f"*{_SUFFIX}"))
        excess = sorted(ages, key=ages.__getitem__, reverse=True)[_MOST_FILES:]
        begun = _modified(self.folder.glob(f"*{_UNFINISHED}"))
        left = [path for path, when_s in begun.items() if when_s < time.time() - _UNFINISHED_S]
        for path in (*excess, *left):
            with contextlib.suppress(OSError):
                path.unlink()


def cache_folder() -> Path:
    """The folder of compiled kernels."""
    from platformdirs import user_cache_path

    return user_cache_path("onnxsd") / "kernels"


def _sealed(key: Key, content: bytes) -> bytes:
    """A file's bytes: the checksum is of the key as well, so that a file under another's name is seen."""
    checksum = hashlib.sha256(key.digest.encode() + content).digest()
    return _MAGIC + checksum + content


def _modified(paths: Iterable[Path]) -> dict[Path, float]:
    """When each file was written or used last, in seconds; those that are gone are left out."""
    found: dict[Path, float] = {}
    with contextlib.suppress(OSError):
        for path in paths:
            with contextlib.suppress(OSError):
                found[path] = path.stat().st_mtime
    return found


def _told(place: Path, error: OSError) -> str:
    """What the file system refused, and where."""
    return f"{place}: {error.strerror or error}"
