"""The mark by which a native library is known to be of the sources that lie beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from package_builds import copy_of_kernels

from onnxsd.machine import built_from
from onnxsd.machine.built_from import fits, mark


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of onnxsd in a checkout of a test's own."""
    return copy_of_kernels(tmp_path / "checkout") / "onnxsd"


def built(package: Path) -> Path:
    """A library that was built from what lies there."""
    library = package / "library"
    library.write_bytes(b"\x7fELF" + mark(package).encode() + b"\0more")
    return library


def installed(package: Path) -> Path:
    """The package as a wheel installs it: without `native/`."""
    for path in (package.parent / "native").iterdir():
        path.unlink()
    (package.parent / "native").rmdir()
    return package


def test_a_mark_is_an_identifier(package: Path) -> None:
    assert mark(package).isidentifier()
    assert mark(package).isascii()


def test_a_library_fits_what_it_was_built_from(package: Path) -> None:
    library = built(package)

    assert fits(library, package)
    assert fits(library, installed(package))


@pytest.mark.parametrize("name", ["onnxsd/kernels/cuda/rows.cu", "native/norms.hpp", "native/operators.cpp"])
def test_it_does_not_fit_what_was_edited_since(name: str, package: Path) -> None:
    library = built(package)
    edited = package.parent / name
    edited.write_text(edited.read_text(encoding="utf-8") + "// more\n", encoding="utf-8")

    assert not fits(library, package)


@pytest.mark.parametrize("folder", ["onnxsd/kernels/cuda", "native"])
def test_it_does_not_fit_a_file_more_or_less(folder: str, package: Path) -> None:
    library = built(package)
    there = sorted((package.parent / folder).iterdir())
    suffix = there[0].suffix
    more = package.parent / folder / f"more{suffix}"
    more.write_text("", encoding="utf-8")
    assert not fits(library, package)
    more.unlink()
    assert fits(library, package)

    there[0].unlink()
    assert not fits(library, package)


def test_an_installed_package_without_its_kernels_does_not_fit(package: Path) -> None:
    library = built(package)
    for path in (installed(package) / "kernels" / "cuda").iterdir():
        path.unlink()

    assert not fits(library, package)


def test_how_lines_end_does_not_count(package: Path) -> None:
    """A checkout on Windows has other ends than the tree that a wheel was built from."""
    before = mark(package)
    for path in (*(package / "kernels" / "cuda").iterdir(), *(package.parent / "native").iterdir()):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    assert mark(package) == before


def test_a_folder_named_native_beside_an_installed_package_is_not_ours(package: Path) -> None:
    library = built(package)
    (installed(package).parent / "native").mkdir()

    assert fits(library, package)


def test_a_library_that_is_not_there_is_an_error(package: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fits(package / "none", package)


def test_the_library_of_this_environment_fits() -> None:
    from kernel_cases import native_library

    path = native_library().path
    assert built_from.mark(path.parents[1]).encode() in path.read_bytes()
