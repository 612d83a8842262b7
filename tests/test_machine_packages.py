"""Packages, modules and damaged files, read from environments that are made of files alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from environments import install, read
from packaging.version import Version

from onnxsd.machine import Module, Place, Problem, packages
from onnxsd.machine.reader import Reader

RUNTIME = {
    "onnxruntime/__init__.py": "'the runtime'",
    "onnxruntime/capi/_state.so": "native code",
    "onnxruntime/tools/deep/x.py": "'x'",
}
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="file names are bytes on POSIX")


def faults(known: dict[str, list[list[str]]], fact: str) -> list[str]:
    """Why a fact could not be read."""
    return [reason for what, reason in known["faults"] if what == fact]


def test_packages_that_matter_are_read_with_what_they_own(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime-gpu", "1.31.1", RUNTIME)
    install(tmp_path, "NumPy", "2.1.0")
    install(tmp_path, "unrelated", "1.0")
    install(tmp_path, "pip", "26.3")
    known = read(tmp_path)

    found = packages.distributions(known, Reader())
    assert [(one.name, one.version, one.provides) for one in found] == [
        ("numpy", Version("2.1.0"), ()),
        ("onnxruntime-gpu", Version("1.31.1"), ("onnxruntime",)),
    ]
    assert {one.installer for one in found} == {"pip"}
    assert {one.location for one in found} == {str(tmp_path)}
    assert packages.tool_version(known, "pip") == Version("26.3")
    assert packages.tool_version(known, "uv") is None
    assert known["faults"] == []


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, "it has no METADATA"),
        (b"", "does not say its name and version"),
        (b"Name: numpy\n", "does not say its name and version"),
        (b"\xff\xfe\x00garbage\n", "does not say its name and version"),
    ],
)
def test_a_package_with_broken_metadata_is_on_record_and_the_others_are_read(
    tmp_path: Path, metadata: bytes | None, reason: str
) -> None:
    install(tmp_path, "torch", "2.4.0")
    broken = install(tmp_path, "numpy", "2.1.0") / "METADATA"
    broken.unlink()
    if metadata is not None:
        broken.write_bytes(metadata)
    known = read(tmp_path)

    assert [one["name"] for one in known["distributions"]] == ["torch"]
    (said,) = faults(known, "distribution")
    assert reason in said
    assert "numpy-2.1.0.dist-info" in said


def test_a_version_that_is_none_is_on_record(tmp_path: Path) -> None:
    install(tmp_path, "torch", "nightly-build")
    reader = Reader()

    assert packages.distributions(read(tmp_path), reader) == ()
    assert reader.unreadable[0].fact == "distribution"
    assert "torch says that its version is 'nightly-build'" in reader.unreadable[0].reason


def test_the_first_of_two_copies_comes_first_and_a_link_is_no_copy(tmp_path: Path) -> None:
    install(tmp_path / "user", "torch", "2.4.0")
    install(tmp_path / "venv", "torch", "2.9.0")
    (tmp_path / "lib64").symlink_to(tmp_path / "venv")
    known = read(tmp_path / "user", tmp_path / "venv", tmp_path / "lib64")

    assert [one["version"] for one in known["distributions"]] == ["2.4.0", "2.9.0"]


def test_old_metadata_and_leftovers_are_understood(tmp_path: Path) -> None:
    old = tmp_path / "onnxruntime-1.4.0-py3.8.egg-info"
    old.mkdir()
    (old / "PKG-INFO").write_text("Name: onnxruntime\nVersion: 1.4.0\n")
    (old / "top_level.txt").write_text("onnxruntime\n")
    (tmp_path / "numpy-1.17.0.egg-info").write_text("Name: numpy\nVersion: 1.17.0\n")
    (tmp_path / "~orch-2.0.0.dist-info").mkdir()
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime/__init__.py").touch()
    known = read(tmp_path)

    assert [(one["name"], one["provides"]) for one in known["distributions"]] == [
        ("numpy", []),
        ("onnxruntime", ["onnxruntime"]),
    ]
    assert [one["owner"] for one in known["modules"]] == ["onnxruntime"]
    assert "interrupted" in faults(known, "distribution")[0]


def test_a_path_of_files_and_missing_folders_is_no_obstacle(tmp_path: Path) -> None:
    install(tmp_path / "site", "numpy", "2.1.0", {"numpy/__init__.py": ""})
    (tmp_path / "bundle.zip").write_bytes(b"PK")
    known = read(tmp_path / "site", tmp_path / "bundle.zip", tmp_path / "gone", "with\0null", "relative/none")

    assert [one["name"] for one in known["distributions"]] == ["numpy"]
    assert [one["name"] for one in known["modules"]] == ["numpy"]
    assert known["faults"] == []


@POSIX
def test_names_that_are_no_utf8_are_read_and_can_be_printed(tmp_path: Path) -> None:
    site = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    info = install(site, "onnxruntime", "1.31.1", RUNTIME)
    (info / "RECORD").write_bytes((info / "RECORD").read_bytes() + b"onnxruntime/caf\xe9.py,,\n")
    (site / os.fsdecode(b"\xff.dist-info")).mkdir()
    known = read(site)

    (found,) = packages.distributions(known, Reader())
    assert found.location is not None
    assert found.location.endswith(r"caf\xe9")
    (missing,) = packages.damaged(known)
    assert missing.path == r"onnxruntime/caf\xe9.py"
    assert packages.modules(known)[0].path.encode()


def test_two_thousand_packages_are_read_without_a_fault(tmp_path: Path) -> None:
    for at in range(2000):
        (tmp_path / f"package_{at}-1.0.dist-info").mkdir()
    install(tmp_path, "onnxruntime", "1.31.1", RUNTIME)
    known = read(tmp_path)

    assert [one["name"] for one in known["distributions"]] == ["onnxruntime"]
    assert known["faults"] == []


def test_files_that_are_not_the_packages_own_are_named(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime-gpu", "1.31.1", RUNTIME)
    assert read(tmp_path)["damaged"] == []

    (tmp_path / "onnxruntime/__init__.py").write_text(
        "'another one'"
    )  # of the same size: only the hash differs
    (tmp_path / "onnxruntime/capi/_state.so").unlink()
    known = read(tmp_path)

    assert [(one.path, one.problem) for one in packages.damaged(known)] == [
        ("onnxruntime/capi/_state.so", Problem.MISSING),
        ("onnxruntime/__init__.py", Problem.ALTERED),
    ]


def test_a_package_without_a_record_is_not_taken_for_whole(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime", "1.31.1", RUNTIME, record=False)
    install(tmp_path, "nvidia-cudnn-cu12", "9.1.0.70", {"nvidia/cudnn/lib/libcudnn.so.9": "cudnn"})
    known = read(tmp_path)

    assert known["damaged"] == []
    assert "onnxruntime 1.31.1: FileNotFoundError: it has no RECORD" in faults(known, "damaged")[0]


def test_a_record_of_garbage_is_no_traceback(tmp_path: Path) -> None:
    info = install(tmp_path, "onnxruntime", "1.31.1", RUNTIME)
    (info / "RECORD").write_bytes(b'"unclosed,\n\n,,,\nonly-a-name\n\x00\x01,sha256,x\n')
    known = read(tmp_path)

    assert [one["name"] for one in known["distributions"]] == ["onnxruntime"]
    assert known["damaged"] or faults(known, "damaged")


def test_the_package_that_was_installed_last_owns_the_overwritten_files(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime-gpu", "1.31.1", RUNTIME)
    install(
        tmp_path, "onnxruntime", "1.31.1", {**RUNTIME, "onnxruntime/capi/_state.so": "another native code"}
    )
    known = read(tmp_path)

    assert [one["owner"] for one in known["modules"]] == ["onnxruntime"]
    assert [(one["distribution"], one["path"]) for one in known["damaged"]] == [
        ("onnxruntime-gpu", "onnxruntime/capi/_state.so")
    ]


def test_a_library_of_two_packages_belongs_to_the_one_whose_size_fits(tmp_path: Path) -> None:
    library = "nvidia/cudnn/lib/libcudnn.so.9"
    install(tmp_path, "nvidia-cudnn-cu13", "9.9.0.1", {library: "of thirteen"})
    install(tmp_path, "nvidia-cudnn-cu12", "9.8.0.1", {library: "of CUDA twelve"})
    known = read(tmp_path)

    assert known["library_owners"] == {str(tmp_path / library): ["nvidia-cudnn-cu12", "9.8.0.1"]}
    assert [one["distribution"] for one in known["damaged"]] == ["nvidia-cudnn-cu13"]


def test_every_place_of_a_module_is_named_in_the_order_of_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, shadow, here = tmp_path / "site", tmp_path / "shadow", tmp_path / "here"
    install(site, "onnxruntime-gpu", "1.31.1", RUNTIME)
    (shadow / "onnxruntime").mkdir(parents=True)
    (shadow / "onnxruntime/__init__.py").touch()
    here.mkdir()
    (here / "onnxruntime.py").touch()
    monkeypatch.setenv("PYTHONPATH", f"{shadow}/{os.pathsep}")
    known = read(site, shadow, current_folder=here)

    assert packages.modules(known) == (
        Module(name="onnxruntime", path=str(here / "onnxruntime.py"), owner=None, place=Place.CURRENT_FOLDER),
        Module(
            name="onnxruntime",
            path=str(site / "onnxruntime/__init__.py"),
            owner="onnxruntime-gpu",
            place=Place.ENVIRONMENT,
        ),
        Module(
            name="onnxruntime",
            path=str(shadow / "onnxruntime/__init__.py"),
            owner=None,
            place=Place.PYTHONPATH,
        ),
    )


def test_a_folder_without_init_counts_only_where_nothing_else_answers(tmp_path: Path) -> None:
    (tmp_path / "left/onnxruntime/capi").mkdir(parents=True)
    assert [one["path"] for one in read(tmp_path / "left")["modules"]] == [str(tmp_path / "left/onnxruntime")]

    install(tmp_path / "site", "onnxruntime", "1.31.1", RUNTIME)
    known = read(tmp_path / "left", tmp_path / "site")
    assert [one["owner"] for one in known["modules"]] == ["onnxruntime"]


def test_a_module_of_a_namespace_has_its_owner(tmp_path: Path) -> None:
    install(tmp_path, "protobuf", "5.28.0", {"google/protobuf/__init__.py": ""})
    (found,) = read(tmp_path)["modules"]

    assert (found["name"], found["owner"]) == ("google.protobuf", "protobuf")


def test_nothing_of_a_package_is_run(tmp_path: Path) -> None:
    bomb = "raise SystemExit('it was imported')"
    install(tmp_path, "onnxruntime", "1.31.1", {"onnxruntime/__init__.py": bomb})
    install(tmp_path, "torch", "2.4.0", {"torch/__init__.py": bomb})
    before = set(sys.modules)
    known = read(tmp_path)

    assert {one["name"] for one in known["modules"]} == {"onnxruntime", "torch"}
    assert not {"onnxruntime", "torch"} & (set(sys.modules) - before)
