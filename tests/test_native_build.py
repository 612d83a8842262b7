"""native/ becomes a library of the wheel where it compiles; where it does not, the package does without."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import textwrap
from pathlib import Path
from zipfile import ZipFile

import pytest
from package_builds import COMPILER, LIBRARY, ROOT, Built, build, copy_of_kernels, needs_compiler
from refresh import elf

from onnxsd.machine import built_from

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="compilers and files as Linux has them")
NO_COMPILER = {"CC": "false", "CXX": "false"}
DOES_WITHOUT = "own operators were not built"
EXPORTED = {
    "RegisterCustomOps", "onnxsd_api_version", "onnxsd_built_from", "onnxsd_function", "onnxsd_provide"
}  # fmt: skip
# What every Linux with glibc has; the library must not ask for Python, CUDA or ONNX Runtime.
RUNTIME = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0"}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of a tree in which an earlier build left a library."""
    folder = tmp_path_factory.mktemp("sdist")
    source = copy_of_kernels(folder / "source")
    (source / LIBRARY).write_bytes(b"of another build")
    made = build("build_sdist", source, folder / "out", **NO_COMPILER)
    assert made.file, made.log
    return made.file


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree that the source distribution unpacks to."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return source


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with the library, built from the source distribution."""
    made = build("build_wheel", unpacked, tmp_path_factory.mktemp("wheel"), ONNXSD_REQUIRE_NATIVE="1")
    assert made.file, made.log
    return made.file


@pytest.fixture(scope="module")
def library(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library as the wheel installs it."""
    with ZipFile(wheel) as archive:
        return Path(archive.extract(LIBRARY, tmp_path_factory.mktemp("library")))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source tree of a test's own."""
    return copy_of_kernels(tmp_path / "source")


