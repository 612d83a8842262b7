"""How many bytes ONNX Runtime's arena holds after a graph has run: more than is ever needed at one time.

The arena asks the device for regions, cuts them into chunks and never gives them back; two free chunks become
one only where they are neighbours. With `arena_extend_strategy=kSameAsRequested` a region is as large as the
request that no free chunk could serve (bfc_arena.cc).
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxsd.ops.graph import AuthoredGraph
from onnxsd.ops.memory import IN_PLACE_ON_CUDA, Buffer, steps

# A chunk that is larger by this much is cut even where it is less than twice the request
# (`max_dead_bytes_per_chunk`, its default).
LARGEST_WASTE_BYTES = 128 << 20


def arena_bytes(graph: AuthoredGraph, *, in_place: frozenset[str] = IN_PLACE_ON_CUDA) -> int:
    """What the arena of a session holds after a run, by the allocator's own rules; without workspaces.

    It holds for sessions that follow the nodes' order (`ExecutionOrder.PRIORITY_BASED`) with
    `enable_mem_reuse` and `enable_mem_pattern` off. With ONNX Runtime's defaults the first run takes about
    twice as much for a UNet, and the second one adds a block for all activations together.

    Raises:
        UsageError: a size of the graph is symbolic.
    """
    arena = _Arena()
    for step in steps(graph, in_place):
        for buffer in step.taken:
            arena.take(buffer)
        for buffer in step.given_back:
            arena.give_back(buffer)
    return arena.size_bytes


@dataclass(slots=True, kw_only=True, eq=False)
class _Chunk:
    """A piece of a region; `after` and `before` are its neighbours in it."""

    size_bytes: int
    # Regions follow each other in the order in which they were asked for.
    address: int
    free: bool = False
    before: _Chunk | None = None
    after: _Chunk | None = None


class _Arena:
    """Regions as chains of chunks."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._free: list[_Chunk] = []
        self._taken: dict[Buffer, _Chunk] = {}

    def take(self, buffer: Buffer) -> None:
        """Serve a request by the smallest free chunk that is large enough, else by a region of its own."""
        wanted = buffer.size_bytes
        fitting = [chunk for chunk in self._free if chunk.size_bytes >= wanted]
        if fitting:
            chunk = min(fitting, key=lambda chunk: (chunk.size_bytes, chunk.address))
            self._free.remove(chunk)
            chunk.free = False
            if chunk.size_bytes >= 2 * wanted or chunk.size_bytes - wanted >= LARGEST_WASTE_BYTES:
                self._cut(chunk, wanted)
        else:
            chunk = _Chunk(size_bytes=wanted, address=self.size_bytes)
            self.size_bytes += wanted
        self._taken[buffer] = chunk

    def give_back(self, buffer: Buffer) -> None:
        """Make a buffer's chunk free, together with free neighbours."""
        chunk = self._taken.pop(buffer, None)
        if chunk is None:  # a view of an input or a weight
            return
        for neighbour in (chunk.before, chunk.after):
            if neighbour is not None and neighbour.free:
                self._free.remove(neighbour)
                _join(chunk, neighbour)
        chunk.free = True
        self._free.append(chunk)

    def _cut(self, chunk: _Chunk, wanted_bytes: int) -> None:
        rest = _Chunk(
            size_bytes=chunk.size_bytes - wanted_bytes,
            address=chunk.address + wanted_bytes,
            free=True,
            before=chunk,
            after=chunk.after,
        )
        if rest.after is not None:
            rest.after.before = rest
        chunk.after, chunk.size_bytes = rest, wanted_bytes
        self._free.append(rest)


def _join(chunk: _Chunk, neighbour: _Chunk) -> None:
    """Take a neighbour's bytes and its place in the chain."""
    chunk.size_bytes += neighbour.size_bytes
    chunk.address = min(chunk.address, neighbour.address)
    if chunk.before is neighbour:
        chunk.before = neighbour.before
        if chunk.before is not None:
            chunk.before.after = chunk
    else:
        chunk.after = neighbour.after
        if chunk.after is not None:
            chunk.after.before = chunk
