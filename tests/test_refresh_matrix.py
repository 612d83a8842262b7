"""The refresh as a whole: an index of tiny wheels, the rows they make, and what people keep in them."""

from __future__ import annotations

import dataclasses
import datetime
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from packaging.version import Version
from tiny_wheels import EXACT, PTX, SASS, Index, elf, fatbin, pe, serving, wheel

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import refresh_matrix
from refresh.cache import Cache
from refresh.metadata import WheelMetadata
from refresh.web import Web

from onnxsd import matrix
from onnxsd.matrix import Matrix, Release
from onnxsd.matrix.faults import tables_of

KNOWN = matrix.load()
NEW = Version("2.0.0")
OLD = dataclasses.replace(
    KNOWN.releases[0],
    version=NEW,
    companions=("kept-by-hand",),
    extras_fault="kept by hand",
    note="kept by hand",
)
TODAY = datetime.date.today()
METADATA = """Metadata-Version: 2.1
Name: onnxruntime-gpu
Version: 2.0.0
Requires-Python: >=3.12
Requires-Dist: numpy>=2
Requires-Dist: {spelling}>=0.5
Requires-Dist: nvidia-cuda-runtime~=13.0; extra == 'cuda'
Requires-Dist: nvidia-cudnn-cu13~=9.0; extra == 'cudnn'
Requires-Dist: sympy; extra == 'symbolic'
"""
ORDINARY = fatbin((SASS, 80, 0), (SASS, 90, EXACT), (PTX, 90, EXACT))
KERNELS = ORDINARY * 4 + fatbin((SASS, 120, EXACT)) * 9


def linux_wheel(spelling: str = "ml_dtypes", *, provider: bytes | None = None) -> bytes:
    """A wheel for Linux: a provider with GPU code, one for TensorRT, the module."""
    folder = "onnxruntime/capi/"
    needed = ["libcublas.so.13", "libcudart.so.13", "libonnxruntime_providers_shared.so", "libc.so.6"]
    members = {
        f"{folder}libonnxruntime_providers_cuda.so": provider
        or elf(needed, versions={"libc.so.6": ["GLIBC_2.27"]}, body=KERNELS),
        f"{folder}libonnxruntime_providers_tensorrt.so": elf(["libnvinfer.so.10", "libcudnn.so.9"]),
        f"{folder}onnxruntime_pybind11_state.cpython-312-x86_64-linux-gnu.so": elf(
            ["libm.so.6", "libcudart.so.13"],
            versions={"libc.so.6": ["GLIBC_2.34", "GLIBC_PRIVATE"], "libstdc++.so.6": ["GLIBCXX_3.4.9"]},
        ),
        f"{folder}build_and_package_info.py": "package_name = 'x'\ncuda_version = '13.1'\n",
    }
    return wheel(members, metadata=METADATA.format(spelling=spelling))


def windows_wheel() -> bytes:
    """A wheel for Windows, with its files in a .data folder."""
    folder = "onnxruntime_gpu-2.0.0.data/purelib/onnxruntime/capi/"
    names = ["cublas64_13.dll", "KERNEL32.dll", "MSVCP140.dll"]
    members = {
        f"{folder}onnxruntime_providers_cuda.dll": pe(names, body=KERNELS),
        f"{folder}onnxruntime_pybind11_state.pyd": pe(["python312.dll"]),
    }
    return wheel(members, metadata=METADATA.format(spelling="ml-dtypes"))


LINUX = "onnxruntime_gpu-2.0.0-{}-manylinux_2_34_x86_64.whl"
FILES = {
    LINUX.format("cp313-cp313t"): linux_wheel(),
    LINUX.format("cp312-cp312"): linux_wheel(),
    LINUX.format("cp313-cp313"): linux_wheel("ml-dtypes"),
    "onnxruntime_gpu-2.0.0-cp312-cp312-win_amd64.whl": windows_wheel(),
    "onnxruntime_gpu-2.1.0.dev1-cp312-cp312-win_amd64.whl": b"not asked for",
}


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index with one new release, which pip is taken to use."""
    with serving() as served:
        served.files = dict(FILES)
        monkeypatch.setattr(refresh_matrix.pip_index, "configured", pip_index_of(served))
        monkeypatch.setattr(Web.__init__, "__kwdefaults__", {"pause_s": 0.0})
        yield served


def pip_index_of(served: Index) -> object:
    """What pip answers, without starting it; test_refresh_index.py asks pip itself."""
    return lambda: refresh_matrix.pip_index.PipIndex(url=served.url, certificate=None)


def of(releases: Sequence[Release]) -> Matrix:
    """A matrix with these releases and one row of everything else."""
    first = {name: rows[:1] for name, rows in tables_of(KNOWN).items()}
    vanished = dataclasses.replace(KNOWN.vanished[0], instead=releases[-1].version)
    return dataclasses.replace(KNOWN, **{**first, "releases": tuple(releases), "vanished": (vanished,)})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A matrix that knew the release before, as another one was, with what people keep of it."""
    path = tmp_path / "compat_matrix.yaml"
    path.write_text(matrix.dump(of([OLD])), encoding="utf-8")
    return path


