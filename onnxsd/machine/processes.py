"""Runs a program to its end or to its time limit, whatever it leaves behind."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended, and what it wrote."""

    code: int | None  # None: it did not end in its time, and was ended
    stdout: bytes
    stderr: bytes


def run(command: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Finished:
    """Run one program; it reads and writes files.

    A pipe that its own children keep open would hold this process up after its end.

    Raises:
        OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        told.write(stdin)
        told.seek(0)
        try:
            done = subprocess.run(command, stdin=told, stdout=out, stderr=err, timeout=timeout_s, check=False)
            code: int | None = done.returncode
        except subprocess.TimeoutExpired:
            code = None
        return Finished(code=code, stdout=_content(out), stderr=_content(err))


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
