"""The libraries that a Windows DLL imports when it loads."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from onnxsd.errors import BadInputError

Read = Callable[[int, int], bytes]  # start, size

MAGIC = b"MZ"
HEADER_BYTES = 4096
_PE32_PLUS = 0x20B
_DIRECTORIES_AT, _IMPORTS = 112, 1  # in the optional header; the second entry
_SECTION_BYTES, _DESCRIPTOR_BYTES = 40, 20
_NAME_BYTES = 256


def imports(read: Read) -> tuple[str, ...]:
    """Names of the libraries in the import table; those loaded on first use are not in it."""
    header = read(0, HEADER_BYTES)
    start, _ = import_range(header)
    return tuple(_names(read, start, list(_sections(header))))


def import_range(header: bytes) -> tuple[int, int]:
    """Where the import table lies: (start, stop)."""
    optional = _optional_header(header)
    address, size = struct.unpack_from("<2I", header, optional + _DIRECTORIES_AT + 8 * _IMPORTS)
    start = _offset(address, list(_sections(header)))
    return start, start + size


def _names(read: Read, at: int, sections: list[tuple[int, int, int]]) -> Iterator[str]:
    while any(descriptor := read(at, _DESCRIPTOR_BYTES)):
        (address,) = struct.unpack_from("<I", descriptor, 12)
        yield (
            read(_offset(address, sections), _NAME_BYTES).split(b"\0", 1)[0].decode("ascii", errors="replace")
        )
        at += _DESCRIPTOR_BYTES


def _optional_header(header: bytes) -> int:
    (start,) = struct.unpack_from("<I", header, 60)
    if header[:2] != MAGIC or header[start : start + 4] != b"PE\0\0":
        raise BadInputError("not a PE file")
    if struct.unpack_from("<H", header, start + 24)[0] != _PE32_PLUS:
        raise BadInputError("not a 64-bit PE file")
    return int(start + 24)


def _sections(header: bytes) -> Iterator[tuple[int, int, int]]:
    """Address, size in the file and place of each section."""
    optional = _optional_header(header)
    count, optional_bytes = struct.unpack_from("<H12xH", header, optional - 18)
    for at in range(
        optional + optional_bytes, optional + optional_bytes + count * _SECTION_BYTES, _SECTION_BYTES
    ):
        address, size, place = struct.unpack_from("<3I", header, at + 12)
        yield address, size, place


def _offset(address: int, sections: list[tuple[int, int, int]]) -> int:
    for start, size, place in sections:
        if start <= address < start + size:
            return place + address - start
    raise BadInputError(f"the PE file names address {address:#x}, which no section holds")
