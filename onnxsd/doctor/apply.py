"""Runs a plan's commands: the one place of the doctor that changes a machine."""

from __future__ import annotations

import enum
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from onnxsd.doctor.actions import Step
from onnxsd.doctor.finding import Diagnosis, Finding, Severity
from onnxsd.errors import NotReadyError

_STDERR = 2  # stdout is for the answer
_KEPT_BYTES = 1 << 16  # of what a failed command wrote last
_GRACE_S = 10.0  # an interrupted pip rolls back what it had begun
_SIGNALLED = 130
# What pip and uv write where the disk, the network or a permission stood in the way, and not the packages.
_RESOURCES = re.compile(
    r"No space left on device|Disk quota exceeded|Permission denied|Read-only file system"
    r"|Could not install packages due to an OSError|Operation not permitted"
    r"|NewConnectionError|Connection refused|Connection reset|Connection broken|Network is unreachable"
    r"|Temporary failure in name resolution|Name or service not known|getaddrinfo failed|dns error"
    r"|Read timed out|Connect timeout|timed out|ProxyError|SSLError|CERTIFICATE_VERIFY_FAILED"
    r"|error sending request|nodename nor servname",
    re.IGNORECASE,
)


class Ending(enum.Enum):
    """How running a plan came to its end."""

    DONE = "done"
    FAILED = "failed"  # a command said no
    NO_RESOURCE = "no-resource"  # the disk, the network or a permission did
    NOT_FOUND = "not-found"  # there is no such program
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was done of a plan; all but `done` is empty where everything was."""

    ending: Ending
    done: tuple[Step, ...]
    stopped_at: Step | None = None
    code: int | None = None  # of the command that failed
    said: str = ""  # the end of what it wrote to stderr
    left: tuple[Step, ...] = ()  # not begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What differs between two diagnoses."""

    gone: tuple[Finding, ...]
    new: tuple[Finding, ...]
    stayed: tuple[Finding, ...]


def run(steps: Sequence[Step], *, announce: Callable[[int, Step], None]) -> Applied:
    """Run the commands one after the other, their output on stderr as it comes, until one fails.

    Args:
        announce: is told the number, from 0, and the step before each.
    """
    for at, step in enumerate(steps):
        announce(at, step)
        ending, code, said = _run_one(step.argv)
        if ending is not Ending.DONE:
            done, left = tuple(steps[:at]), tuple(steps[at + 1 :])
            return Applied(ending=ending, done=done, stopped_at=step, code=code, said=said, left=left)
    return Applied(ending=Ending.DONE, done=tuple(steps))


def compare(before: Diagnosis, after: Diagnosis) -> Change:
    """Which findings went, came and stayed; the same finding with other figures stayed."""
    here, there = _problems(before), _problems(after)
    return Change(
        gone=tuple(one for one in here if one.id not in {other.id for other in there}),
        new=tuple(one for one in there if one.id not in {other.id for other in here}),
        stayed=tuple(one for one in there if one.id in {other.id for other in here}),
    )


def refuse_where_the_system_owns(diagnosis: Diagnosis) -> None:
    """Raise where this Python belongs to the operating system (PEP 668): its files are not ours to change.

    Raises:
        NotReadyError: names the commands that make an environment of one's own.
    """
    python = diagnosis.machine.python
    if not python.externally_managed:
        return
    raise NotReadyError(
        f"asked to change {python.executable}, which belongs to the operating system (PEP 668)",
        hint="make an environment of your own and run it there: "
        f"{python.executable} -m venv .venv && .venv/bin/python -m pip install onnxsd && "
        ".venv/bin/onnxsd doctor --apply",
    )


def _run_one(argv: tuple[str, ...]) -> tuple[Ending, int | None, str]:
    try:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=_STDERR, stderr=subprocess.PIPE)
    except FileNotFoundError as error:
        return Ending.NOT_FOUND, None, str(error)
    except OSError as error:
        return Ending.NO_RESOURCE, None, str(error)
    assert child.stderr is not None
    tail = _Tail(child.stderr)
    try:
        code = child.wait()
    except KeyboardInterrupt:
        _let_it_clean_up(child)
        return Ending.INTERRUPTED, child.returncode, tail.text()
    said = tail.text()
    if code == 0:
        return Ending.DONE, code, said
    if code in (-signal.SIGINT, _SIGNALLED):
        return Ending.INTERRUPTED, code, said
    return (Ending.NO_RESOURCE if _RESOURCES.search(said) else Ending.FAILED), code, said


def _let_it_clean_up(child: subprocess.Popen[bytes]) -> None:
    """Wait for an interrupted command; a terminal has sent it the signal too, `kill` has not."""
    try:
        child.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)
    try:
        child.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class _Tail:
    """Passes a command's stderr on as it comes, and keeps its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._kept = b""
        self._thread = threading.Thread(target=self._pass_on, args=(stream,), daemon=True)
        self._thread.start()

    def text(self) -> str:
        """The end of all that was written, once the command has closed its end."""
        self._thread.join(timeout=_GRACE_S)
        return self._kept.decode("utf-8", errors="replace")

    def _pass_on(self, stream: IO[bytes]) -> None:
        with stream:
            while chunk := os.read(stream.fileno(), 4096):
                os.write(_STDERR, chunk)
                self._kept = (self._kept + chunk)[-_KEPT_BYTES:]


def _problems(diagnosis: Diagnosis) -> list[Finding]:
    return [one for one in diagnosis.findings if one.severity in (Severity.ERROR, Severity.WARNING)]
