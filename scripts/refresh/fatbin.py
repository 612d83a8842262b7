"""The GPU code that a binary holds, found in the fatbins of its bytes as they stream by."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
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


# A GPU is served when the ordinary kernels are compiled for it, not when a few special ones are. The compiler
# makes one fatbin of each source, with code for every target it was asked for. Since 1.29.0 the wheels for
# Windows hold fatbins for sm_90a alone (matrix products of that GPU) and no ordinary kernel for it.
_SHARE_OF_ORDINARY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Targets of machine code and of PTX, ascending: `86`, `90a`."""

    sass: tuple[str, ...]
    ptx: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([*self.sass, *(f"ptx{target}" for target in self.ptx)])

    @classmethod
    def parse(cls, text: str) -> Targets:
        """The targets that a text names, each once: `86 90a ptx90`."""
        words = sorted(set(text.split()), key=_order)
        return cls(
            sass=tuple(word for word in words if not word.startswith("ptx")),
            ptx=tuple(word.removeprefix("ptx") for word in words if word.startswith("ptx")),
        )


def served(fatbins: Mapping[str, int]) -> Targets:
    """The targets for which most ordinary kernels are compiled, from the fatbins of each set of targets.

    Ordinary is what is compiled for more than one target, or all there is where nothing is.
    """
    ordinary = {targets: count for targets, count in fatbins.items() if " " in targets} or fatbins
    counts: Counter[str] = Counter()
    for targets, count in ordinary.items():
        counts.update(dict.fromkeys(targets.split(), count))
    least = _SHARE_OF_ORDINARY * sum(ordinary.values())
    return Targets.parse(" ".join(target for target, count in counts.items() if count >= least))


class FatbinScanner:
    """Counts the fatbins of a stream by their targets; payloads are skipped, never held."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._targets: list[str] = []  # of the fatbin that is being read
        self._left_bytes = 0  # of it
        self._rest = b""
        self._skip_bytes = 0

    @property
    def fatbins(self) -> dict[str, int]:
        """How many whole fatbins there were so far of each set of targets, as `Targets` spells it."""
        return dict(sorted(self._counts.items()))

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
        self._left_bytes, self._targets = _CONTAINER.unpack_from(data, found)[3], []
        return found + _CONTAINER.size - at

    def _entry(self, data: bytes, at: int) -> int:
        """The size of an entry's header, once it is whole; its payload is then skipped."""
        if at + _ENTRY_BYTES > len(data):
            return 0
        kind, _, header_bytes, payload_bytes = _ENTRY.unpack_from(data, at)
        if header_bytes < _ENTRY_BYTES or header_bytes + payload_bytes > self._left_bytes:
            self._left_bytes = 0  # no entry: the signature stood there by chance
            return 1
        if kind in (_SASS, _PTX):
            (target,) = struct.unpack_from("<I", data, at + _TARGET_AT)
            (flags,) = struct.unpack_from("<Q", data, at + _FLAGS_AT)
            suffix = "a" if flags & _EXACT_TARGET else ""
            self._targets.append(f"{'ptx' if kind == _PTX else ''}{target}{suffix}")
        self._left_bytes -= header_bytes + payload_bytes
        self._skip_bytes = header_bytes + payload_bytes - _ENTRY_BYTES
        if self._left_bytes == 0 and self._targets:
            self._counts[str(Targets.parse(" ".join(self._targets)))] += 1
        return _ENTRY_BYTES


def _order(word: str) -> tuple[bool, int, str]:
    """Machine code before PTX, each by its number."""
    number = word.removeprefix("ptx")
    return word.startswith("ptx"), int(number.rstrip("a")), number
