"""Parts of a stream that are kept while the rest goes by, so that a large file needs little memory."""

from __future__ import annotations

from collections import deque

EDGE_BYTES = 8 << 20  # kept of the start and the end: headers and string tables mostly lie there


class NotKept(Exception):  # noqa: N818 - no error: it asks for the stream again
    """A part that a reader wants and that went by."""

    def __init__(self, start: int, size_bytes: int) -> None:
        super().__init__(start, size_bytes)
        self.start, self.stop = start, start + size_bytes


class Kept:
    """The start, the end and the wanted ranges of a stream."""

    def __init__(self, wanted: list[tuple[int, int]], *, edge_bytes: int = EDGE_BYTES) -> None:
        """`wanted`: (start, stop) of each further part to keep."""
        self.size_bytes = 0
        self._parts = [(0, edge_bytes, bytearray()), *((start, stop, bytearray()) for start, stop in wanted)]
        self._edge_bytes = edge_bytes
        self._last: deque[bytes] = deque()
        self._last_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the stream."""
        at = self.size_bytes
        for start, stop, held in self._parts:
            if at < stop and at + len(piece) > start:
                held += piece[max(0, start - at) : stop - at]
        self.size_bytes += len(piece)
        self._last.append(piece)
        self._last_bytes += len(piece)
        while self._last and self._last_bytes - len(self._last[0]) >= self._edge_bytes:
            self._last_bytes -= len(self._last.popleft())

    def read(self, start: int, size_bytes: int) -> bytes:
        """Bytes of the stream by their place in it, once it has ended; fewer where it ends before them.

        Raises:
            NotKept: they went by; the stream has to be read again with them wanted.
        """
        size_bytes = min(size_bytes, self.size_bytes - start)
        if size_bytes <= 0:
            return b""
        for first, _, held in self._parts:
            if first <= start and start + size_bytes <= first + len(held):
                return bytes(held[start - first : start - first + size_bytes])
        first = self.size_bytes - self._last_bytes
        if first <= start and start + size_bytes <= self.size_bytes:
            return b"".join(self._last)[start - first : start - first + size_bytes]
        raise NotKept(start, size_bytes)