def wheel_file(wheel: Path) -> str:
    """A wheel's WHEEL file."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        return archive.read(name).decode()


def said(made: Built) -> str:
    """The one line in which a build says that it did without the library."""
    (line,) = (line for line in made.log.splitlines() if DOES_WITHOUT in line)
    return line


def test_the_source_distribution_holds_what_the_library_is_built_from(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    native = {path.relative_to(ROOT).as_posix() for path in (ROOT / "native").iterdir()}
    kernels = {path.relative_to(ROOT).as_posix() for path in (ROOT / "onnxsd/kernels/cuda").glob("*.cu")}

    assert native
    assert kernels
    assert {*native, *kernels, "setup.py", "setup.cfg", "pyproject.toml", "compat_matrix.yaml"} <= inside
    assert LIBRARY not in inside


@needs_compiler
def test_a_wheel_with_the_library_is_of_this_platform_and_any_python(wheel: Path) -> None:
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")

    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    assert f"Tag: py3-none-{platform}\n" in wheel_file(wheel)
    assert "Root-Is-Purelib: false\n" in wheel_file(wheel)


@needs_compiler
def test_a_wheel_holds_the_library_and_the_kernels_not_their_source(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    kernels = {path.relative_to(ROOT).as_posix() for path in (ROOT / "onnxsd/kernels/cuda").glob("*.cu")}

    assert {LIBRARY, *kernels} <= inside
    assert not [name for name in inside if name.endswith((".cpp", ".hpp"))]


@needs_compiler
def test_the_library_loads_and_says_which_interface_it_needs(library: Path) -> None:
    loaded = ctypes.CDLL(str(library))

    assert {name for name in EXPORTED if hasattr(loaded, name)} == EXPORTED
    assert loaded.onnxsd_api_version() >= 24


@needs_compiler
@LINUX
def test_the_library_needs_the_systems_own_libraries_alone(library: Path) -> None:
    blob = library.read_bytes()
    asked = elf.parse(lambda start, size: blob[start : start + size])

    assert {name for name in asked.needed if not name.startswith("ld-linux")} <= RUNTIME
    assert asked.run_path == ""
    assert not asked.executable_stack


@needs_compiler
@LINUX
def test_the_library_shows_no_symbol_but_its_own(library: Path) -> None:
    done = subprocess.run(
        ["nm", "--dynamic", "--defined-only", str(library)], capture_output=True, text=True, check=True
    )

    assert {line.split()[-1] for line in done.stdout.splitlines()} == EXPORTED


@needs_compiler
@LINUX
def test_the_source_compiles_without_a_warning() -> None:
    sources = sorted(str(path) for path in (ROOT / "native").glob("*.cpp"))
    assert sources
    assert COMPILER
    strict = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-DONNXSD_BUILT_FROM=here"]
    done = subprocess.run([*COMPILER.split(), *strict, *sources], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_windows_compiler_reads_the_source_as_it_is_written() -> None:
    """In UTF-8, not in the system's code page."""
    text = """
        import runpy, sys, setuptools
        from setuptools.command import bdist_wheel, build_ext, build_py
        setuptools.setup = lambda **_: None
        sys.platform = "win32"
        print(*runpy.run_path("setup.py")["COMPILE"])
    """
    command = [sys.executable, "-c", textwrap.dedent(text)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "/utf-8" in done.stdout.split(), done.stderr
    for path in (ROOT / "native").iterdir():
        assert path.read_text(encoding="utf-8")


@needs_compiler
def test_an_editable_install_puts_the_library_beside_its_package(source: Path, tmp_path: Path) -> None:
    """By a compiler that is there, where the one that compiled Python is not."""
    gone = "import sysconfig; sysconfig.get_config_vars()['CXX'] = 'no-such-c++'"
    made = build("build_editable", source, tmp_path / "out", before=gone, ONNXSD_REQUIRE_NATIVE="1")

    assert made.file, made.log
    assert ctypes.CDLL(str(source / LIBRARY)).onnxsd_api_version() >= 24


@needs_compiler
def test_an_edit_is_built_however_old_it_says_it_is(source: Path, tmp_path: Path) -> None:
    """As files that were copied with their dates; the kernels are no source of the compiler's."""
    edited = source / "onnxsd" / "kernels" / "cuda" / "rows.cu"
    for text in ("", "// one line more\n"):
        edited.write_text(edited.read_text(encoding="utf-8") + text, encoding="utf-8")
        os.utime(edited, (0, 0))
        made = build("build_editable", source, tmp_path / "out", ONNXSD_REQUIRE_NATIVE="1")

        assert made.file, made.log
        assert built_from.fits(source / LIBRARY, source / "onnxsd")


def test_a_tree_without_the_kernels_still_says_its_version(source: Path) -> None:
    shutil.rmtree(source / "onnxsd" / "kernels" / "cuda")
    shutil.rmtree(source / "onnxsd" / "machine")
    command = [sys.executable, "setup.py", "-q", "--version"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_without_a_compiler_the_wheel_is_of_any_platform(source: Path, tmp_path: Path) -> None:
    (source / LIBRARY).write_bytes(b"of another build")
    made = build("build_wheel", source, tmp_path / "out", **NO_COMPILER)

    assert made.file, made.log
    assert made.file.name.endswith("-py3-none-any.whl")
    assert "Tag: py3-none-any\n" in wheel_file(made.file)
    assert "Root-Is-Purelib: true\n" in wheel_file(made.file)
    with ZipFile(made.file) as archive:
        assert LIBRARY not in archive.namelist()
        assert "onnxsd/kernels/__init__.py" in archive.namelist()
    assert re.search(r"not built \(.*\bfalse\b.*\): onnxsd installs without", said(made))
    assert "ONNXSD_REQUIRE_NATIVE=1" in said(made)


@LINUX
def test_where_there_is_no_compiler_at_all_it_says_so(source: Path, tmp_path: Path) -> None:
    nowhere = "import shutil; shutil.which = lambda *_, **__: None"
    made = build("build_wheel", source, tmp_path / "out", before=nowhere)

    assert made.file, made.log
    assert made.file.name.endswith("-py3-none-any.whl")
    assert "(there is no C++ compiler: " in said(made)


def test_a_source_that_does_not_compile_leaves_no_older_library(source: Path, tmp_path: Path) -> None:
    (source / "native" / "operators.cpp").write_text("int broken(\n", encoding="utf-8")
    (source / LIBRARY).write_bytes(b"of an older source")
    made = build("build_editable", source, tmp_path / "out")

    assert made.file, made.log
    assert not (source / LIBRARY).exists()
    assert said(made)


@pytest.mark.parametrize("hook", ["build_wheel", "build_editable"])
def test_a_library_that_is_required_and_does_not_compile_is_an_error(
    hook: str, source: Path, tmp_path: Path
) -> None:
    (source / LIBRARY).write_bytes(b"of an older source")
    made = build(hook, source, tmp_path / "out", **NO_COMPILER, ONNXSD_REQUIRE_NATIVE="1")

    assert made.file is None
    assert DOES_WITHOUT not in made.log
    assert not list((tmp_path / "out").glob("*.whl"))
