"""Reads this machine: each fact alone, so that one that cannot be read is recorded and the rest still are."""

from __future__ import annotations

import os
import platform
import shutil
import site
import sys
import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from packaging import tags
from packaging.version import Version

from onnxsd.machine.facts import (
    CpuArchitecture,
    Environment,
    Gpu,
    Machine,
    OperatingSystem,
    Python,
    Unreadable,
    Variable,
)
from onnxsd.machine.installed import distributions
from onnxsd.machine.nvidia import driver_version, gpus
from onnxsd.machine.probe import probe_providers
from onnxsd.records import Dotted

T = TypeVar("T")

_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "CUDA_PATH")
_ARCHITECTURES = {
    "x86_64": CpuArchitecture.X86_64,
    "amd64": CpuArchitecture.X86_64,
    "aarch64": CpuArchitecture.AARCH64,
    "arm64": CpuArchitecture.AARCH64,
}
_SYSTEMS = {
    "linux": OperatingSystem.LINUX,
    "win32": OperatingSystem.WINDOWS,
    "darwin": OperatingSystem.MACOS,
}


class Reader:
    """Reads facts one by one and keeps the reasons for those that it could not."""

    def __init__(self) -> None:
        self.unreadable: list[Unreadable] = []

    def read(self, fact: str, collect: Callable[[], T], absent: T) -> T:
        """What `collect` gives, or `absent` with the reason on record."""
        try:
            return collect()
        except Exception as error:  # noqa: BLE001  (one fact of many may fail alone, and is recorded)
            self.unreadable.append(Unreadable(fact=fact, reason=f"{type(error).__name__}: {error}"))
            return absent


def snapshot(*, probe: bool = True) -> Machine:
    """The facts about this machine; `probe` also runs onnxruntime in child processes."""
    reader = Reader()
    found: tuple[Gpu, ...] = reader.read("gpus", gpus, ())
    return Machine(
        os=_SYSTEMS.get(sys.platform, OperatingSystem.OTHER),
        arch=_ARCHITECTURES.get(platform.machine().lower(), CpuArchitecture.OTHER),
        distro=None,
        glibc=reader.read("glibc", _glibc, None),
        musl=reader.read("musl", _musl, None),
        wsl=False,
        container=None,
        python=_python(),
        pip=reader.read("pip", _pip, None),
        uv=None,
        pip_index=None,
        platform_tags=reader.read("platform_tags", lambda: tuple(tags.platform_tags()), ()),
        driver=reader.read("driver", driver_version, None),
        driver_cuda=None,
        kernel_driver=None,
        driver_library=None,
        device_nodes=(),
        gpus=found,
        other_gpus=(),
        distributions=reader.read("distributions", lambda: distributions(reader.unreadable), ()),
        modules=(),
        damaged=(),
        libraries=(),
        variables=tuple(
            Variable(name=name, value=os.environ[name]) for name in _VARIABLES if name in os.environ
        ),
        memory_bytes=reader.read("memory_bytes", _memory_bytes, None),
        disk_free_bytes=reader.read("disk_free_bytes", lambda: shutil.disk_usage(Path.cwd()).free, None),
        temp_free_bytes=None,
        cache_free_bytes=None,
        probes=reader.read("probes", lambda: probe_providers(with_cuda=bool(found)), None) if probe else None,
        torch_probe=None,
        unreadable=tuple(reader.unreadable),
    )


def _python() -> Python:
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"  # PEP 668
    environment = _environment()
    return Python(
        version=Version(platform.python_version().rstrip("+")),
        implementation=sys.implementation.name,
        abi=next(tags.cpython_tags()).abi if sys.implementation.name == "cpython" else "none",
        free_threaded=free_threaded,
        environment=environment,
        externally_managed=environment is not Environment.VENV and marker.exists(),
        bits=64 if sys.maxsize > 2**32 else 32,
        executable=sys.executable,
        user_site=bool(site.ENABLE_USER_SITE),
    )


def _environment() -> Environment:
    if sys.prefix != sys.base_prefix:
        return Environment.VENV
    return Environment.CONDA if (Path(sys.prefix) / "conda-meta").is_dir() else Environment.SYSTEM


def _glibc() -> Dotted | None:
    if sys.platform != "linux":
        return None
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION")  # "glibc 2.36"; musl does not know the name
    except (ValueError, OSError):
        return None
    return Dotted.parse(text.split()[1]) if text else None


def _musl() -> Dotted | None:
    found = next((tag for tag in tags.platform_tags() if tag.startswith("musllinux_")), None)
    return Dotted.parse(".".join(found.split("_")[1:3])) if found else None


def _pip() -> Version | None:
    try:
        return Version(metadata.version("pip"))
    except metadata.PackageNotFoundError:
        return None


def _memory_bytes() -> int | None:
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
