"""The facts that depend on an interpreter: of this one, or of another that reads them with the same code.

The readers are the `*_child` modules. This process calls them; another Python is given their text, since
onnxsd is not installed there.
"""

from __future__ import annotations

import json
import re
import shutil
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

from onnxsd.errors import UsageError
from onnxsd.machine import damage_child, modules_child, packages_child, processes, python_child
from onnxsd.machine.processes import Finished

OLDEST = (3, 8)  # whose words the readers are written in
TIMEOUT_S = 20.0
_READERS: tuple[ModuleType, ...] = (python_child, packages_child, damage_child, modules_child)
_MARK = "\x1eonnxsd\x1e"  # before the answer: what else runs when a Python starts may print, too
_RUN_TEXTS = f"""
import json, sys, types
readers = []
for name, text in json.load(sys.stdin):
    readers.append(types.ModuleType(name))
    exec(compile(text, name, "exec"), readers[-1].__dict__)
sys.stdout.write({_MARK!r} + json.dumps(readers[0].read_all(readers)))
"""


def here() -> dict[str, Any]:
    """What this interpreter says of itself and its packages, as plain values."""
    return python_child.read_all(_READERS)


def of(python: str, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """What another interpreter says of itself and its packages.

    Raises:
        UsageError: it is not there, is no Python, is too old, or does not answer.
    """
    executable = locate(python)
    _require_python(executable, timeout_s=timeout_s)
    package = resources.files("onnxsd.machine")
    names = [reader.__name__.rpartition(".")[2] + ".py" for reader in _READERS]
    texts = [(name, (package / name).read_text(encoding="utf-8")) for name in names]
    done = _run([executable, "-c", _RUN_TEXTS], timeout_s=timeout_s, stdin=json.dumps(texts).encode())
    _, mark, answer = _text(done.stdout).rpartition(_MARK)
    if done.code != 0 or not mark:
        said = _text(done.stderr).strip().splitlines() or [f"it ended with exit code {done.code}"]
        raise UsageError(f"--python {python}: could not look at its environment: {said[-1]}")
    known: dict[str, Any] = json.loads(answer)
    return known


def locate(python: str) -> str:
    """The program's path; a bare name is searched as a shell would."""
    found = shutil.which(python)
    if found is None:
        inside = next((file for file in _inside(Path(python)) if file.is_file()), None)
        hint = f"it is a folder: name {inside}" if inside else "name a Python interpreter"
        raise UsageError(f"--python {python}: there is no such program", hint=hint)
    return found


def _inside(folder: Path) -> tuple[Path, ...]:
    return (folder / "bin" / "python", folder / "Scripts" / "python.exe")


def _require_python(executable: str, *, timeout_s: float) -> None:
    """Ask for its version first: a program that is no Python must not be handed code."""
    done = _run([executable, "--version"], timeout_s=timeout_s)
    said = _text(done.stdout + done.stderr).strip()
    found = re.match(r"Python (\d+)\.(\d+)", said)
    if found is None:
        first = said.splitlines()[0][:80] if said else "nothing"
        raise UsageError(
            f"--python {executable}: is no Python: asked for its version, it says {first!r}",
            hint="name a Python interpreter, for example venv/bin/python",
        )
    version = (int(found.group(1)), int(found.group(2)))
    if version < OLDEST:
        raise UsageError(
            f"--python {executable}: is Python {version[0]}.{version[1]}, and environments can be read "
            f"from {OLDEST[0]}.{OLDEST[1]} on",
            hint="make an environment with a newer Python",
        )


def _run(command: list[str], *, timeout_s: float, stdin: bytes = b"") -> Finished:
    try:
        done = processes.run(command, timeout_s=timeout_s, stdin=stdin)
    except OSError as error:
        raise UsageError(f"--python {command[0]}: cannot be started: {error.strerror or error}") from error
    if done.code is None:
        raise UsageError(f"--python {command[0]}: no answer within {timeout_s:g} s")
    return done


def _text(output: bytes) -> str:
    return output.decode("utf-8", errors="replace")
