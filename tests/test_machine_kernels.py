"""What a machine holds for onnxsd's own kernels: the native library, and the folder of compiled ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from doctor_cases import load, settings

from onnxsd import machine
from onnxsd.kernels import library
from onnxsd.kernels.cubin_cache import CubinCache, Key, cache_folder
from onnxsd.machine import OwnKernels, built_from, own_kernels
from onnxsd.records import encode

HOME = Path("/home/user")


def told(
    *packages: Path, system: str = "linux", places: tuple[str, ...] = ("environment",)
) -> dict[str, Any]:
    """What an interpreter says that finds onnxsd in these folders, in their order."""
    modules = [
        {"name": "onnxsd", "path": str(folder / "__init__.py"), "owner": None, "place": place}
        for folder, place in zip(packages, places, strict=False)
    ]
    return {"system": system, "modules": [{"name": "numpy", "path": "/numpy/__init__.py"}, *modules]}


def package_at(folder: Path, *files: str) -> Path:
    """An onnxsd with these files among its kernels."""
    package = folder / "onnxsd"
    (package / "kernels").mkdir(parents=True)
    for name in files:
        (package / "kernels" / name).touch()
    return package


def seen(asked: dict[str, Any], home: Path) -> OwnKernels | None:
    """What is found of another interpreter's onnxsd."""
    return own_kernels.own_kernels(asked, {}, home, ours=False)


@pytest.mark.parametrize(
    ("system", "files", "built"),
    [
        ("linux", ("choice.py", "_operators.so"), True),
        ("linux", ("choice.py",), False),
        ("linux", ("_operators.dll",), False),
        ("win32", ("_operators.dll",), True),
        ("win32", ("_operators.so",), False),
    ],
)
def test_the_library_is_found_by_its_systems_name(
    tmp_path: Path, system: str, files: tuple[str, ...], built: bool
) -> None:
    found = seen(told(package_at(tmp_path, *files), system=system), tmp_path)

    assert found is not None
    assert found.library is built
    assert found.cache_fault is None


@pytest.mark.parametrize("outdated", [False, True])
def test_a_library_of_other_sources_is_outdated(tmp_path: Path, outdated: bool) -> None:
    package = package_at(tmp_path, "_operators.so")
    built_from_it = b"" if outdated else built_from.mark(package).encode()
    (package / "kernels" / "_operators.so").write_bytes(b"\x7fELF" + built_from_it)

    found = seen(told(package), tmp_path)

    assert found is not None
    assert found.library
    assert found.outdated is outdated


def test_a_folder_is_no_library(tmp_path: Path) -> None:
    package = package_at(tmp_path)
    (package / "kernels" / "_operators.so").mkdir()

    found = seen(told(package), tmp_path)

    assert found is not None
    assert not found.library
    assert found.outdated is None


def test_an_interpreter_without_onnxsd_has_none(tmp_path: Path) -> None:
    older = tmp_path / "older" / "onnxsd"
    older.mkdir(parents=True)

    assert seen(told(), tmp_path) is None
    assert seen(told(older), tmp_path) is None


def test_the_installed_one_counts_before_that_of_the_current_folder(tmp_path: Path) -> None:
    checkout = package_at(tmp_path / "checkout", "_operators.so")
    installed = package_at(tmp_path / "site-packages")
    both = told(checkout, installed, places=("current-folder", "environment"))
    alone = told(checkout, places=("current-folder",))

    found = [seen(both, tmp_path), seen(alone, tmp_path)]

    assert [one.library for one in found if one] == [False, True]


def test_this_interpreters_are_those_of_this_very_package(tmp_path: Path) -> None:
    elsewhere = told(package_at(tmp_path), system=sys.platform)

    found = own_kernels.own_kernels(elsewhere, {}, tmp_path, ours=True)

    assert found is not None
    assert found.library is library.PATH.is_file()


@pytest.mark.parametrize(
    ("system", "environ", "expected"),
    [
        ("linux", {}, ".cache/onnxsd/kernels"),
        ("linux", {"XDG_CACHE_HOME": " "}, ".cache/onnxsd/kernels"),
        ("linux", {"XDG_CACHE_HOME": "/var/c"}, "/var/c/onnxsd/kernels"),
        ("darwin", {"XDG_CACHE_HOME": ""}, "Library/Caches/onnxsd/kernels"),
        ("win32", {}, "AppData/Local/onnxsd/onnxsd/Cache/kernels"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/onnxsd/onnxsd/Cache/kernels"),
    ],
)
def test_where_kernels_are_kept(system: str, environ: dict[str, str], expected: str) -> None:
    assert own_kernels.cache_folder(system, environ, HOME) == HOME / expected


@pytest.mark.parametrize("variable", [None, "", "cache"])
def test_the_engine_keeps_them_in_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if variable is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", variable and str(tmp_path / variable))

    assert cache_folder() == own_kernels.cache_folder(sys.platform, os.environ, Path.home())


def test_a_folder_that_is_yet_to_be_made_is_asked_of_the_one_above(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"

    assert own_kernels.why_not_writable(folder) is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named_where_the_cache_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    folder = tmp_path / "a" / "b"
    key = Key(source="text", options=(), nvrtc=(13, 5), architecture=90)

    assert CubinCache(folder).write(key, b"cubin") is not None
    assert own_kernels.why_not_writable(folder) == f"{tmp_path / 'a'} is no folder"


def test_a_folder_of_another_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    allowed = os.access
    # The system's answer to another user: root, as whom a test may run, is let in everywhere.
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: allowed(path, mode) and (mode == os.F_OK or closed not in (path, *path.parents)),
    )

    assert own_kernels.why_not_writable(tmp_path / "onnxsd") is None
    assert own_kernels.why_not_writable(closed / "onnxsd") == f"{closed} may not be written to"


def test_older_facts_and_other_systems_say_nothing_of_them(tmp_path: Path) -> None:
    known = load("own_kernels_not_built")
    older = encode(known)
    del older["own_kernels"]

    assert machine.Machine.from_json(older, source="older").own_kernels is None
    assert machine.with_settings(known, ["glibc=2.26"]).own_kernels is None
    assert machine.with_settings(known, ["package=onnxsd==none"]).own_kernels is None
    assert machine.with_settings(known, ["driver=580.65.06"]).own_kernels == known.own_kernels
    assert settings("package=numpy==none").own_kernels == load("healthy_cuda13").own_kernels


def test_this_machine_says_what_it_has() -> None:
    found = machine.snapshot(probe=False)

    assert found.own_kernels is not None
    assert found.own_kernels.cache_folder == str(cache_folder())
    assert found.own_kernels.library is library.PATH.is_file()
    assert not found.own_kernels.outdated
