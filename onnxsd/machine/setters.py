"""One fact of a machine changed, and what cannot be otherwise then: the setters behind `--set KEY=VALUE`."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from packaging.utils import canonicalize_name
from packaging.version import Version

from onnxsd.machine.facts import (
    CpuArchitecture,
    Distribution,
    Environment,
    Gpu,
    Machine,
    Module,
    OperatingSystem,
)
from onnxsd.machine.package_contents import libraries_of, module_of
from onnxsd.records import Dotted

_ASSUMED_FOLDER = "venv/site-packages"  # of a package that is set where none is installed
_GPU = re.compile(r"(?P<name>.+):(?P<major>\d+)\.(?P<minor>\d+)", re.ASCII)
_PACKAGE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^=]+)")

E = TypeVar("E", bound=enum.Enum)


def device_nodes_of(machine: Machine) -> tuple[str, ...]:
    """The device files of a machine's GPUs, as its driver would make them."""
    if machine.os is not OperatingSystem.LINUX or not machine.gpus:
        return ()
    return (*(f"/dev/nvidia{at}" for at in range(len(machine.gpus))), "/dev/nvidia-uvm", "/dev/nvidiactl")


def _set_os(machine: Machine, value: str) -> Machine:
    system = _one_of(OperatingSystem, value)
    if system is machine.os:
        return machine
    linux = system is OperatingSystem.LINUX
    changed = replace(machine, os=system, glibc=None, musl=None, distro=None)
    return replace(
        changed,
        kernel_driver=machine.driver if linux else None,
        driver_library=machine.driver if linux else None,
        device_nodes=device_nodes_of(changed),
    )


def _set_arch(machine: Machine, value: str) -> Machine:
    return replace(machine, arch=_one_of(CpuArchitecture, value))


def _set_glibc(machine: Machine, value: str) -> Machine:
    glibc = _two_numbers(value)
    same = glibc == machine.glibc
    return replace(machine, glibc=glibc, musl=None, distro=machine.distro if same else None)


def _set_musl(machine: Machine, value: str) -> Machine:
    musl = _two_numbers(value)
    same = musl == machine.musl
    return replace(machine, musl=musl, glibc=None, distro=machine.distro if same else None)


def _set_python(machine: Machine, value: str) -> Machine:
    version = Version(value)
    if len(version.release) < 2:
        raise ValueError("wanted at least two numbers, for example 3.12")
    return _with_abi(machine, version, free_threaded=machine.python.free_threaded)


def _set_free_threaded(machine: Machine, value: str) -> Machine:
    if value not in ("true", "false"):
        raise ValueError("wanted true or false")
    return _with_abi(machine, machine.python.version, free_threaded=value == "true")


def _with_abi(machine: Machine, version: Version, *, free_threaded: bool) -> Machine:
    """A clean virtual environment of another Python."""
    suffix = "t" if free_threaded else ""
    python = replace(
        machine.python,
        version=version,
        implementation="cpython",
        abi=f"cp{version.major}{version.minor}{suffix}",
        free_threaded=free_threaded,
        environment=Environment.VENV,
        externally_managed=False,
        bits=64,
        executable=f"python{version.major}.{version.minor}{suffix}",
        user_site=False,
    )
    return replace(machine, python=python)


def _set_driver(machine: Machine, value: str) -> Machine:
    """A driver whose parts agree: kernel module, library and NVML."""
    driver = Dotted.parse(value)
    linux = machine.os is OperatingSystem.LINUX
    libraries = (
        replace(one, version=driver) if one.component == "cuda" else one for one in machine.libraries
    )
    return replace(
        machine,
        driver=driver,
        driver_cuda=None,
        kernel_driver=driver if linux else None,
        driver_library=driver if linux else None,
        libraries=tuple(libraries),
    )


def _set_gpu(machine: Machine, value: str) -> Machine:
    if value == "none":
        return _without_driver(machine)
    found = _GPU.fullmatch(value)
    if found is None:
        raise ValueError("wanted NAME:CC, for example A10G:8.6, or none")
    capability = (int(found["major"]), int(found["minor"]))
    gpu = Gpu(name=found["name"], memory_bytes=None, compute_capability=capability, minor=0)
    changed = replace(machine, gpus=(gpu,), nvidia_pci=())
    return replace(changed, device_nodes=device_nodes_of(changed))


def _without_driver(machine: Machine) -> Machine:
    return replace(
        machine,
        gpus=(),
        nvidia_pci=(),
        driver=None,
        driver_cuda=None,
        kernel_driver=None,
        driver_library=None,
        device_nodes=(),
        libraries=tuple(one for one in machine.libraries if one.component != "cuda"),
    )


def _set_package(machine: Machine, value: str) -> Machine:
    found = _PACKAGE.fullmatch(value)
    if found is None:
        raise ValueError("wanted NAME==VERSION, for example onnxruntime-gpu==1.26.0, or NAME==none")
    name, version = canonicalize_name(found["name"]), found["version"]
    without = _without_package(machine, name)
    return without if version == "none" else _with_package(without, name, Version(version))


def _without_package(machine: Machine, name: str) -> Machine:
    return replace(
        machine,
        distributions=tuple(one for one in machine.distributions if one.name != name),
        modules=tuple(one for one in machine.modules if one.owner != name),
        damaged=tuple(one for one in machine.damaged if one.distribution != name),
        libraries=tuple(one for one in machine.libraries if one.owner != name),
        own_kernels=None if name == "onnxsd" else machine.own_kernels,
    )


def _with_package(machine: Machine, name: str, version: Version) -> Machine:
    """The package with the module and the libraries that it brings, as far as they matter."""
    folder = next((one.location for one in machine.distributions if one.location), None) or _ASSUMED_FOLDER
    module = module_of(name)
    added = Distribution(
        name=name,
        version=version,
        provides=("onnxruntime",) if module == "onnxruntime" else (),
        location=folder,
    )
    modules = machine.modules
    if module is not None and machine.module(module) is None:
        modules = (*modules, Module(name=module, path=f"{folder}/{module}/__init__.py", owner=name))
    return replace(
        machine,
        distributions=(*machine.distributions, added),
        modules=modules,
        libraries=(*libraries_of(name, version, folder, machine.os), *machine.libraries),
    )


def _one_of(kind: type[E], value: str) -> E:
    """The member of that value; `other` is for what was read, and cannot be wished for."""
    members = {str(one.value): one for one in kind if one.value != "other"}
    if value not in members:
        raise ValueError(f"wanted one of {', '.join(members)}")
    return members[value]


def _two_numbers(value: str) -> Dotted:
    found = Dotted.parse(value)
    if len(found.parts) < 2:
        raise ValueError("wanted two numbers, for example 2.26 or 1.2")
    return found


SETTERS: dict[str, Callable[[Machine, str], Machine]] = {
    "os": _set_os,
    "arch": _set_arch,
    "glibc": _set_glibc,
    "musl": _set_musl,
    "python": _set_python,
    "free_threaded": _set_free_threaded,
    "pip": lambda machine, value: replace(machine, pip=Version(value)),
    "driver": _set_driver,
    "gpu": _set_gpu,
    "package": _set_package,
}
