"""Reads facts one by one: one that cannot be read is recorded with its reason, and the rest still are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from onnxsd.machine.facts import Unreadable

T = TypeVar("T")

_REASON_LIMIT = 500  # characters


class Reader:
    """Reads facts one by one and keeps the reasons for those that it could not."""

    def __init__(self) -> None:
        self.unreadable: list[Unreadable] = []

    def read(self, fact: str, collect: Callable[[], T], absent: T) -> T:
        """What `collect` gives, or `absent` with the reason on record."""
        try:
            return collect()
        except Exception as error:  # noqa: BLE001  (one fact of many may fail alone, and is recorded)
            self.note(fact, f"{type(error).__name__}: {error}")
            return absent

    def note(self, fact: str, reason: str) -> None:
        """Record why a fact, or a part of it, could not be read."""
        self.unreadable.append(Unreadable(fact=fact, reason=readable(reason)[:_REASON_LIMIT]))


class Background(Generic[T]):
    """A collector at work in a thread that nothing waits for past its time: a driver may never answer."""

    def __init__(self, collect: Callable[[], T]) -> None:
        self._answer: list[T] = []
        self._error: list[Exception] = []
        self._collect = collect
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, timeout_s: float) -> T:
        """What was collected; raises what the collector raised, or TimeoutError."""
        self._thread.join(timeout_s)
        if self._error:
            raise self._error[0]
        if not self._answer:
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        return self._answer[0]

    def _run(self) -> None:
        try:
            self._answer.append(self._collect())
        except Exception as error:  # noqa: BLE001  (raised again where the result is asked for)
            self._error.append(error)


def readable(text: str) -> str:
    """Text that can be printed and written as UTF-8: undecodable bytes of file names become `\\xff`."""
    return os.fsencode(text).decode("utf-8", errors="backslashreplace")
