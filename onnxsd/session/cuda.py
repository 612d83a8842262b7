"""Whether the installed ONNX Runtime can be asked for CUDA at all, before any session is made."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from typing import Any

from onnxsd.errors import ProviderFallbackError
from onnxsd.session import runtime
from onnxsd.session.native_log import first_reason
from onnxsd.session.settings import Provider

ASKED = "asked for cuda, but "
_DOCTOR = "run `onnxsd doctor --for generate` to see why and what to install"
# What says that the provider itself did not start, as opposed to a graph that it cannot run.
_NOT_STARTED = re.compile(
    r"Failed to create CUDAExecutionProvider|Failed to load library|cannot open shared object"
    r"|undefined symbol|CUDA_PATH is set but|LoadLibrary failed|which depends on .* which is missing"
    r"|driver version is insufficient|InsufficientDriver|no CUDA-capable device|invalid device ordinal"
    r"|Invalid device ID"
    r"|no kernel image is available"
    r"|CUDA failure (?:3|35|36|46|100|101|209|222|802|803|804|999):"
)


def require() -> str:
    """What loading the CUDA libraries had to say (mostly nothing); an error where there is no CUDA build."""
    module = runtime.load()
    installed = runtime.available()
    if Provider.CUDA.runtime_name not in installed.providers:
        raise ProviderFallbackError(
            f"{ASKED}{installed} was built without it (it has {', '.join(installed.providers)})",
            hint=_replacement(installed),
        )
    runtime.require_cuda_floor(installed)
    return _preload(module)


def not_started(reason: str | None) -> ProviderFallbackError:
    """The error for a CUDA provider that did not start, with ONNX Runtime's own reason."""
    said = reason or "ONNX Runtime gives no reason"
    return ProviderFallbackError(f"{ASKED}its provider did not start: {said}", hint=_DOCTOR)


def says_not_started(text: str) -> bool:
    """Whether a native log or an error text says that the CUDA provider did not start."""
    return bool(_NOT_STARTED.search(text))


def reason_in(*texts: str) -> str | None:
    """The most telling line of several logs."""
    return first_reason("\n".join(texts))


def _replacement(installed: runtime.Runtime) -> str:
    names = " ".join(package.name for package in installed.packages) or "onnxruntime"
    return (
        f"pip uninstall -y {names}, then pip install 'onnxruntime-gpu[cuda,cudnn]'; "
        "`onnxsd doctor` names the wheel for this machine"
    )


@functools.cache
def _preload(module: Any) -> str:
    """Load the CUDA and cuDNN libraries of pip's nvidia packages; it prints what it could not load."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        module.preload_dlls()
    return printed.getvalue()
