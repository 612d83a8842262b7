"""Which libraries scripts/check_wheel.py lets into a manylinux_2_28 wheel."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import check_wheel
import pytest
from tiny_wheels import elf

GOOD: dict[str, Any] = {
    "needed": ["libstdc++.so.6", "libgcc_s.so.1", "libc.so.6", "ld-linux-x86-64.so.2"],
    "versions": {
        "libstdc++.so.6": ["GLIBCXX_3.4.24", "GLIBCXX_3.4", "CXXABI_1.3.11"],
        "libgcc_s.so.1": ["GCC_3.0"],
        "libc.so.6": ["GLIBC_2.28", "GLIBC_2.2.5"],
    },
}


def wheel(there: Path, **members: bytes) -> Path:
    """A wheel as far as its files go."""
    path = there / "onnxsd-1.0-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("onnxsd/__init__.py", b"")
        for name, content in members.items():
            archive.writestr(f"onnxsd/{name}.so", content)
    return path


def test_what_the_policy_has_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = wheel(tmp_path, good=elf(**GOOD))

    assert check_wheel.main([str(made), "--architecture", "x86_64"]) == 0
    shown = capsys.readouterr()
    assert "onnxsd/good.so: libstdc++.so.6, " in shown.out
    assert "GLIBC_2.28" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"versions": {"libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.29"]}}, "needs GLIBC_2.29, "),
        ({"versions": {"libc.so.6": ["GLIBC_PRIVATE"]}}, "needs GLIBC_PRIVATE, "),
        ({"versions": {"libc.so.6": ["GLIBC_ABI_DT_RELR"]}}, "needs GLIBC_ABI_DT_RELR, "),
        ({"versions": {"libstdc++.so.6": ["GLIBCXX_3.4.25"]}}, "needs GLIBCXX_3.4.25, "),
        ({"versions": {"libstdc++.so.6": ["CXXABI_1.3.12"]}}, "needs CXXABI_1.3.12, "),
        ({"versions": {"libgcc_s.so.1": ["GCC_12.0.0"]}}, "needs GCC_12.0.0, "),
        ({"versions": {"libcudart.so.12": ["libcudart.so.12"]}}, "needs libcudart.so.12, "),
        ({"needed": ["libcuda.so.1", "libc.so.6"]}, "needs libcuda.so.1, "),
        ({"run_path": "$ORIGIN"}, "looks for libraries in $ORIGIN"),
        ({"stack_flags": 7}, "wants an executable stack"),
    ],
)
def test_what_another_system_may_lack_is_refused(
    changed: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = wheel(tmp_path, good=elf(**GOOD), bad=elf(**{**GOOD, **changed}))

    assert check_wheel.main([str(made), "--architecture", "x86_64"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"onnxsd/bad.so {says}")


def test_a_library_for_another_machine_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = wheel(tmp_path, good=elf(**GOOD))

    assert check_wheel.main([str(made), "--architecture", "aarch64"]) == 1
    assert "ELF machine 62, and aarch64 is 183" in capsys.readouterr().err


def test_a_wheel_without_a_library_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = wheel(tmp_path)

    assert check_wheel.main([str(made), "--architecture", "x86_64"]) == 1
    assert "holds no library" in capsys.readouterr().err


def test_a_library_that_cannot_be_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = wheel(tmp_path, old=b"\x7fELF\x01\x01" + bytes(60))

    assert check_wheel.main([str(made), "--architecture", "x86_64"]) == 1
    assert "onnxsd/old.so not a 64-bit little-endian ELF file" in capsys.readouterr().err
