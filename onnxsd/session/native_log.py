"""What native code writes to the process's standard error: ONNX Runtime's reasons are nowhere else."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass

_STDERR = 2
_lock = threading.RLock()
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX = re.compile(r"^.*?\[([VIWEF]):onnxruntime:[^\]]*\]\s*")
_ERROR_CODE = re.compile(r"^.*\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")

# From the most telling to the least: a missing library explains the provider that was not created.
_TELLING = tuple(
    re.compile(pattern)
    for pattern in (
        r"[\w.+-]+\.(?:so[\w.]*|dylib): cannot open shared object file.*",
        r"which depends on \"[^\"]+\" which is missing.*",
        r"undefined symbol: .*",
        r"CUDA driver version is insufficient.*|cudaErrorInsufficientDriver.*",
        r"CU(?:DA|DNN|BLAS) failure \d+.*",
        r"CU(?:DNN|BLAS)_STATUS_(?!SUCCESS)\w+.*",
        r"no CUDA-capable device.*|no kernel image is available.*",
        r"invalid device ordinal.*|Invalid device ID.*",
        r"CUDA_PATH is set but.*",
        r"LoadLibrary failed with error.*",
        r"Failed to load library.*|Failed to load .*\.(?:so|dll).*",
        r"Failed to create CUDAExecutionProvider.*|No registered plugin EP device found.*",
    )
)
# Seen in containers and virtual machines that work (issue 26763 of microsoft/onnxruntime).
_HARMLESS = re.compile(r"device discovery failed|DiscoverDevicesForPlatform", re.IGNORECASE)


@dataclass(slots=True)
class NativeLog:
    """What was written while `capture` was open, without colours; complete once it has closed."""

    text: str = ""


@contextlib.contextmanager
def capture() -> Iterator[NativeLog]:
    """Collect what anything in this process writes to file descriptor 2, Python's own stderr included.

    Lines that ONNX Runtime did not write (another thread's progress bar, say) are written on to the real
    standard error at the end. One thread captures at a time; the same thread may nest.
    """
    log = NativeLog()
    with _lock, tempfile.TemporaryFile() as file:
        _flush_python()
        saved = _duplicate_stderr()
        os.dup2(file.fileno(), _STDERR)
        try:
            yield log
        finally:
            _flush_python()
            if saved is not None:
                os.dup2(saved, _STDERR)
                os.close(saved)
            elif file.fileno() != _STDERR:  # It can be: the lowest free descriptor, where 2 is closed.
                os.close(_STDERR)
            file.seek(0)
            log.text = _COLOUR.sub("", file.read().decode(errors="replace"))
            if saved is not None:
                _write_on(log.text)


def first_reason(text: str) -> str | None:
    """The line of a native log that says most about why a provider did not start, without its prefix."""
    lines = [line for line in text.splitlines() if line.strip() and not _HARMLESS.search(line)]
    for pattern in _TELLING:
        for line in lines:
            if found := pattern.search(line):
                return found.group().strip()
    by_severity = sorted(lines, key=lambda line: "FEWIV".find(severity(line) or "V"))
    return plain(by_severity[0]) if by_severity else None


def severity(line: str) -> str | None:
    """The letter of ONNX Runtime's severity (V, I, W, E or F); `None` for a line that it did not write."""
    found = _PREFIX.match(line)
    return found.group(1) if found else None


def plain(line: str) -> str:
    """A message of ONNX Runtime without time, source file and error code."""
    return _ERROR_CODE.sub("", _PREFIX.sub("", line)).strip()


def _write_on(text: str) -> None:
    foreign = [line for line in text.splitlines() if line.strip() and severity(line) is None]
    if foreign:
        os.write(_STDERR, ("\n".join(foreign) + "\n").encode())


def _duplicate_stderr() -> int | None:
    try:
        return os.dup(_STDERR)
    except OSError:
        return None


def _flush_python() -> None:
    if sys.stderr is not None:
        with contextlib.suppress(ValueError, OSError):
            sys.stderr.flush()
