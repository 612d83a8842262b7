"""A machine with some facts changed: `--set driver=535.104.05`, `--set glibc=2.26`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from packaging.version import InvalidVersion

from onnxsd.errors import UsageError
from onnxsd.machine.facts import Gpu, Machine, OperatingSystem
from onnxsd.machine.setters import SETTERS, device_nodes_of
from onnxsd.machine.tags import platform_tags_of

ASSUMED_GPU = Gpu(
    name="a GPU that --set driver assumes (set gpu=NAME:CC to name yours)",
    memory_bytes=None,
    compute_capability=(8, 0),
)

_CHOOSE_A_GPU = {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}  # by the numbers of those that are here
_ANOTHER_SYSTEM = {"os", "arch", "glibc", "musl", "python", "free_threaded"}
# What is known, however unreadable it was, once a GPU or its driver has been set, or another system has.
_KNOWN_WITH_GPU = {
    "driver",
    "driver_cuda",
    "kernel_driver",
    "driver_library",
    "device_nodes",
    "gpus",
    "nvidia_pci",
}
_KNOWN_OF_ANOTHER_SYSTEM = {
    "distro",
    "glibc",
    "musl",
    "wsl",
    "container",
    "uv",
    "pip_index",
    "platform_tags",
    "distributions",
    "distribution",
    "modules",
    "damaged",
    "libraries",
    "variables",
    "own_kernels",
}


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
    if "gpu" in named:
        machine = replace(
            machine, variables=tuple(one for one in machine.variables if one.name not in _CHOOSE_A_GPU)
        )
    if "driver" in named and "gpu" not in named and not machine.gpus:
        machine = replace(machine, gpus=(ASSUMED_GPU,))
        machine = replace(machine, device_nodes=device_nodes_of(machine))
    return _readable(replace(machine, probes=None, torch_probe=None), named)


def _split(setting: str) -> tuple[str, str]:
    key, equals, value = setting.partition("=")
    if not equals or key not in SETTERS:
        raise UsageError(f"--set {setting}: wanted KEY=VALUE with KEY one of {', '.join(SETTERS)}")
    return key, value


def _set(machine: Machine, key: str, value: str) -> Machine:
    try:
        return SETTERS[key](machine, value)
    except (ValueError, InvalidVersion) as error:
        raise UsageError(f"--set {key}={value}: {error}") from error


def _clean_environment(machine: Machine) -> Machine:
    """Another system has none of this one's packages, libraries and variables, and its own tags."""
    return replace(
        machine,
        distro=machine.distro if machine.os is OperatingSystem.LINUX else None,
        wsl=False,
        container=None,
        uv=None,
        pip_index="default",
        platform_tags=platform_tags_of(machine.os, machine.arch, glibc=machine.glibc, musl=machine.musl),
        distributions=(),
        modules=(),
        damaged=(),
        libraries=(),
        driver_library=machine.driver_library or machine.kernel_driver,  # a system brings its driver's own
        variables=(),
        own_kernels=None,
    )


def _readable(machine: Machine, named: set[str]) -> Machine:
    """What was set is known, however unreadable it was here."""
    known = set(named)
    known |= _KNOWN_WITH_GPU if named & {"driver", "gpu"} else set()
    known |= _KNOWN_OF_ANOTHER_SYSTEM if named & _ANOTHER_SYSTEM else set()
    return replace(machine, unreadable=tuple(one for one in machine.unreadable if one.fact not in known))
