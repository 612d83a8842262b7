"""Native libraries: their names, the loader's cache, and every place in the loader's order."""

from __future__ import annotations

import platform
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from environments import install, read

from onnxsd.machine import Library, Origin, ld_cache
from onnxsd.machine.libraries import Search, driver_library, libraries
from onnxsd.machine.library_names import component_of, version_in
from onnxsd.machine.reader import Reader

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the loader of Linux")
X86_64, I386 = 0x0303, 0x0803
MAGIC = b"glibc-ld.so.cache1.1"


def search(tmp_path: Path, *path: Path, **variables: str) -> Search:
    """A search below a root of its own."""
    told: dict[str, Any] = {**read(*path or (tmp_path / "none",)), "system": "linux", "processor": "x86_64"}
    return Search(told=told, variables=variables, root=tmp_path / "root")


def put(folder: Path, *names: str) -> Path:
    """A folder with files of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{folder}/{name}")
    return folder


def write_cache(path: Path, entries: list[tuple[int, str, str]], *, before: bytes = b"") -> None:
    """A file as `ldconfig` writes it: names and files for processors, perhaps after an older table."""
    start = 48 + 24 * len(entries)
    texts, table = b"", b""
    for flags, name, file in entries:
        places = []
        for text in (name, file):
            places.append(start + len(texts))
            texts += text.encode() + b"\0"
        table += struct.pack("<iIIIQ", flags, *places, 0, 0)
    header = struct.pack("<20sII20x", MAGIC, len(entries), len(texts))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(before + header + table + texts)


@pytest.mark.parametrize(
    ("name", "component", "version"),
    [
        ("libcudart.so.13", "cudart", "13"),
        ("libcudart.so.11.0", "cudart", "11.0"),
        ("libnvrtc.so.11.2", "nvrtc", "11.2"),
        ("libcublas.so.12", "cublas", "12"),
        ("libcublasLt.so.12", "cublasLt", "12"),
        ("libcudnn.so.9", "cudnn", "9"),
        ("libnvinfer.so.10", "tensorrt", "10"),
        ("libcuda.so.1", "cuda", "1"),
        ("libcudnn.so.9.1.0", None, "9.1.0"),  # no wheel asks for this name
        ("libcuda.so.580.95.05", None, "580.95.05"),
        ("libcuda.so", None, None),  # the stub to link with
        ("libcudnn_ops.so.9", None, None),
        ("libnvrtc-builtins.so.12.4", None, None),
        ("cudart64_12.dll", "cudart", "12"),
        ("cudart64_110.dll", "cudart", "11.0"),
        ("nvrtc64_120_0.dll", "nvrtc", "12.0"),
        ("nvJitLink_130_0.dll", "nvJitLink", "13.0"),
        ("cudnn64_9.dll", "cudnn", "9"),
        ("nvcuda.dll", "cuda", None),
        ("libm.so.6", None, None),
    ],
)
def test_what_a_name_says(name: str, component: str | None, version: str | None) -> None:
    assert component_of(name) == component
    assert (str(version_in(name)) if version_in(name) else None) == version


@pytest.mark.parametrize("before", [b"", b"ld.so-1.7.0\0" + bytes(1000)])
def test_the_loaders_cache_is_read_for_one_processor(tmp_path: Path, before: bytes) -> None:
    write_cache(
        tmp_path / "cache",
        [
            (X86_64, "libcudnn.so.9", "/usr/lib/libcudnn.so.9"),
            (I386, "libcuda.so.1", "/usr/lib32/libcuda.so.1"),
        ],
        before=before,
    )

    assert ld_cache.libraries(tmp_path / "cache", "x86_64") == [("libcudnn.so.9", "/usr/lib/libcudnn.so.9")]
    assert len(ld_cache.libraries(tmp_path / "cache", "riscv64")) == 2  # of an unknown processor: all


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"glibc-ld.so.cache1.1", b"glibc-ld.so.cache1.1" + b"\xff" * 40]
)
def test_a_cache_of_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cache").write_bytes(content)

    with pytest.raises(ValueError, match="cache"):
        ld_cache.libraries(tmp_path / "cache", "x86_64")


@LINUX
def test_this_systems_cache_holds_what_ldconfig_prints() -> None:
    tool, cache = Path("/sbin/ldconfig"), Path("/etc/ld.so.cache")
    if not tool.exists() or not cache.exists() or platform.machine() != "x86_64":
        pytest.skip("no ldconfig for x86_64 here")
    printed = subprocess.run([str(tool), "-p"], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in printed.splitlines() if "x86-64" in line]

    assert sorted(ld_cache.libraries(cache, "x86_64")) == sorted((line[0], line[-1]) for line in lines)


def test_every_place_is_found_in_the_loaders_order(tmp_path: Path) -> None:
    site = tmp_path / "venv/site-packages"
    install(site, "nvidia-cudnn-cu12", "9.10.2.21", {"nvidia/cudnn/lib/libcudnn.so.9": "of pip"})
    install(site, "torch", "2.4.0+cu121", {"torch/lib/libcudnn.so.9": "of torch"})
    named = put(tmp_path / "named", "libcudnn.so.8", "notes.txt")
    system = put(tmp_path / "root/usr/lib/x86_64-linux-gnu", "libcudnn.so.9.1.0")
    (system / "libcudnn.so.9").symlink_to("libcudnn.so.9.1.0")
    toolkit = put(tmp_path / "root/usr/local/cuda-12.4/lib64", "libcudnn.so.9")
    (tmp_path / "root/usr/local/cuda").symlink_to("cuda-12.4")
    found = libraries(search(tmp_path, site, LD_LIBRARY_PATH=f"{named}:{tmp_path}/none"), Reader())

    assert [(one.origin, one.path, str(one.version), one.owner) for one in found] == [
        (Origin.LD_LIBRARY_PATH, str(named / "libcudnn.so.8"), "8", None),
        (Origin.PIP, str(site / "nvidia/cudnn/lib/libcudnn.so.9"), "9.10.2.21", "nvidia-cudnn-cu12"),
        (Origin.BUNDLED, str(site / "torch/lib/libcudnn.so.9"), "9", "torch"),
        (Origin.SYSTEM, str(system / "libcudnn.so.9"), "9.1.0", None),
        (Origin.TOOLKIT, str(toolkit.parents[1] / "cuda/lib64/libcudnn.so.9"), "9", None),
    ]


def test_one_file_by_two_ways_is_one_place(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "nvidia-cublas", "13.1.0.3", {"nvidia/cu13/lib/libcublas.so.13": "cublas"})
    folder = site / "nvidia/cu13/lib"
    (tmp_path / "link").symlink_to(folder)
    (found,) = libraries(search(tmp_path, site, LD_LIBRARY_PATH=f"{tmp_path}/link:{folder}/../lib"), Reader())

    assert found.origin is Origin.LD_LIBRARY_PATH
    assert found.owner == "nvidia-cublas"


def test_conda_and_the_cache_are_looked_into(tmp_path: Path) -> None:
    prefix = tmp_path / "conda"
    put(prefix / "conda-meta")
    put(prefix / "lib", "libcudart.so.12")
    cached = put(tmp_path / "opt", "libcudart.so.12")
    gone = tmp_path / "gone/libcudart.so.12"
    names = [(X86_64, "libcudart.so.12", str(file)) for file in (gone, cached / "libcudart.so.12")]
    write_cache(tmp_path / "root/etc/ld.so.cache", names)
    found = libraries(search(tmp_path, prefix), Reader())

    assert [one.origin for one in found] == [Origin.CONDA, Origin.LD_CACHE]


def test_what_cannot_be_a_library_is_passed_over_and_what_cannot_be_read_is_on_record(tmp_path: Path) -> None:
    folder = put(tmp_path / "lib")
    (folder / "libcudnn.so.9").symlink_to("nowhere")
    (folder / "libcudart.so.12").symlink_to("libcudart.so.12")  # in a circle
    put(tmp_path / "root/etc", "ld.so.cache")  # of garbage
    reader = Reader()
    variables = {"LD_LIBRARY_PATH": f"{folder}::/dev/null:{'x' * 5000}", "CUDA_HOME": "/dev/null"}
    found = libraries(search(tmp_path, **variables), reader)

    assert found == ()
    assert {one.fact for one in reader.unreadable} == {"libraries"}
    assert any("has no table" in one.reason for one in reader.unreadable)


@pytest.mark.parametrize(
    ("real", "expected"), [("libcuda.so.580.95.05", "580.95.05"), ("libcuda.so.1", None)]
)
def test_the_drivers_library_tells_its_version_by_its_name(
    tmp_path: Path, real: str, expected: str | None
) -> None:
    folder = put(tmp_path / "lib", real)
    if real != "libcuda.so.1":
        (folder / "libcuda.so.1").symlink_to(real)
    found = libraries(search(tmp_path, LD_LIBRARY_PATH=str(folder)), Reader())

    assert [one.component for one in found] == ["cuda"]
    version = driver_library(found)
    assert (str(version) if version else None) == expected


def test_without_a_library_there_is_no_version() -> None:
    nothing: tuple[Library, ...] = ()
    assert driver_library(nothing) is None
