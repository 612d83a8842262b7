"""What may lie on a GPU at once: what was used longest ago leaves for what is needed now."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from onnxsd.errors import DeviceMemoryError
from onnxsd.session.driver import Driver

# Context, kernels and workspaces of CUDA, cuDNN and cuBLAS: 727 MiB stayed on an H200 when everything
# else had been released (docs/performance.md).
RUNTIME_BYTES = 768 << 20
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Held:
    """One thing on the GPU: how much memory it takes, and how it is let go."""

    what: str
    size_bytes: int
    let_go: Callable[[], None]


class DeviceMemory:
    """Everything that an engine holds on one GPU, least recently used first.

    With a limit, the whole process stays within it as far as its parts are known: weights exactly, sessions
    by what making and first running them took. Without one, things leave when memory runs out.
    """

    def __init__(self, driver: Driver, limit_bytes: int | None) -> None:
        self._driver = driver
        self._limit_bytes = limit_bytes
        self._held: dict[Hashable, Held] = {}
        self.peak_bytes = 0
        # What left to make room, in order, by name.
        self.evicted: list[str] = []

    @property
    def limit_bytes(self) -> int | None:
        """The most that the process should take; None is what the GPU has."""
        return self._limit_bytes

    @property
    def used_bytes(self) -> int:
        """What is held now, with what CUDA takes for itself."""
        return RUNTIME_BYTES + sum(held.size_bytes for held in self._held.values())

    def attainable_bytes(self) -> int:
        """What there would be if everything that is held left: of the device, or of the limit."""
        free, _ = self._driver.memory()
        of_device = free + sum(held.size_bytes for held in self._held.values())
        return of_device if self._limit_bytes is None else min(of_device, self._limit_bytes - RUNTIME_BYTES)

    def held_bytes(self, keys: Iterable[Hashable]) -> int:
        """What some of what is held takes."""
        return sum(self._held[key].size_bytes for key in keys)

    def touch(self, key: Hashable) -> None:
        """Note that it is being used."""
        self._held[key] = self._held.pop(key)

    def add(
        self,
        key: Hashable,
        make: Callable[[], T],
        *,
        what: str,
        need_bytes: int,
        let_go: Callable[[], None],
        exact: bool = False,
        keep: tuple[Hashable, ...] = (),
    ) -> T:
        """Make something, after letting others go until there is room for it.

        Args:
            key: what it is held under.
            make: makes it; may be called twice, if the device's memory runs out the first time.
            what: what messages call it.
            need_bytes: what it will take, or an estimate.
            exact: whether it will take just that; else it is measured, by what is free before and after.
            let_go: drops every reference to it.
            keep: what must not leave for it.

        Raises:
            DeviceMemoryError: there is no room for it, even alone.
        """
        self._make_room(what, need_bytes, keep)
        tried = self._first_try(make, keep)
        if tried is None:
            # A frame that keeps what it caught keeps itself, and all that the first try had taken; and other
            # garbage may hold memory of this GPU too.
            gc.collect()
            tried = self._measured(make)
        made, taken_bytes = tried
        size_bytes = need_bytes if exact else taken_bytes
        self._held[key] = Held(what=what, size_bytes=size_bytes, let_go=let_go)
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        return made

    def _first_try(self, make: Callable[[], T], keep: tuple[Hashable, ...]) -> tuple[T, int] | None:
        """What was made and took; None where memory ran out: everything else has left for another try."""
        try:
            return self._measured(make)
        except DeviceMemoryError:
            while self._let_one_go(keep):
                pass
        # Here the exception has gone, and with it what the frames of the first try still held.
        return None

    def _measured(self, make: Callable[[], T]) -> tuple[T, int]:
        """What was made, and how much less is free since."""
        before, _ = self._driver.memory()
        made = make()
        after, _ = self._driver.memory()
        return made, max(before - after, 0)

    def require_possible(self, what: str, need_bytes: int) -> None:
        """Refuse what the limit can never hold, before anything leaves for a part of it.

        Raises:
            DeviceMemoryError: it does not fit even alone.
        """
        self._require(what, need_bytes, RUNTIME_BYTES)

    def drop(self, key: Hashable) -> None:
        """Let one thing go."""
        if held := self._held.pop(key, None):
            held.let_go()

    def evict(self, key: Hashable) -> None:
        """Let one thing go to make room, and note that it left."""
        self.evicted.append(self._held[key].what)
        self.drop(key)

    def _make_room(self, what: str, need_bytes: int, keep: tuple[Hashable, ...]) -> None:
        if self._limit_bytes is None:
            return
        beside = RUNTIME_BYTES + sum(self._held[key].size_bytes for key in keep if key in self._held)
        self._require(what, need_bytes, beside)
        while self.used_bytes + need_bytes > self._limit_bytes and self._let_one_go(keep):
            pass

    def _require(self, what: str, need_bytes: int, beside_bytes: int) -> None:
        if self._limit_bytes is not None and beside_bytes + need_bytes > self._limit_bytes:
            raise DeviceMemoryError(
                f"cannot hold {what}, {_gb(need_bytes)}: the memory limit is {_gb(self._limit_bytes)}, "
                f"and {_gb(beside_bytes)} are needed beside it"
            )

    def _let_one_go(self, keep: tuple[Hashable, ...]) -> bool:
        for key in self._held:
            if key not in keep:
                self.evict(key)
                return True
        return False


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
