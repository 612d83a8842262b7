"""What an ELF file asks of the system: libraries, symbol versions, an executable stack."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onnxsd.errors import BadInputError

Read = Callable[[int, int], bytes]  # start, size

MAGIC = b"\x7fELF"
HEADER_BYTES = 64
_PROGRAM_HEADER = struct.Struct("<2I6Q")
_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_EXECUTABLE = 1
_NEEDED, _STRINGS, _STRINGS_BYTES, _RPATH, _RUNPATH = 1, 5, 10, 15, 29
_VERSIONS, _VERSIONS_COUNT = 0x6FFFFFFE, 0x6FFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """What the loader reads of a shared library."""

    needed: tuple[str, ...]
    run_path: str
    versions: tuple[str, ...]  # symbol versions it wants, as `GLIBC_2.28`
    executable_stack: bool


def dynamic_range(header: bytes, read: Read) -> tuple[int, int]:
    """Where the dynamic section lies: (start, stop)."""
    for kind, _, offset, _, size, *_ in _program_headers(header, read):
        if kind == _DYNAMIC:
            return offset, offset + size
    raise BadInputError("an ELF file without a dynamic section is no shared library")


def parse(read: Read) -> Elf:
    """What the file asks for; `read` gives its bytes by place."""
    header = read(0, HEADER_BYTES)
    if header[:4] != MAGIC or header[4:6] != b"\x02\x01":
        raise BadInputError("not a 64-bit little-endian ELF file")
    segments = list(_program_headers(header, read))
    start, stop = dynamic_range(header, read)
    tags = list(_dynamic(read(start, stop - start)))
    place = dict(tags)
    text = _Strings(read(_offset(place[_STRINGS], segments), place[_STRINGS_BYTES]))
    paths = [text.at(value) for tag, value in tags if tag in (_RPATH, _RUNPATH)]
    versions: Iterator[str] = iter(())
    if _VERSIONS in place:
        versions = _wanted(read, _offset(place[_VERSIONS], segments), place[_VERSIONS_COUNT], text)
    return Elf(
        needed=tuple(text.at(value) for tag, value in tags if tag == _NEEDED),
        run_path=":".join(paths),
        versions=tuple(sorted(set(versions))),
        executable_stack=_stack_is_executable(segments),
    )


class _Strings:
    """A table of texts that end in a zero byte."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob

    def at(self, start: int) -> str:
        return self._blob[start : self._blob.index(b"\0", start)].decode("utf-8", errors="replace")


def _program_headers(header: bytes, read: Read) -> Iterator[tuple[int, int, int, int, int]]:
    """Kind, flags, offset, address and size in the file of each segment."""
    (start,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<2H", header, 54)
    table = read(start, size * count)
    for at in range(0, size * count, size):
        kind, flags, offset, address, _, in_file, _, _ = _PROGRAM_HEADER.unpack_from(table, at)
        yield kind, flags, offset, address, in_file


def _dynamic(table: bytes) -> Iterator[tuple[int, int]]:
    for tag, value in struct.iter_unpack("<2Q", table[: len(table) // 16 * 16]):
        if tag == 0:
            return
        yield tag, value


def _offset(address: int, segments: list[tuple[int, int, int, int, int]]) -> int:
    """The place in the file of an address in memory."""
    for kind, _, offset, start, size in segments:
        if kind == _LOAD and start <= address < start + size:
            return offset + address - start
    raise BadInputError(f"the ELF file names address {address:#x}, which no segment holds")


def _wanted(read: Read, at: int, count: int, text: _Strings) -> Iterator[str]:
    """The symbol versions of every library that the file names."""
    for _ in range(count):
        _, entries, _, first, following = struct.unpack("<2H3I", read(at, 16))
        entry = at + first
        for _ in range(entries):
            _, _, _, name, further = struct.unpack("<I2H2I", read(entry, 16))
            yield text.at(name)
            entry += further
        at += following


def _stack_is_executable(segments: list[tuple[int, int, int, int, int]]) -> bool:
    """An x86-64 file that does not say is taken to want one."""
    return all(flags & _EXECUTABLE for kind, flags, *_ in segments if kind == _STACK)