def run(file: Path, *options: str) -> int:
    """The exit code of a refresh of that file, with a cache beside it."""
    return refresh_matrix.main(["--matrix", str(file), "--cache", str(file.parent / "cache"), *options])


def test_a_release_is_read_from_its_wheels(index: Index, file: Path) -> None:
    assert run(file, "--write") == 0

    (row,) = matrix.load(file).releases
    assert str(row.requires_python) == ">=3.12"
    assert (row.cuda_major, str(row.cuda), row.cudnn_major, row.cudnn_required) == (13, "13.1", 9, False)
    assert row.requires == ("ml-dtypes>=0.5", "numpy>=2")
    assert row.extras == ("cuda", "cudnn")
    assert [(pin.name, pin.requires) for pin in row.pins or ()] == [
        ("cuda", ("nvidia-cuda-runtime~=13.0",)),
        ("cudnn", ("nvidia-cudnn-cu13~=9.0",)),
        ("symbolic", ("sympy",)),
    ]
    assert row.checked == TODAY


def test_its_wheels_are_grouped_by_platform(index: Index, file: Path) -> None:
    run(file, "--write")

    linux, windows = matrix.load(file).releases[0].wheels
    assert (linux.platform, linux.tags) == ("linux_x86_64", ("manylinux_2_34_x86_64",))
    assert linux.abis == ("cp312", "cp313", "cp313t")
    assert linux.needed == ("libcublas.so.13", "libcudart.so.13")
    assert linux.module_needed == ("libcudart.so.13",)
    assert linux.tensorrt_needed == ("libcudnn.so.9", "libnvinfer.so.10")
    assert (str(linux.glibc), str(linux.glibcxx), linux.executable_stack) == ("2.34", "3.4.9", False)
    assert (linux.file, linux.size_bytes) == (
        LINUX.format("cp312-cp312"),
        len(FILES[LINUX.format("cp312-cp312")]),
    )
    assert (windows.platform, windows.needed) == ("windows_x86_64", ("MSVCP140.dll", "cublas64_13.dll"))
    assert (windows.module_needed, windows.tensorrt_needed) == ((), ())
    assert (windows.glibc, windows.executable_stack) == (None, None)


def test_a_target_that_only_special_kernels_are_compiled_for_is_none(index: Index, file: Path) -> None:
    run(file, "--write")

    for group in matrix.load(file).releases[0].wheels:
        assert (group.sass, group.ptx, group.evidence) == (("80", "90a"), ("90a",), "read")


def test_what_people_keep_stays(index: Index, file: Path) -> None:
    before = matrix.load(file)

    run(file, "--write")

    after = matrix.load(file)
    (row,) = after.releases
    assert (row.companions, row.extras_fault, row.note) == (("kept-by-hand",), "kept by hand", "kept by hand")
    assert dataclasses.replace(after, releases=()) == dataclasses.replace(before, releases=())


