"""The child's side: reads a command a line, runs it, answers a line; `main` is where a child starts.

Whatever else is printed, by Python or by a native library, goes to stderr: the bench keeps it as a log.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import IO, Any

# What torch's and our own errors are called when the device has no memory left.
_OUT_OF_MEMORY = ("OutOfMemoryError", "DeviceMemoryError")


def main(module: str) -> None:
    """Answer commands until stdin ends or `quit` comes; `load` makes what answers the others.

    Args:
        module: the file beside this one whose `load` is asked for.
    """
    answers = _own_stdout()
    holder: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("command")
        if name == "quit":
            break
        try:
            if name == "load":
                holder, answer = importlib.import_module(f"onnxsd.bench.contenders.{module}").load(**request)
            elif name == "import":
                answer = {"found": [importlib.import_module(needed).__name__ for needed in request["names"]]}
            else:
                answer = getattr(holder, name)(**request)
            said: dict[str, Any] = {"answer": answer}
        except Exception as error:  # noqa: BLE001  (of any library; it becomes a row of the report)
            traceback.print_exc()
            said = {"error": _described(error)}
            if holder is not None:
                holder.forget()
        said["peak_host_bytes"] = _peak_host_bytes()
        answers.write(json.dumps(said) + "\n")
        answers.flush()
    sys.stderr.flush()
    # The process holds nothing that needs an orderly end, and GPU libraries take seconds in theirs.
    os._exit(0)


def _own_stdout() -> IO[str]:
    """A file on what was stdout; from now on descriptor 1 is stderr, for native code too."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def _described(error: Exception) -> dict[str, Any]:
    kind = type(error).__name__
    text = " ".join(str(error).split())
    return {
        "missing": isinstance(error, ImportError),
        "exit_code": getattr(error, "exit_code", 1),
        "out_of_memory": isinstance(error, MemoryError) or kind in _OUT_OF_MEMORY,
        "text": f"{kind}: {text}" if text else kind,
    }


def _peak_host_bytes() -> int | None:
    """The most host memory that this process held; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
