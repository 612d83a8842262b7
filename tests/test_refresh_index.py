"""Asking a package index for its wheels and for parts of them, and what is said where it cannot be done."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version
from tiny_wheels import Index, elf, serving, wheel

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from refresh import pip_index, remote_zip
from refresh.binaries import inflated_bytes, read_binaries
from refresh.listing import ListedWheel, listed
from refresh.metadata import read_metadata
from refresh.pip_index import PipIndex
from refresh.remote_zip import RemoteZip
from refresh.web import Web

from onnxsd.errors import BadInputError, ResourceError

LINUX = "onnxruntime_gpu-1.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"
WINDOWS = "onnxruntime_gpu-1.0-cp313-cp313-win_amd64.whl"
ARM = "onnxruntime_gpu-1.0-cp313-cp313t-manylinux_2_34_aarch64.whl"
METADATA = "Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.0\n"


@pytest.fixture
def index() -> Iterator[Index]:
    """An empty index."""
    with serving() as served:
        yield served


def web_of(index: Index, url: str | None = None) -> Web:
    """A reader of the index that waits for nothing."""
    return Web(PipIndex(url=url or index.url, certificate=None), pause_s=0.0)


def archive_of(index: Index, name: str = LINUX) -> RemoteZip:
    """The wheel of that name."""
    return RemoteZip(web_of(index), f"{index.url.removesuffix('/simple')}/files/{name}", name)


@pytest.mark.parametrize("html", [True, False])
def test_wheels_are_listed_from_html_and_from_json(index: Index, html: bool) -> None:
    index.html = html
    index.files = {LINUX: b"1", WINDOWS: b"2", ARM: b"3", "onnxruntime_gpu-1.0.tar.gz": b"4"}
    index.files["onnxruntime_gpu-0.9-cp39-cp39-win_amd64.whl"] = b"5"
    index.attributes[LINUX] = {"upload-time": "2026-10-26T19:11:04.989611Z"}
    index.attributes["onnxruntime_gpu-0.9-cp39-cp39-win_amd64.whl"] = {"yanked": "broken"}

    linux, windows, arm = listed(web_of(index), "onnxruntime_gpu")

    assert (linux.file, linux.version, linux.abi) == (LINUX, Version("1.0"), "cp312")
    assert linux.platform_tags == ("manylinux_2_27_x86_64", "manylinux_2_28_x86_64")
    assert [one.platform for one in (linux, windows, arm)] == [
        "linux_x86_64",
        "windows_x86_64",
        "linux_aarch64",
    ]
    assert str(linux.uploaded) == "2026-10-26"
    assert windows.uploaded is None
    assert arm.abi == "cp313t"
    assert linux.digest
    assert linux.digest != windows.digest
    assert linux.url == f"{index.url.removesuffix('/simple')}/files/{LINUX}"


@pytest.mark.parametrize(
    ("page", "said"),
    [(b"[]", "cannot be read"), (b"{", "cannot be read"), (b'{"files": [{}]}', "cannot be read")],
)
def test_a_list_that_cannot_be_read(index: Index, page: bytes, said: str) -> None:
    index.page = page

    with pytest.raises(BadInputError, match=said):
        listed(web_of(index), "onnxruntime-gpu")


def test_a_list_without_wheels(index: Index) -> None:
    with pytest.raises(BadInputError, match="its page lists no wheel"):
        listed(web_of(index), "onnxruntime-gpu")


def test_an_index_that_does_not_know_the_package(index: Index) -> None:
    with pytest.raises(ResourceError, match="the list of other, found HTTP 404") as caught:
        listed(web_of(index), "other")

    assert index.url not in str(caught.value)


def test_name_and_password_of_the_address_are_sent(index: Index) -> None:
    index.files, index.password = {LINUX: b"1"}, "p@ss"
    url = index.url.replace("//", "//user:p%40ss@")

    assert len(listed(web_of(index, url), "onnxruntime-gpu")) == 1
    with pytest.raises(ResourceError, match="HTTP 401"):
        listed(web_of(index), "onnxruntime-gpu")


def test_no_network() -> None:
    with serving() as gone:
        url = gone.url
    with pytest.raises(
        ResourceError, match=r"the list of onnxruntime-gpu, and the connection failed 4 times"
    ):
        listed(web_of(gone, url), "onnxruntime-gpu")


@pytest.mark.parametrize(("busy", "served"), [(3, True), (4, False)])
def test_a_busy_index_is_asked_again(index: Index, busy: int, served: bool) -> None:
    index.files, index.busy = {LINUX: b"1"}, busy
    if served:
        assert len(listed(web_of(index), "onnxruntime-gpu")) == 1
    else:
        with pytest.raises(ResourceError, match="failed 4 times: HTTP 503"):
            listed(web_of(index), "onnxruntime-gpu")


def test_an_index_that_sends_whole_files_only(index: Index) -> None:
    index.files, index.ranges = {LINUX: wheel({}, metadata=METADATA)}, False

    with pytest.raises(ResourceError, match="sends whole files only"):
        archive_of(index)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("tail_bytes", [200, 1 << 17])
def test_a_member_is_read_without_the_rest(
    index: Index, monkeypatch: pytest.MonkeyPatch, compress: bool, tail_bytes: int
) -> None:
    monkeypatch.setattr(remote_zip, "TAIL_BYTES", tail_bytes)
    members: dict[str, bytes | str] = {
        "a.so": os.urandom(70_000),
        "b.so": bytes(90_000),
        "c.txt": "c",
        "d": b"",
    }
    index.files = {LINUX: wheel(members, metadata=METADATA, compress=compress)}

    archive = archive_of(index)

    assert archive.size_bytes == len(index.files[LINUX])
    for name, content in members.items():
        assert archive.read(name) == (content.encode() if isinstance(content, str) else content)
    assert archive.members["b.so"].size_bytes == 90_000


def test_a_connection_that_breaks_is_taken_up_where_it_broke(index: Index) -> None:
    content = os.urandom(400_000)
    index.files = {LINUX: wheel({"a.so": content}, metadata=METADATA)}
    archive = archive_of(index)
    index.break_after_bytes = 150_000

    assert archive.read("a.so") == content
    assert len(index.asked) == 3  # the directory, the member, the rest of the member


def test_a_member_whose_bytes_are_not_those_of_its_crc(index: Index) -> None:
    content = bytearray(wheel({"a.so": bytes(range(256)) * 800}, metadata=METADATA, compress=False))
    content[5000] ^= 1
    index.files = {LINUX: bytes(content)}

    with pytest.raises(BadInputError, match=r"a\.so is damaged"):
        archive_of(index).read("a.so")


def test_what_is_no_zip_file(index: Index) -> None:
    index.files = {LINUX: b"<html>not here</html>"}

    with pytest.raises(BadInputError, match="is not a zip file"):
        archive_of(index)


def test_metadata(index: Index) -> None:
    lines = [
        "Requires-Python: >=3.11",
        "Requires-Dist: numpy>=1.21.6",
        'Requires-Dist: flatbuffers; python_version < "4"',
        "Provides-Extra: cuda",
        'Requires-Dist: nvidia-cufft~=12.0; extra == "cuda"',
        "Requires-Dist: nvidia-curand~=10.0 ; (sys_platform == 'linux') and extra == 'cuda'",
        "Requires-Dist: nvidia-cudnn-cu13~=9.0; extra == 'cudnn'",
    ]
    index.files = {LINUX: wheel({}, metadata=METADATA + "\n".join(lines) + "\n\nText\n")}

    found = read_metadata(archive_of(index))

    assert found.requires_python == ">=3.11"
    assert found.requires == ("numpy>=1.21.6", 'flatbuffers; python_version < "4"')
    assert found.extras == {
        "cuda": ("nvidia-cufft~=12.0", 'nvidia-curand~=10.0; sys_platform == "linux"'),
        "cudnn": ("nvidia-cudnn-cu13~=9.0",),
    }
    assert found.size_bytes == len(index.files[LINUX])


def test_a_wheel_without_metadata(index: Index) -> None:
    index.files = {LINUX: wheel({"other.dist-info/METADATA": ""}, metadata=METADATA)}

    with pytest.raises(BadInputError, match="holds 2 METADATA files"):
        read_metadata(archive_of(index))


def test_pips_variable_is_the_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@index.invalid/wheels/")
    monkeypatch.setenv("PIP_CERT", str(tmp_path / "ca.pem"))

    found = pip_index.configured()

    assert found.url == "https://user:secret@index.invalid/wheels/"
    assert found.certificate == tmp_path / "ca.pem"
    assert "secret" not in repr(found)


def test_without_settings_it_is_the_one_that_pip_comes_with(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    found = pip_index.configured()

    assert found.url.startswith("https://")
    assert found.url.endswith("/simple")
    assert found.certificate is None


def test_a_python_without_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(ResourceError, match="is pip installed beside this Python"):
        pip_index.configured()


def test_platforms_by_their_tags() -> None:
    def platform(tag: str) -> str:
        return ListedWheel(
            file="",
            url="",
            version=Version("1"),
            abi="cp312",
            platform_tags=(tag,),
            uploaded=None,
            digest=None,
            yanked=False,
        ).platform

    assert platform("manylinux2014_x86_64") == "linux_x86_64"
    assert platform("musllinux_1_2_aarch64") == "linux_aarch64"
    assert platform("win_amd64") == "windows_x86_64"
    assert platform("win_arm64") == "windows_aarch64"
    assert platform("macosx_14_0_arm64") == "macos_arm64"


FOLDER = "onnxruntime/capi/"
PROVIDERS: dict[str, bytes | str] = {
    f"{FOLDER}libonnxruntime_providers_cuda.so": elf(
        run_path="/usr/local/cuda-11.6/lib64:/usr/local/cuda-11.4"
    ),
    f"{FOLDER}libonnxruntime_providers_tensorrt.so": elf(stack_flags=7),
}
PRELOAD = """
try:
    _libcublas = CDLL("libcublas.so.11", mode=RTLD_GLOBAL)
    _libz = CDLL("libz.so.1")
