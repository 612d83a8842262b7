"""Copies of what a wheel is made from, and builds of them by the hooks that pip calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Where the native library lies, in a wheel and in a source tree.
LIBRARY = "onnxsd/kernels/_operators.dll" if sys.platform == "win32" else "onnxsd/kernels/_operators.so"
BESIDE = (
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "MANIFEST.in",
    "LICENSE",
    "README.md",
    "compat_matrix.yaml",
)
# What decides how native/ is compiled; a build sees only what its test names.
DECIDING = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "LDSHARED", "ONNXSD_REQUIRE_NATIVE")
# On other systems setup.py compiles nothing: ONNX Runtime has no CUDA there.
_COMPILERS = ("c++", "g++", "clang++") if sys.platform in ("linux", "win32") else ()
COMPILER = os.environ.get("CXX") or next(filter(shutil.which, _COMPILERS), None)
needs_compiler = pytest.mark.skipif(
    not COMPILER and os.environ.get("ONNXSD_REQUIRE_NATIVE") != "1", reason="there is no C++ compiler"
)

_LEFT_BY_BUILDS = shutil.ignore_patterns("__pycache__", "*.egg-info", "_operators.*")
_HOOK = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def copy_whole(there: Path) -> Path:
    """A copy of all that the wheel is made from, without what an earlier build left."""
    _copy_beside(there)
    shutil.copytree(ROOT / "onnxsd", there / "onnxsd", ignore=_LEFT_BY_BUILDS)
    return there


def copy_of_kernels(there: Path) -> Path:
    """A copy with no more of the package than its version and the kernels: it builds in a second."""
    _copy_beside(there)
    for name in ("__init__.py", "machine/built_from.py"):
        (there / "onnxsd" / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "onnxsd" / name, there / "onnxsd" / name)
    (there / "onnxsd" / "machine" / "__init__.py").touch()
    shutil.copytree(ROOT / "onnxsd" / "kernels", there / "onnxsd" / "kernels", ignore=_LEFT_BY_BUILDS)
    return there


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build left: the file that it names, or None where it failed, and what it said."""

    file: Path | None
    log: str


def build(hook: str, source: Path, out: Path, *, before: str = "", **environment: str) -> Built:
    """Call a hook (`build_wheel`, `build_sdist`, `build_editable`) on a source tree, as pip does.

    Args:
        before: Python that the building process runs first.
    """
    out.mkdir(parents=True, exist_ok=True)
    known = {name: value for name, value in os.environ.items() if name not in DECIDING}
    done = subprocess.run(
        [sys.executable, "-c", f"{before}\n{_HOOK}", hook, str(out)],
        cwd=source,
        env={**known, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    log = done.stdout + done.stderr
    return Built(file=None if done.returncode else out / done.stdout.splitlines()[-1], log=log)


def _copy_beside(there: Path) -> None:
    there.mkdir(parents=True)
    for name in BESIDE:
        shutil.copy(ROOT / name, there)
    shutil.copytree(ROOT / "native", there / "native")
