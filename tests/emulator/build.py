"""Compiles the kernels' text, as it is, with what stands for a GPU, into a library for this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onnxsd.kernels import source

HERE = Path(__file__).parent
_ENTRY = re.compile(r"__global__\s+void\s+__launch_bounds__\(([^)]*)\)\s*(\w+)\s*\(")
# device.hpp stands for what comes before.
_BEHIND_DEVICE = '#line 1 "arithmetic.cu"'
# As NVRTC does, g++ makes one instruction of a product and a sum (-ffp-contract). A template's variable would
# be one for all libraries of a process, were it not for -fno-gnu-unique; what -nostartfiles leaves out has
# a variable in the .bss; longjmp, once fortified, refuses to leave a stack.
_OPTIONS = (
    "-std=c++17", "-O2", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared", "-nostartfiles",
    "-fvisibility=hidden", "-fno-gnu-unique", "-U_FORTIFY_SOURCE",
)  # fmt: skip


def kernels_text() -> str:
    """The package's kernels, without the file that only a GPU can run."""
    _, mark, text = source.translation_unit().partition(_BEHIND_DEVICE)
    assert mark, f"{_BEHIND_DEVICE} no longer follows device.cu"
    return mark + text


def compile_kernels(text: str, folder: Path) -> Path:
    """A library of all kernels in `text`, made in `folder`; where none can be, a test is skipped."""
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the kernels run on a CPU where there is Linux, for its fibers, and g++")
    unit, library = folder / "kernels.cpp", folder / "kernels.so"
    unit.write_text(text, encoding="utf-8")
    table = _table(_run(compiler, "-E", "-P", str(unit)))
    headers = "".join(f'#include "{name}.hpp"\n' for name in ("cuda", "device", "launch"))
    unit.write_text(headers + text + table, encoding="utf-8")
    sources = (unit, HERE / "block.cpp", HERE / "launch.cpp")
    _run(compiler, *_OPTIONS, f"-I{HERE}", *map(str, sources), "-o", str(library))
    return library


def _table(text: str) -> str:
    """The table of kernels that launch.hpp declares, for all that are defined in `text`."""
    rows = "".join(
        f'    {{"{name}", launch_bound({bounds}), Bound<{name}>::run, Bound<{name}>::kSizes}},\n'
        for bounds, name in _ENTRY.findall(text)
    )
    return (
        f"\nnamespace emulator {{\nconst Kernel kernels[] = {{\n{rows}}};\n"
        "const int kernel_count = sizeof kernels / sizeof kernels[0];\n}\n"
    )


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout
