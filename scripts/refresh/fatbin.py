"""The GPU code that a binary holds, found in the fatbins of its bytes as they stream by."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass

# A fatbin: magic 0xBA55ED50, version 1, 16 bytes of header, then the size of its entries.
_CONTAINER = struct.Struct("<IHHQ")
_SIGNATURE = bytes.fromhex("50ed55ba01001000")
# An entry: kind, version, size of its header, size of its payload; the target stands at 28, flags at 40.
_ENTRY = struct.Struct("<HHIQ")
_TARGET_AT, _FLAGS_AT, _ENTRY_BYTES = 28, 40, 48
_PTX, _SASS = 1, 2
# Calibrated on the sm_90a entries of onnxruntime-gpu 1.26.0, whose cubins say so in their ELF flags.
_EXACT_TARGET = 0x100000


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCode:
    """How many pieces of machine code and of PTX there are for each target: `86`, `90a`."""

    sass: dict[str, int]
    ptx: dict[str, int]


class FatbinScanner:
    """Counts the code of all fatbins of a stream by target; payloads are skipped, never held."""

    def __init__(self) -> None:
        self._found: dict[int, Counter[str]] = {_PTX: Counter(), _SASS: Counter()}
        self._rest = b""
        self._skip_bytes = 0
        self._left_bytes = 0  # of the fatbin that is being read

    @property
    def code(self) -> GpuCode:
        """What was found so far."""
        return GpuCode(sass=_ordered(self._found[_SASS]), ptx=_ordered(self._found[_PTX]))

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the stream."""
        data, at = self._rest + piece if self._rest else piece, 0
        while at < len(data):
            self._rest = b""
            if self._skip_bytes:
                step = min(self._skip_bytes, len(data) - at)
                self._skip_bytes -= step
                at += step
                continue
            step = self._entry(data, at) if self._left_bytes else self._container(data, at)
            if step == 0:
                self._rest = data[at:]
                return
            at += step

    def _container(self, data: bytes, at: int) -> int:
        """How far to go on: behind a fatbin's header, or to where one may still begin; 0: more is needed."""
        found = data.find(_SIGNATURE, at)
        if found < 0:
            return max(0, len(data) - at - len(_SIGNATURE) + 1)
        if found + _CONTAINER.size > len(data):
            return found - at
        self._left_bytes = _CONTAINER.unpack_from(data, found)[3]
        return found + _CONTAINER.size - at

    def _entry(self, data: bytes, at: int) -> int:
        """The size of an entry's header, once it is whole; its payload is then skipped."""
        if at + _ENTRY_BYTES > len(data):
            return 0
        kind, _, header_bytes, payload_bytes = _ENTRY.unpack_from(data, at)
        if header_bytes < _ENTRY_BYTES or header_bytes + payload_bytes > self._left_bytes:
            self._left_bytes = 0  # no entry: the signature stood there by chance
            return 1
        if kind in self._found:
            (target,) = struct.unpack_from("<I", data, at + _TARGET_AT)
            (flags,) = struct.unpack_from("<Q", data, at + _FLAGS_AT)
            self._found[kind][f"{target}a" if flags & _EXACT_TARGET else str(target)] += 1
        self._left_bytes -= header_bytes + payload_bytes
        self._skip_bytes = header_bytes + payload_bytes - _ENTRY_BYTES
        return _ENTRY_BYTES


def _ordered(targets: Counter[str]) -> dict[str, int]:
    return dict(sorted(targets.items(), key=lambda item: (int(item[0].rstrip("a")), item[0])))
