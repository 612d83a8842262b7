"""Packages beside the runtime: which fit each other, which overwrite each other, who brings a library."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from onnxsd.records import Dotted


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchBuild:
    """The wheel of a torch release for Linux x86_64 on the default index, and the CUDA it brings."""

    version: Version
    released: datetime.date
    requires_python: SpecifierSet
    cuda: Dotted
    cudnn: Dotted
    brings_curand: bool
    abis: tuple[str, ...]
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Versions of a package and the versions of another that they work with, where both are installed."""

    package: str
    versions: SpecifierSet
    other: str
    wants: SpecifierSet
    because: str
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """Packages that write the same files, so that the one installed last overwrites the others."""

    packages: tuple[str, ...]
    folder: str
    because: str
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonsServed:
    """The Python ABIs for which a package has wheels of a release that serves, on one platform."""

    platform: str  # as in `Wheel.platform`
    abis: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A package that owns the import name `onnxruntime`, and the machines that it is for."""

    package: str
    vendors: tuple[str, ...]  # nvidia, amd, intel, apple, qualcomm; empty: for the CPU alone
    systems: tuple[str, ...]  # linux, windows, macos
    provider: str | None  # the execution provider that it adds
    newest: Version | None
    maintained: bool
    source: str
    checked: datetime.date
    note: str | None = None
    pythons: tuple[PythonsServed, ...] | None = None  # None: not looked up

    def serves(self, *, platform: str, abi: str) -> bool:
        """Whether there is a wheel for such a Python; True where that was not looked up."""
        return self.pythons is None or any(
            row.platform == platform and abi in row.abis for row in self.pythons
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryPackage:
    """The package on the default index that brings a CUDA library, and where it puts it."""

    component: str
    cuda_major: int
    package: str
    linux: tuple[str, ...]  # names as the loader asks for them
    windows: tuple[str, ...]
    linux_folder: str  # below site-packages
    windows_folder: str
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFormat:
    """The newest ONNX format: what a release of `onnx` writes by default, or a runtime still reads."""

    package: str
    versions: SpecifierSet
    ir: int
    opset: int
    source: str
    checked: datetime.date
