"""The child process of the probe, run as text by any Python: make a session, run it, answer in JSON.

Arguments: the model's path and the provider's name. Uses nothing of onnxsd.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    """Answer on what was stdout; whatever onnxruntime prints goes to stderr, the native log."""
    sys.path[:] = [entry for entry in sys.path if entry]  # the current folder is not this environment's
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    answer: dict[str, Any] = {
        "outcome": "ran",
        "runtime_version": None,
        "available_providers": [],
        "session_providers": [],
        "outputs": [],
        "message": "",
    }
    try:
        run(answer, *sys.argv[1:3])
    except Exception as error:  # noqa: BLE001  (whatever onnxruntime raises is the answer)
        answer["message"] = f"{type(error).__name__}: {error}"
        if answer["outcome"] == "ran":
            answer["outcome"] = "refused"
    os.write(answer_fd, json.dumps(answer).encode())


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
    x = numpy.sin(numpy.arange(256, dtype=numpy.float32)).reshape(1, 4, 8, 8)
    (y,) = session.run(None, {"x": x})
    answer["outputs"] = [float(value) for value in y.ravel()[:8]]


if __name__ == "__main__":
    main()
