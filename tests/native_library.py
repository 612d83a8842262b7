"""For tests that load the built native library: they skip where there is none, unless it is required."""

from __future__ import annotations

import os
import shutil
import sys

import pytest
from package_builds import LIBRARY, ROOT

PATH = ROOT / LIBRARY
# On other systems setup.py compiles nothing: ONNX Runtime has no CUDA there.
_NAMES = ("c++", "g++", "clang++") if sys.platform in ("linux", "win32") else ()
COMPILER = os.environ.get("CXX") or next(filter(shutil.which, _NAMES), None)
_REQUIRED = os.environ.get("ONNXSD_REQUIRE_NATIVE") == "1"

needs_library = pytest.mark.skipif(
    not (PATH.exists() or _REQUIRED),
    reason="the native library was not built: `pip install -e .` with a C++ compiler builds it",
)
needs_compiler = pytest.mark.skipif(not (COMPILER or _REQUIRED), reason="there is no C++ compiler")
