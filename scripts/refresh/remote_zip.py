"""A zip file on a server: its members by range, inflated as they come."""

from __future__ import annotations

import dataclasses
import datetime
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from onnxsd.errors import BadInputError
from refresh.web import Web

TAIL_BYTES = 1 << 17  # holds the directory of a wheel, and mostly its METADATA, which wheels put last
_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_ZIP64 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of an archive, and where its bytes lie."""

    name: str
    size_bytes: int
    modified: datetime.date
    method: int
    crc: int
    start: int  # of its local header
    stop: int  # where the next member or the directory starts


class RemoteZip:
    """The members of an archive, read without the rest of it."""

    def __init__(self, web: Web, url: str, name: str) -> None:
        """Reads the directory; `name` stands for the archive in messages."""
        self._web, self._url, self.name = web, url, name
        self._tail, self.size_bytes = web.tail(url, TAIL_BYTES, what=name)
        self.members = {member.name: member for member in self._directory()}

    def read(self, name: str) -> bytes:
        """A small member, whole."""
        return b"".join(self.stream(self.members[name]))

    def stream(self, member: Member) -> Iterator[bytes]:
        """A member's bytes in pieces, checked against its CRC at the end."""
        inflater = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == _DEFLATED else None
        crc, left = 0, member.size_bytes
        for packed in self._packed(member):
            piece = inflater.decompress(packed) if inflater else packed[:left]
            crc, left = zlib.crc32(piece, crc), left - len(piece)
            yield piece
            if left <= 0:
                break
        if left or crc != member.crc:
            raise BadInputError(f"{self.name}: {member.name} is damaged, its size or CRC does not fit")

    def _packed(self, member: Member) -> Iterator[bytes]:
        """A member's bytes as they are stored, without its local header."""
        header, wanted = b"", _LOCAL.size
        for piece in self._range(member.start, member.stop):
            if wanted == 0:
                yield piece
                continue
            header += piece
            if len(header) < wanted:
                continue
            if wanted == _LOCAL.size:
                *_, name_bytes, extra_bytes = _LOCAL.unpack_from(header)
                wanted += name_bytes + extra_bytes
            if len(header) >= wanted:
                yield header[wanted:]
                wanted = 0

    def _range(self, start: int, stop: int) -> Iterator[bytes]:
        tail_start = self.size_bytes - len(self._tail)
        if start >= tail_start:
            yield self._tail[start - tail_start : stop - tail_start]
        else:
            yield from self._web.stream(self._url, start, stop - 1, what=self.name)

    def _directory(self) -> list[Member]:
        at = self._tail.rfind(b"PK\x05\x06")
        if at < 0:
            raise BadInputError(f"{self.name} is not a zip file: its directory has no end")
        *_, count, size, start, _ = _END.unpack_from(self._tail, at)
        if _ZIP64 in (size, start):
            raise BadInputError(f"{self.name} is a zip64 file, which this reader does not know")
        blob = b"".join(self._range(start, start + size))
        return _with_stops(list(_entries(blob, count, self.name)), start)


def _entries(blob: bytes, count: int, name: str) -> Iterator[Member]:
    at = 0
    for _ in range(count):
        if blob[at : at + 4] != b"PK\x01\x02":
            raise BadInputError(f"{name}: the directory of the zip file is damaged")
        entry = _ENTRY.unpack_from(blob, at)
        method, date, crc, size = entry[4], entry[6], entry[7], entry[9]
        name_bytes, extra_bytes, comment_bytes = entry[10:13]
        at += _ENTRY.size
        yield Member(
            name=blob[at : at + name_bytes].decode("utf-8"),
            size_bytes=size,
            modified=datetime.date(1980 + (date >> 9), max(1, date >> 5 & 15), max(1, date & 31)),
            method=method,
            crc=crc,
            start=entry[16],
            stop=0,
        )
        at += name_bytes + extra_bytes + comment_bytes


def _with_stops(members: list[Member], directory: int) -> list[Member]:
    """The members with the start of what follows each."""
    ordered = sorted(members, key=lambda member: member.start)
    stops = [member.start for member in ordered[1:]] + [directory]
    return [dataclasses.replace(one, stop=stop) for one, stop in zip(ordered, stops, strict=True)]
