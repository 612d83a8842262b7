"""The child process of the probe, run as text by any Python: make sessions, run them, answer in JSON.

Arguments: the provider's name, then each graph's name and path. Uses nothing of onnxsd, and words of
Python 3.8.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

# The file names of the libraries whose place matters: of which copy did the loader take them?
_LOADED = re.compile(
    r"/lib(?:cudart|cublas|cublasLt|cudnn|cufft|curand|nvrtc|nvJitLink|nvinfer|cuda)\.so[.\d]*$"
)
_NO_SUCH_OPERATOR = re.compile(
    r"not a registered function/op|No Op registered for|Fatal error: com\.microsoft"
)


def main() -> None:
    """Answer on what was stdout, line by line; whatever onnxruntime prints goes to stderr, the native log."""
    sys.path[:] = [entry for entry in sys.path if entry]  # the current folder is not this environment's
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    provider, graphs = sys.argv[1], sys.argv[2:]
    for graph, path in [graphs[at : at + 2] for at in range(0, len(graphs), 2)]:
        answer = attempt(provider, graph, path)
        sys.stdout.flush()
        sys.stderr.flush()
        answer["log_end"] = _log_length()
        os.write(answer_fd, json.dumps({"answer": answer}).encode() + b"\n")
        if answer["outcome"] != "ran":
            break


def attempt(provider: str, graph: str, path: str) -> dict[str, Any]:
    """What came of one session."""
    answer: dict[str, Any] = {
        "graph": graph,
        "outcome": "ran",
        "runtime_version": None,
        "available_providers": [],
        "session_providers": [],
        "outputs": [],
        "message": "",
        "loaded": [],
    }
    try:
        run(answer, path, provider)
    except Exception as error:  # noqa: BLE001  (whatever onnxruntime raises is the answer)
        answer["message"] = f"{type(error).__name__}: {error}"
        if answer["outcome"] == "ran":
            unknown = graph != "plain" and _NO_SUCH_OPERATOR.search(str(error))
            answer["outcome"] = "unsupported" if unknown else "refused"
    answer["loaded"] = _loaded()
    return answer


def run(answer: dict[str, Any], path: str, provider: str) -> None:
    """Fill in the answer as far as it goes; an exception ends it there."""
    import importlib.util

    if importlib.util.find_spec("onnxruntime") is None:
        answer["outcome"] = "not-installed"
        return
    answer["outcome"] = "import-failed"
    import numpy
    import onnxruntime

    answer["runtime_version"] = onnxruntime.__version__
    answer["available_providers"] = onnxruntime.get_available_providers()
    answer["outcome"] = "ran"
    options = onnxruntime.SessionOptions()
    if provider != "CPUExecutionProvider":
        # Without this, onnxruntime puts every node on the CPU when the provider cannot load.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(path, options, providers=[provider])
    answer["session_providers"] = session.get_providers()
    if provider not in session.get_providers():
        answer["outcome"] = "fell-back"
        return
    (y,) = session.run(None, {one.name: _wave(numpy, one.shape) for one in session.get_inputs()})
    answer["outputs"] = [float(value) for value in y.ravel()[:8]]


def _wave(numpy: Any, shape: list[int]) -> Any:
    """Numbers without a random generator, the same on every machine."""
    count = int(numpy.prod(shape))
    return numpy.sin(numpy.arange(count, dtype=numpy.float32)).reshape(shape)


def _log_length() -> int | None:
    """How long the log is by now, where it is a file."""
    try:
        return os.lseek(2, 0, os.SEEK_CUR)
    except OSError:
        return None


def _loaded() -> list[str]:
    """The CUDA libraries in this process, where the system tells."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    paths = dict.fromkeys(line[line.find("/") :] for line in lines if "/lib" in line)
    return [path for path in paths if _LOADED.search(path)]


if __name__ == "__main__":
    main()
