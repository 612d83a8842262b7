"""The one thread of a GPU's sessions: ONNX Runtime keeps a captured graph for the thread that made it."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """Runs what any thread brings, one piece of work after another.

    On another thread than its own a captured graph would be captured anew, which runs it three times over a
    state that each run moves on: a wrong picture without an error.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "onnxsd-gpu", initializer=self._begin)
        self._ident: int | None = None
        self._stopping = threading.Event()

    def run(self, work: Callable[[], T]) -> T:
        """The result of `work`; Ctrl-C meanwhile ends it at its next `check`, and then ends this call."""
        if threading.get_ident() == self._ident:
            return work()
        found = self._pool.submit(work)
        try:
            return found.result()
        except BaseException:
            if not found.done():
                self._stopping.set()
                concurrent.futures.wait([found])
                self._stopping.clear()
            raise

    def check(self) -> None:
        """Called by work now and then: raises where whoever waits for it has been interrupted."""
        if self._stopping.is_set():
            raise KeyboardInterrupt

    def _begin(self) -> None:
        self._ident = threading.get_ident()
