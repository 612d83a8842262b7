"""The interpreter and its C library as facts, from what the interpreter said of itself."""

from __future__ import annotations

from typing import Any

from packaging.version import Version

from onnxsd.machine.facts import CpuArchitecture, Environment, OperatingSystem, Python
from onnxsd.machine.reader import readable
from onnxsd.records import Dotted

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


def python(told: dict[str, Any]) -> Python:
    """The interpreter."""
    return Python(
        version=Version(told["version"]),
        implementation=told["implementation"],
        abi=told["abi"],
        free_threaded=told["free_threaded"],
        environment=Environment(told["environment"]),
        externally_managed=told["externally_managed"],
        bits=told["bits"],
        executable=readable(told["executable"]),
        user_site=told["user_site"],
    )


def operating_system(told: dict[str, Any]) -> OperatingSystem:
    """The system that the interpreter runs on."""
    return _SYSTEMS.get(told["system"], OperatingSystem.OTHER)


def architecture(told: dict[str, Any]) -> CpuArchitecture:
    """The processor that the interpreter runs on."""
    return _ARCHITECTURES.get(told["processor"].lower(), CpuArchitecture.OTHER)


def c_library(told: dict[str, Any], name: str) -> Dotted | None:
    """The version of the C library called `name`, where the interpreter uses that one."""
    if told["libc"] is None or told["libc"][0] != name:
        return None
    return Dotted.parse(told["libc"][1])
