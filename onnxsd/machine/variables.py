"""The environment variables that change what is loaded, seen or installed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from onnxsd.machine.facts import Variable
from onnxsd.machine.reader import readable

_RECORDED = re.compile(
    r"CUDA_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES|NVIDIA_DRIVER_CAPABILITIES|NVIDIA_REQUIRE_CUDA|"
    r"NVIDIA_DISABLE_REQUIRE|NVIDIA_TF32_OVERRIDE|LD_LIBRARY_PATH|LD_PRELOAD|CUDA_PATH|CUDA_HOME|CUDA_VERSION|"
    r"CUDNN_PATH|CUDA_MODULE_LOADING|CUDA_DEVICE_ORDER|CUDA_LAUNCH_BLOCKING|CUDA_CACHE_PATH|CUDA_MPS_\w+|"
    r"PYTHONPATH|PYTHONHOME|PYTHONNOUSERSITE|PYTHONSAFEPATH|CONDA_PREFIX|CONDA_DEFAULT_ENV|VIRTUAL_ENV|"
    r"PIP_(?:USER|TARGET|PREFIX|NO_DEPS|PLATFORM|ONLY_BINARY|NO_BINARY|PRE|REQUIRE_VIRTUALENV|BREAK_SYSTEM_PACKAGES)|"
    r"TF_FORCE_GPU_ALLOW_GROWTH|HF_HUB_OFFLINE|ORT_\w+|ORTPY_\w+|PYTORCH_\w+"
)
# Addresses, which may hold a name and a password, and tokens: that they are set is all that is kept.
_ONLY_SET = re.compile(r"PIP_(?:EXTRA_)?INDEX_URL|PIP_FIND_LINKS|UV_\w*INDEX\w*|HTTPS?_PROXY|HF_TOKEN")


def variables(environ: Mapping[str, str]) -> tuple[Variable, ...]:
    """Those that are set, in the order of their names."""
    return tuple(
        Variable(name=name, value="set" if _ONLY_SET.fullmatch(name) else readable(environ[name]))
        for name in sorted(environ)
        if _RECORDED.fullmatch(name) or _ONLY_SET.fullmatch(name)
    )
