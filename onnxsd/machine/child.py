"""Runs a probe in a process of its own, so that a crash or a hang of an import is a fact like others."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from importlib import resources
from typing import Any

from onnxsd.machine import processes

# The first CUDA session on a cold disk loads gigabytes of libraries; what takes longer than this hangs.
TIMEOUT_S = 60.0
_LOG_LIMIT = 4000  # characters
_HOST = re.compile(r"\bhostname=[^\s;]+")  # onnxruntime puts it into each error of CUDA
_TERMINAL_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a child answered, one mapping per line, and how it ended."""

    answers: tuple[dict[str, Any], ...]
    fault: str  # why it ended before it was done; empty where it was done
    hung: bool
    log: bytes  # all that it and its libraries wrote

    def log_text(self, start: int = 0, end: int | None = None) -> str:
        """A part of the log, without colours and this machine's name; of a long one its end."""
        text = self.log[start:end].decode("utf-8", errors="replace")
        return without_host(_TERMINAL_COLOUR.sub("", text).strip())[-_LOG_LIMIT:]


def without_host(text: str) -> str:
    """A text of onnxruntime without the machine's name: saved facts go into bug reports."""
    return _HOST.sub("hostname=…", text)


def source(name: str) -> str:
    """The text of one of this package's modules that run in a child."""
    return (resources.files("onnxsd.machine") / name).read_text(encoding="utf-8")


def run_text(text: str, *arguments: str, python: str | None = None, timeout_s: float = TIMEOUT_S) -> Ended:
    """Run a module's text in another Python, or in one like this."""
    return run_child([python or sys.executable, "-c", text, *arguments], timeout_s=timeout_s)


def run_child(command: list[str], *, timeout_s: float) -> Ended:
    """Run one child to its end, or to its time limit, and read what it said."""
    done = processes.run(command, timeout_s=timeout_s)
    hung = done.code is None
    return Ended(
        answers=_answers(done.stdout),
        fault=f"no answer within {timeout_s:g} s" if hung else _describe_end(done.code or 0),
        hung=hung,
        log=done.stderr,
    )


def _answers(output: bytes) -> tuple[dict[str, Any], ...]:
    """The answers among the lines; a module that prints on import may have written others."""
    lines = output.splitlines()
    return tuple(json.loads(line)["answer"] for line in lines if line.startswith(b'{"answer": '))


def _describe_end(code: int) -> str:
    if code == 0:
        return ""
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
