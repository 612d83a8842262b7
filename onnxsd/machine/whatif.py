"""A machine with some facts changed: `--set driver=535.104.05`, `--set glibc=2.26`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from onnxsd.errors import UsageError
from onnxsd.machine.facts import (
    CpuArchitecture,
    Distribution,
    Environment,
    Gpu,
    Machine,
    OperatingSystem,
)
from onnxsd.machine.tags import platform_tags_of
from onnxsd.records import Dotted

ASSUMED_GPU = Gpu(
    name="a GPU that --set driver assumes (set gpu=NAME:CC to name yours)",
    memory_bytes=None,
    compute_capability=(8, 0),
)


def with_settings(machine: Machine, settings: Iterable[str]) -> Machine:
    """The machine as it would be with each `KEY=VALUE` changed, in the order given."""
    pairs = [_split(setting) for setting in settings]
    for key, value in pairs:
        machine = _set(machine, key, value)
    named = {key for key, _ in pairs}
    if named & _ANOTHER_SYSTEM:
        machine = _clean_environment(machine)
        for key, value in pairs:  # a package that was set is in the clean environment
            machine = _set(machine, key, value) if key == "package" else machine
    if "driver" in named and "gpu" not in named and not machine.gpus:
        machine = replace(machine, gpus=(ASSUMED_GPU,))
    return _readable(replace(machine, probes=None), named)


def _split(setting: str) -> tuple[str, str]:
    key, equals, value = setting.partition("=")
    if not equals or key not in _SETTERS:
        raise UsageError(f"--set {setting}: wanted KEY=VALUE with KEY one of {', '.join(_SETTERS)}")
    return key, value


def _set(machine: Machine, key: str, value: str) -> Machine:
    try:
        return _SETTERS[key](machine, value)
    except (ValueError, InvalidVersion) as error:
        raise UsageError(f"--set {key}={value}: {error}") from error


def _clean_environment(machine: Machine) -> Machine:
    """Another system has none of this one's packages, and its own tags."""
    return replace(
        machine,
        platform_tags=platform_tags_of(machine.os, machine.arch, glibc=machine.glibc, musl=machine.musl),
        distributions=(),
        variables=(),
    )


def _readable(machine: Machine, named: set[str]) -> Machine:
    """What was set is known, however unreadable it was here."""
    known = {"driver", "gpus"} if named & {"driver", "gpu"} else set()
    if named & _ANOTHER_SYSTEM:
        known |= {"distributions", "distribution", "platform_tags", "glibc", "musl"}
    kept = tuple(found for found in machine.unreadable if found.fact not in known | named)
    return replace(machine, unreadable=kept)


def _set_os(machine: Machine, value: str) -> Machine:
    system = OperatingSystem(value)
    libc = machine.glibc if system is OperatingSystem.LINUX else None
    return replace(machine, os=system, glibc=libc, musl=None)


def _set_python(machine: Machine, value: str) -> Machine:
    version = Version(value)
    return _with_abi(machine, version, free_threaded=machine.python.free_threaded)


def _set_free_threaded(machine: Machine, value: str) -> Machine:
    if value not in ("true", "false"):
        raise ValueError("wanted true or false")
    return _with_abi(machine, machine.python.version, free_threaded=value == "true")


def _with_abi(machine: Machine, version: Version, *, free_threaded: bool) -> Machine:
    suffix = "t" if free_threaded else ""
    python = replace(
        machine.python,
        version=version,
        implementation="cpython",
        abi=f"cp{version.major}{version.minor}{suffix}",
        free_threaded=free_threaded,
        environment=Environment.VENV,
        externally_managed=False,
    )
    return replace(machine, python=python)


def _set_gpu(machine: Machine, value: str) -> Machine:
    if value == "none":
        return replace(machine, gpus=(), driver=None)
    name, _, capability = value.rpartition(":")
    numbers = Dotted.parse(capability).parts
    if not name or len(numbers) != 2:
        raise ValueError("wanted NAME:CC, for example A10G:8.6, or none")
    gpu = Gpu(name=name, memory_bytes=None, compute_capability=(numbers[0], numbers[1]))
    return replace(machine, gpus=(gpu,))


def _set_package(machine: Machine, value: str) -> Machine:
    name, _, version = value.partition("==")
    name = canonicalize_name(name)
    others = tuple(found for found in machine.distributions if found.name != name)
    if version == "none":
        return replace(machine, distributions=others)
    provides = ("onnxruntime",) if name.startswith("onnxruntime") else ()
    added = Distribution(name=name, version=Version(version), provides=provides)
    return replace(machine, distributions=(*others, added))


_SETTERS: dict[str, Callable[[Machine, str], Machine]] = {
    "os": _set_os,
    "arch": lambda machine, value: replace(machine, arch=CpuArchitecture(value)),
    "glibc": lambda machine, value: replace(machine, glibc=Dotted.parse(value), musl=None),
    "musl": lambda machine, value: replace(machine, musl=Dotted.parse(value), glibc=None),
    "python": _set_python,
    "free_threaded": _set_free_threaded,
    "pip": lambda machine, value: replace(machine, pip=Version(value)),
    "driver": lambda machine, value: replace(machine, driver=Dotted.parse(value)),
    "gpu": _set_gpu,
    "package": _set_package,
}
_ANOTHER_SYSTEM = {"os", "arch", "glibc", "musl", "python", "free_threaded"}
