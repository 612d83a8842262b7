"""The child process of torch's probe, run as text by any Python: each line answers a little more.

Uses nothing of onnxsd, and words of Python 3.8.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import Any


def main() -> None:
    """Answer on what was stdout, line by line: what crashes later must not take along what is known."""
    sys.path[:] = [entry for entry in sys.path if entry]  # the current folder is not this environment's
    answer_fd = os.dup(1)
    os.dup2(2, 1)

    def tell(**answer: Any) -> None:
        os.write(answer_fd, json.dumps({"answer": answer}).encode() + b"\n")

    if importlib.util.find_spec("torch") is None:
        tell(outcome="not-installed")
        return
    try:
        import torch
    except Exception as error:  # noqa: BLE001  (whatever the import raises is the answer)
        tell(outcome="import-failed", message=f"{type(error).__name__}: {error}")
        return
    try:
        tell(version=str(torch.__version__), cuda=torch.version.cuda)
        tell(cuda_available=bool(torch.cuda.is_available()))
        tell(cudnn=torch.backends.cudnn.version())
    except Exception as error:  # noqa: BLE001  (a namespace called torch; a cuDNN that does not fit)
        tell(outcome="refused", message=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