except OSError:
    pass
try:
    _libnvinfer = CDLL('libnvinfer.so.8', mode=RTLD_GLOBAL)
except OSError:
    pass
"""


def test_old_wheels_list_their_libraries_in_a_python_file(index: Index) -> None:
    index.files = {LINUX: wheel({**PROVIDERS, f"{FOLDER}_ld_preload.py": PRELOAD}, metadata=METADATA)}
    went_by: list[int] = []

    found = read_binaries(archive_of(index), went_by.append)

    assert found.needed == ("libcublas.so.11",)
    assert found.tensorrt_needed == ("libcublas.so.11", "libnvinfer.so.8")
    assert (found.module_needed, found.glibc, found.fatbins) == ((), None, {})
    assert found.executable_stack is True  # one module of a wheel is enough
    assert sum(went_by) == inflated_bytes(archive_of(index))


@pytest.mark.parametrize(
    ("name", "text", "cuda"),
    [
        ("build_and_package_info.py", "cuda_version = '12.8'", "12.8"),
        ("version_info.py", 'use_cuda = True\ncuda_version = "11.8.89"', "11.8"),
        ("build_and_package_info.py", "cuda_version = ''", "11.6"),  # then what its library paths name
        ("other.py", "cuda_version = '1.0'", "11.6"),
    ],
)
def test_the_toolkit_of_a_build(index: Index, name: str, text: str, cuda: str) -> None:
    index.files = {LINUX: wheel({**PROVIDERS, FOLDER + name: text}, metadata=METADATA)}

    assert read_binaries(archive_of(index), lambda _: None).cuda == cuda


def test_a_wheel_without_a_cuda_provider(index: Index) -> None:
    index.files = {LINUX: wheel({f"{FOLDER}libonnxruntime.so.1.31.1": elf()}, metadata=METADATA)}

    with pytest.raises(BadInputError, match="holds no CUDA provider"):
        read_binaries(archive_of(index), lambda _: None)