def test_without_write_the_difference_is_shown(
    index: Index, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_bytes()

    assert run(file) == 1

    shown = capsys.readouterr().out
    assert '+    requires_python: ">=3.12"' in shown
    assert '-    requires_python: ">=3.11"' in shown
    assert "kept by hand" not in [line[1:].strip() for line in shown.splitlines() if line[:1] in "+-"]
    assert file.read_bytes() == before


def test_a_second_run_reads_no_wheel_and_finds_no_difference(
    index: Index, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(file, "--write")
    index.asked.clear()
    capsys.readouterr()

    assert run(file) == 0

    assert index.asked == ["/simple/onnxruntime-gpu/"]
    assert "compat_matrix.yaml is what the wheels say" in capsys.readouterr().out


def test_a_row_that_was_only_confirmed_gets_its_date(index: Index, file: Path) -> None:
    run(file, "--write")
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(f'checked: "{TODAY}"', 'checked: "2026-01-02"'), encoding="utf-8")

    assert run(file) == 0  # no difference worth a look

    run(file, "--write")
    assert matrix.load(file).releases[0].checked == TODAY


def test_nothing_written_names_the_index(index: Index, file: Path) -> None:
    run(file, "--write")

    written = [file, *(file.parent / "cache").rglob("*.json")]
    assert len(written) > len(FILES)
    for path in written:
        assert index.url.split("//")[1].split("/")[0] not in path.read_text(encoding="utf-8")


def test_metadata_alone_keeps_what_is_known_of_the_binaries(index: Index, file: Path) -> None:
    (before,) = matrix.load(file).releases
    del index.files["onnxruntime_gpu-2.0.0-cp312-cp312-win_amd64.whl"]

    assert run(file, "--no-binaries", "--write") == 0

    (after,) = matrix.load(file).releases
    assert str(after.requires_python) == ">=3.12"
    known, found = before.wheel_for("linux_x86_64"), after.wheel_for("linux_x86_64")
    assert known is not None
    assert found == dataclasses.replace(
        known, tags=("manylinux_2_34_x86_64",), abis=("cp312", "cp313", "cp313t")
    )


def test_metadata_alone_is_not_enough_for_a_new_release(
    index: Index, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.files["onnxruntime_gpu-3.0.0-cp313-cp313-win_amd64.whl"] = windows_wheel()

    assert run(file, "--no-binaries") == 2

    assert "3.0.0 for windows_x86_64 is not in the matrix" in capsys.readouterr().err


def test_a_new_release_comes_first(index: Index, file: Path) -> None:
    index.files["onnxruntime_gpu-3.0.0-cp313-cp313-win_amd64.whl"] = windows_wheel()
    index.attributes["onnxruntime_gpu-3.0.0-cp313-cp313-win_amd64.whl"] = {
        "upload-time": "2026-11-20T01:02:03Z"
    }

    assert run(file, "--write") == 0

    new, old = matrix.load(file).releases
    assert (new.version, new.released) == (Version("3.0.0"), datetime.date(2026, 11, 20))
    assert (new.companions, new.note) == ((), None)
    assert new.cuda_major == 13
    assert old.version == NEW


def test_one_release_alone(index: Index, file: Path) -> None:
    index.files["onnxruntime_gpu-3.0.0-cp313-cp313-win_amd64.whl"] = windows_wheel()

    assert run(file, "--release", "3.0.0", "--write") == 0

    new, old = matrix.load(file).releases
    assert new.version == Version("3.0.0")
    assert old == OLD  # not read
    assert not any(LINUX.format("cp312-cp312") in path for path in index.asked)


def test_a_release_that_is_not_there(index: Index, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file, "--release", "9.9") == 2

    assert "asked for release 9.9" in capsys.readouterr().err


def test_a_release_that_has_gone_keeps_its_row_and_is_reported(
    index: Index, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = dataclasses.replace(OLD, version=Version("1.31.1"))
    file.write_text(matrix.dump(of([OLD, old])), encoding="utf-8")

    assert run(file, "--write") == 1

    assert "1.31.1 is gone from the index" in capsys.readouterr().err
    assert matrix.load(file).releases[1] == old


def test_a_wheel_that_cannot_be_read_leaves_the_others_in_the_cache(
    index: Index, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = LINUX.format("cp312-cp312")
    index.files[broken] = linux_wheel(provider=b"\x7fELF" + bytes(5000))

    assert run(file, "--write") == 3

    assert "libonnxruntime_providers_cuda.so" in capsys.readouterr().err
    assert matrix.load(file).releases[0].note == "kept by hand"
    assert len(list((file.parent / "cache").glob("*.WheelMetadata.json"))) == len(FILES) - 1
    assert not (file.parent / "cache" / f"{broken}.WheelBinaries.json").exists()


def test_wheels_of_one_release_that_contradict_each_other(
    index: Index, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.files["onnxruntime_gpu-2.0.0-cp311-cp311-manylinux_2_28_x86_64.whl"] = linux_wheel()

    assert run(file) == 3

    assert "2.0.0: wheels for linux_x86_64 differ in their tags" in capsys.readouterr().err


def test_a_cache_that_is_damaged_is_read_anew(index: Index, file: Path) -> None:
    run(file, "--write")
    text = file.read_text(encoding="utf-8")
    for path in (file.parent / "cache").iterdir():
        path.write_text("{", encoding="utf-8")

    assert run(file, "--write") == 0
    assert file.read_text(encoding="utf-8") == text


def test_a_wheel_whose_digest_has_changed_is_read_anew(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    record = WheelMetadata(
        requires_python=None, requires=("a",), extras={"b": ("c",)}, size_bytes=1, built="x"
    )
    cache.put(record, "a.whl", "digest")

    assert cache.get(WheelMetadata, "a.whl", "digest") == record
    assert cache.get(WheelMetadata, "a.whl", "other") is None
    assert cache.get(WheelMetadata, "b.whl", "digest") is None
    shutil.rmtree(tmp_path)
    assert cache.get(WheelMetadata, "a.whl", "digest") is None


def test_an_index_without_ranges(index: Index, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index.ranges = False

    assert run(file) == 6

    assert "sends whole files only" in capsys.readouterr().err


def test_the_script_runs_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, refresh_matrix.__file__, "--help"], capture_output=True, text=True, check=True
    )

    for option in ("--write", "--no-binaries", "--release", "--cache"):
        assert option in done.stdout
