"""How far a long command is: a bar on a terminal, plain lines in a pipe; always on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

# In a pipe, a line for every such share of the work.
PIPE_SHARE = 0.25


class ExportProgress:
    """Tells the stages of an export, and the bytes of weights that are written."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._started = time.perf_counter()

    def stage(self, text: str) -> None:
        """A step begins."""
        if self._progress is None:
            click.echo(f"[{time.perf_counter() - self._started:6.1f} s] {text}", err=True)
        elif self._task is None:
            self._progress.console.print(text)
        else:
            self._progress.update(self._task, description=text)

    def total(self, size_bytes: int) -> None:
        """So many bytes of weights will be written."""
        if self._progress is not None:
            self._task = self._progress.add_task("writing", total=size_bytes)

    def wrote(self, size_bytes: int) -> None:
        """So many bytes were written."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, size_bytes)


class StepProgress:
    """Tells the steps of a denoising loop."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._started = time.perf_counter()
        self._told = 0.0

    def step(self, done: int, steps: int) -> None:
        """So many steps of so many are done."""
        if self._progress is None:
            self._tell_line(done, steps)
            return
        if self._task is None or done == 1:
            self._task = self._progress.add_task("denoising", total=steps)
        self._progress.update(self._task, completed=done)

    def _tell_line(self, done: int, steps: int) -> None:
        if done == 1:
            self._started, self._told = time.perf_counter(), 0.0
        if done / steps < self._told + PIPE_SHARE and done != steps:
            return
        self._told = done / steps
        passed = time.perf_counter() - self._started
        # The first step's own time is not in `passed`.
        rate = passed / (done - 1) if done > 1 else 0.0
        click.echo(f"step {done} of {steps}, about {rate * (steps - done):.0f} s left", err=True)


@contextmanager
def export_progress() -> Iterator[ExportProgress]:
    """Progress of an export, shown as suits stderr."""
    with _shown(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    ) as shown:
        yield ExportProgress(shown)


@contextmanager
def step_progress() -> Iterator[StepProgress]:
    """Progress of a denoising loop, shown as suits stderr."""
    with _shown(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as shown:
        yield StepProgress(shown)


@contextmanager
def _shown(
    *columns: TextColumn | BarColumn | DownloadColumn | MofNCompleteColumn | TimeRemainingColumn,
) -> Iterator[Progress | None]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(*columns, console=console, transient=True) as progress:
        yield progress
