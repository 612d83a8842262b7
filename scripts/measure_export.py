"""Measure what an export of a full-size checkpoint takes: seconds, peak memory, and the disk's own speed.

Usage: python scripts/make_checkpoint.py sdxl-base-1.0 CHECKPOINT --dtype fp16
       python scripts/measure_export.py CHECKPOINT OUT [--target portable|cuda] [--runs N]

OUT, which must not exist, is written and removed for each run. The checkpoint's pages are dropped from the
cache before each, so that it comes from the disk. Prints a row of Markdown a run, as docs/performance.md has.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

TRIAL_BYTES = 1 << 30
CHUNK_BYTES = 1 << 22
TITLES = ("target", "seconds", "peak memory (MiB)", "CPU seconds", "disk read (MB/s)", "disk write (MB/s)")


def main() -> int:
    """Measure each run that was asked for; the exit code is that of the first export that failed."""
    asked = _arguments()
    if asked.out.exists():
        raise SystemExit(f"{asked.out} exists already: it would be removed")
    print("| " + " | ".join(TITLES) + " |")
    print("|---" * len(TITLES) + "|", flush=True)
    for target in asked.target or ("portable", "cuda"):
        for _ in range(asked.runs):
            reading, writing = _read_speed(asked.checkpoint), _write_speed(asked.out.parent)
            _drop(asked.checkpoint)
            started, before = time.perf_counter(), _cpu_seconds()
            code, peak_bytes = _export(asked.checkpoint, asked.out, target)
            passed, spent = time.perf_counter() - started, _cpu_seconds() - before
            shutil.rmtree(asked.out, ignore_errors=True)
            if code:
                return code
            cells = (passed, peak_bytes / 2**20, spent, reading, writing)
            print(f"| {target} | {' | '.join(f'{cell:.0f}' for cell in cells)} |", flush=True)
    return 0


def _export(checkpoint: Path, out: Path, target: str) -> tuple[int, int]:
    """Exit code and peak memory of one export, which is a process of its own."""
    command = [sys.executable, "-m", "onnxsd", "export", str(checkpoint), str(out), "--target", target]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * 1024  # in KiB on Linux


def _read_speed(checkpoint: Path) -> float:
    """MB/s of reading the largest file of the checkpoint, at most `TRIAL_BYTES` of it, past the cache."""
    largest = max(checkpoint.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    _drop(checkpoint)
    read, started = 0, time.perf_counter()
    with largest.open("rb", buffering=0) as file:
        while read < TRIAL_BYTES and (chunk := file.read(CHUNK_BYTES)):
            read += len(chunk)
    return read / 1e6 / (time.perf_counter() - started)


def _write_speed(folder: Path) -> float:
    """MB/s of writing `TRIAL_BYTES` that reach the disk."""
    trial, chunk = folder / ".write-trial", os.urandom(CHUNK_BYTES)
    started = time.perf_counter()
    try:
        with trial.open("xb") as file:
            for _ in range(TRIAL_BYTES // CHUNK_BYTES):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        return TRIAL_BYTES / 1e6 / (time.perf_counter() - started)
    finally:
        trial.unlink(missing_ok=True)


def _drop(checkpoint: Path) -> None:
    """Let the cached pages of the checkpoint's weights go, which needs no rights."""
    for path in checkpoint.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="a full-size checkpoint's folder")
    parser.add_argument("out", type=Path, help="where to export to; must not exist")
    parser.add_argument("--target", action="append", choices=("portable", "cuda"), help="default: both")
    parser.add_argument("--runs", type=int, default=2, help="of each target (default 2)")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
