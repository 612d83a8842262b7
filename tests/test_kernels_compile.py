"""The kernels as they ship, compiled for each architecture that they serve: whole, clean, without a spill."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kernel_cases import native_library, real_nvrtc

from onnxsd.errors import NotReadyError
from onnxsd.kernels import source
from onnxsd.kernels.library import OperatorLibrary
from onnxsd.kernels.nvrtc import Compiled, Nvrtc

# Turing, A100, RTX 30, RTX 40, H100 and H200, B200, RTX 50.
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
# What keeps one kernel in memory that is meant to be in registers, in ptxas' words.
_MEMORY = re.compile(r"(\d+) bytes (stack frame|spill stores|spill loads)")
_WARNING = re.compile(r"\bwarning\s*[#:]", re.IGNORECASE)  # nvrtc's and ptxas' own way to write it
_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)'")
SPILLING = """
extern "C" __global__ void __launch_bounds__(1024, 2) crowded(float* x) {
  float kept[96];
#pragma unroll
  for (int i = 0; i < 96; ++i) kept[i] = x[threadIdx.x + i * 1024];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 96; ++i) x[threadIdx.x + i * 1024] = kept[95 - i] * kept[(i * 7) % 96];
}
"""


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    return real_nvrtc()


@pytest.fixture(scope="module")
def library() -> OperatorLibrary:
    return native_library()


def compiled(nvrtc: Nvrtc, text: str, architecture: int) -> Compiled:
    options = (*source.OPTIONS, "--ptxas-options=-v")
    return nvrtc.compile(text, name=source.NAME, architecture=architecture, options=options)


def in_memory(log: str) -> list[str]:
    """The kernels of a log that have a stack frame or spill registers, with the line that says so."""
    found, kernel = [], ""
    for line in log.splitlines():
        if entry := _ENTRY.search(line):
            kernel = entry[1]
        if any(int(size) for size, _ in _MEMORY.findall(line)):
            found.append(f"{kernel}: {line.strip()}")
    return found


def warnings(log: str) -> list[str]:
    return [line for line in log.splitlines() if _WARNING.search(line)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kernels_stay_in_registers(nvrtc: Nvrtc, library: OperatorLibrary, architecture: int) -> None:
    made = compiled(nvrtc, source.translation_unit(), architecture)
    kernels = {name: int(number) for name, number in _ENTRY.findall(made.log)}

    # Every kernel that is launched is there, by this very name, and none that nothing launches.
    assert kernels == dict.fromkeys(library.functions, architecture)
    assert all(name.encode() + b"\0" in made.cubin for name in kernels)
    assert len(_MEMORY.findall(made.log)) == 3 * len(kernels)
    assert in_memory(made.log) == []
    assert warnings(made.log) == []


def test_a_spill_is_seen(nvrtc: Nvrtc) -> None:
    assert in_memory(compiled(nvrtc, SPILLING, 90).log)[0].startswith("crowded: ")


def test_a_stack_frame_is_seen(nvrtc: Nvrtc) -> None:
    text = """extern "C" __global__ void indexed(int* x) {
        int kept[64];
        for (int i = 0; i < 64; ++i) kept[x[i]] = x[i + 64];
        x[0] = kept[x[128]] + kept[x[129]];
    }"""

    assert len(in_memory(compiled(nvrtc, text, 80).log)) == 1


def test_a_warning_is_seen(nvrtc: Nvrtc) -> None:
    text = 'extern "C" __global__ void idle(int* x) { int unused; x[0] = 1; }'

    assert len(warnings(compiled(nvrtc, text, 80).log)) == 1


class TestSource:
    def test_holds_every_file_once_and_includes_nothing(self) -> None:
        text = source.translation_unit()
        files = sorted(path.name for path in source.FOLDER.iterdir())

        assert sorted(re.findall(r'^#line 1 "(\w+\.cu)"$', text, re.MULTILINE)) == files
        assert "#include" not in text

    def test_is_told_in_the_compilers_messages_by_file_and_line(self, nvrtc: Nvrtc, tmp_path: Path) -> None:
        for path in source.FOLDER.glob("*.cu"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "wrong.cu").write_text("\n\n__device__ int x = nothing;\n", encoding="utf-8")

        with pytest.raises(NotReadyError, match=r'wrong\.cu\(3\): error: identifier "nothing" is undefined'):
            compiled(nvrtc, source.translation_unit(tmp_path), 90)

    def test_does_not_depend_on_how_files_end_their_lines(self, tmp_path: Path) -> None:
        """A checkout on Windows compiles, and keeps, the same text."""
        for path in source.FOLDER.glob("*.cu"):
            (tmp_path / path.name).write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

        assert source.translation_unit(tmp_path) == source.translation_unit()
