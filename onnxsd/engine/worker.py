"""The one thread of a GPU's sessions: ONNX Runtime keeps a captured graph for the thread that made it."""

from __future__ import annotations

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
        self._pool = ThreadPoolExecutor(1, "onnxsd-gpu")
        self._ident: int | None = None
        # Set to end the work that is running; each piece has its own.
        self._stop = threading.Event()

    def run(self, work: Callable[[], T]) -> T:
        """The result of `work`; Ctrl-C meanwhile ends it at its next `check`, and then ends this call."""
        if threading.get_ident() == self._ident:
            return work()
        stop, ended = threading.Event(), threading.Event()
        try:
            return self._pool.submit(self._begin, work, stop, ended).result()
        except BaseException:
            if not ended.is_set():
                stop.set()
                # Not the work's own future: the interruption may have come before there was one. What follows
                # it in the queue has its turn when it has ended, or was never there.
                self._pool.submit(_nothing).result()
            raise

    def check(self) -> None:
        """Called by work now and then: raises where whoever waits for it has been interrupted."""
        if self._stop.is_set():
            raise KeyboardInterrupt

    def _begin(self, work: Callable[[], T], stop: threading.Event, ended: threading.Event) -> T:
        self._ident, self._stop = threading.get_ident(), stop
        try:
            self.check()
            return work()
        finally:
            ended.set()


def _nothing() -> None:
    """What is waited for to know that all before it is done."""
