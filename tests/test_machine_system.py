"""Containers, devices, variables, installers and room, each read from a root of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.version import Version

from onnxsd.machine import Container, OtherGpu, Variable
from onnxsd.machine.container import container
from onnxsd.machine.devices import device_nodes, nvidia_on_pci, other_gpus
from onnxsd.machine.installers import pip_index, uv_version
from onnxsd.machine.reader import Background, Reader, readable
from onnxsd.machine.system import free_bytes, is_wsl, pip_cache
from onnxsd.machine.variables import variables

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
GIB = 1 << 30


def write(root: Path, **files: str) -> Path:
    """Files below a root: `_` in a name is a slash, and `__` a dot."""
    for name, text in files.items():
        path = root / name.replace("__", ".").replace("_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({}, {}, None),
        ({"proc_1_cgroup": "0::/init.scope\n"}, {}, None),
        ({"__dockerenv": ""}, {}, "docker"),
        ({"__dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"run_": ""}, {"container": "lxc"}, "lxc"),
        ({"run_systemd_container": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({"proc_1_cgroup": "12:memory:/kubepods/burstable/pod1\n"}, {}, "kubernetes"),
        ({"proc_1_cgroup": "12:memory:/docker/0123\n"}, {}, "docker"),
        ({}, {"APPTAINER_CONTAINER": "/x.sif"}, "apptainer"),
    ],
)
def test_what_encloses_a_process(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], kind: str | None
) -> None:
    files.pop("run_", None)
    found = container(environ, write(tmp_path, **files))

    assert (found.kind if found else None) == kind


@pytest.mark.parametrize(
    ("files", "memory_bytes", "cpus"),
    [
        ({}, None, None),
        ({"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None, None),
        (
            {"sys/fs/cgroup/memory.max": f"{8 * GIB}\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
            8 * GIB,
            1.5,
        ),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4 * GIB,
            2.0,
        ),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
            None,
        ),
    ],
)
def test_what_a_container_may_use(
    tmp_path: Path, files: dict[str, str], memory_bytes: int | None, cpus: float | None
) -> None:
    for name, text in {".dockerenv": "", **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    expected = Container(kind="docker", memory_limit_bytes=memory_bytes, cpus=cpus)
    assert container({}, tmp_path) == expected


def test_limits_of_garbage_are_on_record(tmp_path: Path) -> None:
    write(tmp_path, __dockerenv="")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("lots\n")
    reader = Reader()

    assert reader.read("container", lambda: container({}, tmp_path), None) is None
    assert "lots" in reader.unreadable[0].reason


def test_device_nodes_are_those_of_nvidia_and_wsl(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia10", "nvidiactl", "nvidia-uvm", "dxg", "null", "nvram"):
        (tmp_path / name).touch()

    assert device_nodes(tmp_path) == (
        "/dev/dxg",
        "/dev/nvidia-uvm",
        "/dev/nvidia0",
        "/dev/nvidia10",
        "/dev/nvidiactl",
    )
    assert device_nodes(tmp_path / "none") == ()


def pci_device(root: Path, slot: str, **files: str) -> None:
    """One device of the PCI bus."""
    (root / slot).mkdir(parents=True)
    for name, text in files.items():
        (root / slot / name).write_text(text + "\n")


def test_gpus_of_other_makers_are_found_on_the_bus(tmp_path: Path) -> None:
    card = {"class": "0x030000", "device": "0x744c"}
    pci_device(tmp_path, "0000:01:00.0", **card, vendor="0x1002", product_name="AMD Radeon RX 7900 XTX")
    pci_device(tmp_path, "0000:02:00.0", **{"class": "0x120000", "device": "0x74a1", "vendor": "0x1002"})
    pci_device(tmp_path, "0000:03:00.0", **{"class": "0x030200", "device": "0x2335", "vendor": "0x10de"})
    pci_device(tmp_path, "0000:04:00.0", **card, vendor="0x8086")
    pci_device(tmp_path, "0000:05:00.0", **{"class": "0x020000", "device": "0x1533", "vendor": "0x8086"})
    pci_device(tmp_path, "0000:06:00.0", **card, vendor="0x1a03")  # a server's console
    pci_device(tmp_path, "0000:07:00.0", vendor="0x1002")  # half gone

    assert other_gpus("linux", "x86_64", tmp_path) == (
        OtherGpu(vendor="amd", name="AMD Radeon RX 7900 XTX"),
        OtherGpu(vendor="amd", name="1002:74a1"),
        OtherGpu(vendor="intel", name="8086:744c"),
    )
    assert nvidia_on_pci(tmp_path) == ("10de:2335",)
    assert nvidia_on_pci(tmp_path / "none") == ()
    assert other_gpus("darwin", "arm64")[0].vendor == "apple"


def test_variables_keep_no_address_and_no_token() -> None:
    environ = {
        "PIP_INDEX_URL": "https://name:password@index.example/wheels",
        "UV_DEFAULT_INDEX": "https://name:password@index.example/wheels",
        "HF_TOKEN": "hf_secret",
        "LD_LIBRARY_PATH": "/opt/\udcff",
        "ORT_DISABLE": "1",
        "SECRET": "x",
    }

    assert variables(environ) == (
        Variable(name="HF_TOKEN", value="set"),
        Variable(name="LD_LIBRARY_PATH", value=r"/opt/\xff"),
        Variable(name="ORT_DISABLE", value="1"),
        Variable(name="PIP_INDEX_URL", value="set"),
        Variable(name="UV_DEFAULT_INDEX", value="set"),
    )


@POSIX
def test_uv_is_asked_for_its_version(tmp_path: Path) -> None:
    (tmp_path / "uv").write_text("#!/bin/sh\necho 'uv 0.9.26 (abc 2026-01-01)'\n")
    (tmp_path / "uv").chmod(0o755)

    assert uv_version({"PATH": f"/none:{tmp_path}"}) == Version("0.9.26")
    assert uv_version({"PATH": "/none"}) is None
    assert uv_version({}) is None


@POSIX
def test_no_program_of_the_current_folder_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.chdir(tmp_path)

    assert uv_version({"PATH": f":.:{tmp_path.name}"}) is None
    assert not (tmp_path / "started").exists()


@POSIX
@pytest.mark.parametrize("text", ["echo 'no uv'", "kill -9 $$"])
def test_a_uv_that_says_no_version_is_on_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "uv").write_text(f"#!/bin/sh\n{text}\n")
    (tmp_path / "uv").chmod(0o755)

    with pytest.raises(ValueError, match="--version says"):
        uv_version({"PATH": str(tmp_path)})


def test_pips_index_is_its_own_unless_something_names_another(tmp_path: Path) -> None:
    def index(**environ: str) -> str:
        return pip_index(environ, [str(tmp_path / "venv")], tmp_path / "home", tmp_path / "root")

    assert index() == "default"
    assert index(PIP_INDEX_URL="https://index.example") == "configured"

    file = tmp_path / "venv/pip.conf"
    file.parent.mkdir()
    file.write_text("[global]\ntimeout = 60\n")
    assert index() == "default"
    file.write_text("[install]\nextra-index-url = https://index.example\n")
    assert index() == "configured"
    file.write_text("index-url = no section\n")
    with pytest.raises(ValueError, match=r"pip\.conf"):
        index()


def test_wsl_is_known_by_its_kernel() -> None:
    assert is_wsl({}, "5.15.167.4-microsoft-standard-WSL2")
    assert is_wsl({"WSL_DISTRO_NAME": "Ubuntu"}, "6.1.0")
    assert not is_wsl({}, "6.18.44-generic")


def test_room_is_that_of_the_disk_that_would_hold_the_folder(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not/yet/made") > 0
    assert pip_cache({"PIP_CACHE_DIR": str(tmp_path)}, Path("/home/user")) == tmp_path


def test_a_collector_in_the_background_gives_its_answer_or_its_error() -> None:
    assert Background(lambda: 3).result(60) == 3
    with pytest.raises(ZeroDivisionError):
        Background(lambda: 1 // 0).result(60)


def test_text_of_file_names_can_be_written() -> None:
    assert readable("caf\udce9") == r"caf\xe9"
    assert readable("größe") == "größe"
