"""What one shared library needs and holds, streamed once where that is enough."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onnxsd.errors import BadInputError
from refresh import elf, pe
from refresh.fatbin import FatbinScanner
from refresh.kept import Kept, NotKept

Stream = Callable[[], Iterator[bytes]]
Progress = Callable[[int], None]  # bytes that went by

_PASSES = 4
_AROUND_BYTES = 1 << 20  # kept around a part that is known to be wanted: the names follow the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """One shared library of a wheel."""

    needed: tuple[str, ...]
    versions: tuple[str, ...]
    run_path: str
    executable_stack: bool | None
    fatbins: dict[str, int]


def read_binary(stream: Stream, progress: Progress, name: str) -> Binary:
    """What one library asks for and holds.

    The first pass looks for GPU code and keeps the parts that the headers point at; where a table lies
    elsewhere, the stream is read again with that part wanted.
    """
    wanted: list[tuple[int, int]] = []
    scanner = FatbinScanner()
    try:
        for number in range(_PASSES):
            kept = _pass(stream, wanted, scanner if number == 0 else None, progress)
            missing = _try(kept, scanner.fatbins, name)
            if isinstance(missing, Binary):
                return missing
            wanted.append((max(0, missing.start - _AROUND_BYTES), missing.stop + _AROUND_BYTES))
    except (struct.error, ValueError, LookupError) as error:
        raise BadInputError(f"{name} is damaged: {error!r}") from error
    raise BadInputError(f"{name} is damaged: its tables were not found in {_PASSES} passes")


def _pass(
    stream: Stream, wanted: list[tuple[int, int]], scanner: FatbinScanner | None, progress: Progress
) -> Kept:
    pieces = stream()
    head = b""
    while len(head) < pe.HEADER_BYTES and (piece := next(pieces, b"")):
        head += piece
    kept = Kept([*wanted, *_pointed_at(head)])
    while head:
        kept.feed(head)
        if scanner:
            scanner.feed(head)
            progress(len(head))
        head = next(pieces, b"")
    return kept


def _pointed_at(head: bytes) -> Iterator[tuple[int, int]]:
    """The part that the headers at the start of a file name, and what lies around it."""

    def read(start: int, size_bytes: int) -> bytes:
        return head[start : start + size_bytes]

    if head.startswith(elf.MAGIC):
        start, stop = elf.dynamic_range(head, read)
    elif head.startswith(pe.MAGIC):
        start, stop = pe.import_range(head)
    else:
        return
    yield max(0, start - _AROUND_BYTES), stop + _AROUND_BYTES


def _try(kept: Kept, fatbins: dict[str, int], name: str) -> Binary | NotKept:
    """The binary, or the part that is wanted for it."""
    try:
        return _parsed(kept, fatbins, name)
    except NotKept as missing:
        return missing


def _parsed(kept: Kept, fatbins: dict[str, int], name: str) -> Binary:
    magic = kept.read(0, 4)
    if magic.startswith(pe.MAGIC):
        needed = pe.imports(kept.read)
        return Binary(needed=needed, versions=(), run_path="", executable_stack=None, fatbins=fatbins)
    if magic != elf.MAGIC:
        raise BadInputError(f"{name} is neither an ELF nor a PE file")
    found = elf.parse(kept.read)
    return Binary(
        needed=found.needed,
        versions=found.versions,
        run_path=found.run_path,
        executable_stack=found.executable_stack,
        fatbins=fatbins,
    )
