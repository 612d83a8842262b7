"""One process of the bench, from this side: started, asked, ended; what it wrote is kept for its failure."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxsd

LOG_LINES = 12
QUIT_TIMEOUT_S = 10.0
# How the lines begin that `serve` writes.
ANSWERS = ('{"answer": ', '{"error": ')
# Another interpreter need not have onnxsd: the package is given by its folder, and only it, since the folder
# above may hold packages that this interpreter alone can use.
_START = """
import importlib.util, os, sys
folder, module = sys.argv[1:]
spec = importlib.util.spec_from_file_location(
    "onnxsd", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
)
package = sys.modules["onnxsd"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from onnxsd.bench.contenders.serve import main
main(module)
"""


class Failed(Exception):  # noqa: N818  (not an error here: a row of the report)
    """A child could not do what it was asked; `missing` where what it measures is not installed."""

    def __init__(
        self, text: str, *, missing: bool = False, out_of_memory: bool = False, exit_code: int = 1
    ) -> None:
        super().__init__(text)
        self.text = text
        self.missing = missing
        self.out_of_memory = out_of_memory
        # What the command line would have exited with.
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How children are started: their interpreter, their environment, where their logs go."""

    module: str
    log: Path
    python: str = sys.executable
    environment: Mapping[str, str] | None = None


class Child:
    """A running child. Use it in a `with` block, or `end` it."""

    def __init__(self, command: Command) -> None:
        self.started = time.perf_counter()
        self.peak_host_bytes: int | None = None
        self._log = command.log
        self._answers: queue.Queue[str | None] = queue.Queue()
        package = str(Path(onnxsd.__file__).parent)
        try:
            with command.log.open("wb") as log:
                self._process = subprocess.Popen(
                    [command.python, "-c", _START, package, command.module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    encoding="utf-8",
                    env={**os.environ, **(command.environment or {})},
                    # Ctrl-C is this process's to hear: it ends its children in order.
                    start_new_session=True,
                )
        except OSError as error:
            raise Failed(f"cannot start {command.python}: {error.strerror or error}") from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def alive(self) -> bool:
        """Whether it can be asked for more."""
        return self._process.poll() is None

    def ask(self, command: str, *, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        """What the child answers to a command.

        Raises:
            Failed: it refused, ended, or did not answer in time (then it is ended).
        """
        request = json.dumps({"command": command, **arguments})
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._ended(command) from None
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.kill()
            raise Failed(f"no answer to `{command}` within {timeout_s:g} s") from None
        if line is None:
            raise self._ended(command)
        said = json.loads(line)
        self.peak_host_bytes = said["peak_host_bytes"]
        if "error" in said:
            raise Failed(**said["error"])
        answer: dict[str, Any] = said["answer"]
        return answer

    def end(self) -> None:
        """Ask it to quit, and end it where it does not."""
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write('{"command": "quit"}\n')
            self._process.stdin.close()
        try:
            self._process.wait(QUIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close()

    def kill(self) -> None:
        """End it now, with the processes that it started (torch's compilers)."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        """Let the pipes go; a process that it left behind may hold the other end of one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._reader.join(QUIT_TIMEOUT_S)
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if not self._reader.is_alive():
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ANSWERS):  # an interpreter may print before our code runs
                self._answers.put(line)
        self._answers.put(None)

    def _ended(self, command: str) -> Failed:
        try:
            code = self._process.wait(QUIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:  # it closed its stdout, and lives
            self.kill()
            code = self._process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        text = self._log.read_text(encoding="utf-8", errors="replace").strip()
        tail = " / ".join(line.strip() for line in text.splitlines()[-LOG_LINES:] if line.strip())
        return Failed(f"ended with {how} during `{command}`" + (f": {tail[-1500:]}" if tail else ""))
