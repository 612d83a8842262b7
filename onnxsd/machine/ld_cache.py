"""The libraries that Linux's loader knows by name, from the binary file that `ldconfig` writes."""

from __future__ import annotations

import struct
from pathlib import Path

# glibc's sysdeps/generic/dl-cache.h: a header of 48 bytes, then entries of 24, then the texts. Files of
# before glibc 2.32 hold an older table first; places are counted from where the new one's name stands.
_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sII20x")
_ENTRY = struct.Struct("<iIIIQ")
# The low byte says ELF, the second one the architecture.
_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}


def libraries(path: Path, processor: str) -> list[tuple[str, str]]:
    """Each name with the file that the loader takes for it, in the loader's order, for one processor.

    Raises:
        ValueError: the file is not what glibc writes.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []  # musl, and systems without ldconfig, have none
    start = data.find(_MAGIC)
    if start < 0 or len(data) < start + _HEADER.size:
        raise ValueError(f"{path} has no table that starts with {_MAGIC.decode()}")
    _, count, _ = _HEADER.unpack_from(data, start)
    if len(data) < start + _HEADER.size + count * _ENTRY.size:
        raise ValueError(f"{path} ends before its {count} entries do")
    entries = _ENTRY.iter_unpack(data[start + _HEADER.size : start + _HEADER.size + count * _ENTRY.size])
    wanted = _FLAGS.get(processor)
    return [
        (_text(data, start + key), _text(data, start + value))
        for flags, key, value, _, _ in entries
        if wanted is None or flags == wanted
    ]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode("utf-8", errors="surrogateescape")
