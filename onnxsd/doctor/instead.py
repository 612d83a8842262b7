"""What to install where no build of onnxruntime-gpu serves: for other GPUs, for Jetson, for the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from onnxsd.doctor.actions import DEFAULT_INDEX, Index
from onnxsd.doctor.fit import takes_cpu_wheels
from onnxsd.doctor.folders import removable
from onnxsd.doctor.remedy import Pip
from onnxsd.machine import CpuArchitecture, Gpu, Machine, OperatingSystem
from onnxsd.matrix import Feed, Matrix, Runtime
from onnxsd.records import Dotted

_JETSON = "linux_aarch64_jetson"  # the matrix's name for JetPack, whose wheels no other system takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead:
    """A package to use instead of onnxruntime-gpu, and what it does for this machine."""

    package: str
    version: Version | None
    provider: str
    index: Index
    because: str
    remedy: Pip

    def to_json(self) -> dict[str, Any]:
        """The advice as plain values."""
        return {
            "package": self.package,
            "version": str(self.version) if self.version else None,
            "provider": self.provider,
            "index": {"name": self.index.name, "url": self.index.url},
            "because": self.because,
            "commands": list(self.remedy.commands),
        }


def instead(machine: Machine, matrix: Matrix) -> tuple[Instead, ...]:
    """What serves this machine in place of onnxruntime-gpu, the fastest first, the CPU last.

    Nothing for a Python or a C library that no runtime has wheels for.
    """
    if not takes_cpu_wheels(machine, matrix):
        return ()
    return (*for_jetson(machine, matrix), *_for_other_gpus(machine, matrix), _for_the_cpu(machine, matrix))


def jetson_modules(machine: Machine, matrix: Matrix) -> tuple[Gpu, ...]:
    """The GPUs that are a Jetson's, which no wheel of the default index covers; none off aarch64."""
    if machine.arch is not CpuArchitecture.AARCH64:
        return ()
    return tuple(gpu for gpu in machine.gpus if _is_jetson(gpu, matrix))


def _is_jetson(gpu: Gpu, matrix: Matrix) -> bool:
    return any("Jetson" in name for name in matrix.gpu_names(Dotted(gpu.compute_capability, "")))


def for_jetson(machine: Machine, matrix: Matrix) -> Iterator[Instead]:
    """The builds for the JetPack of a Jetson."""
    if not jetson_modules(machine, matrix):
        return
    for feed in matrix.feeds:
        if _JETSON in feed.platforms:
            yield _from_feed(feed, machine, matrix)


def _from_feed(feed: Feed, machine: Machine, matrix: Matrix) -> Instead:
    index = Index(name=feed.name, url=feed.url)
    return Instead(
        package=matrix.package,
        version=None,  # the feed says which; its wheels were not read
        provider="CUDAExecutionProvider",
        index=index,
        because=feed.note,
        remedy=Pip(uninstall=_owners(machine), from_index=(matrix.package,), index=index),
    )


def _for_other_gpus(machine: Machine, matrix: Matrix) -> Iterator[Instead]:
    """Builds for the GPUs of other makers: onnxsd runs none of them itself, what it exports runs there."""
    vendors = tuple(dict.fromkeys(gpu.vendor for gpu in machine.other_gpus))
    for vendor in vendors:
        # The build for one maker before the build for all.
        rows = runtimes_for(vendor, machine, matrix)
        yield from (_build_of(row, vendor, machine) for row in sorted(rows, key=lambda row: len(row.vendors)))


def runtimes_for(vendor: str, machine: Machine, matrix: Matrix) -> tuple[Runtime, ...]:
    """The packages that run on GPUs of a maker, on this system."""
    return tuple(row for row in matrix.runtimes if _serves(row, vendor, machine, matrix))


def _serves(row: Runtime, vendor: str, machine: Machine, matrix: Matrix) -> bool:
    if row.package == matrix.cpu_package and machine.os is not OperatingSystem.MACOS:
        return False  # its provider for GPUs is in its wheels for macOS alone
    return vendor in row.vendors and machine.os.value in row.systems and row.maintained


def _build_of(row: Runtime, vendor: str, machine: Machine) -> Instead:
    note = f"; {row.note}" if row.note else ""
    return Instead(
        package=row.package,
        version=row.newest,
        provider=row.provider or "CPUExecutionProvider",
        index=DEFAULT_INDEX,
        because=f"the build for GPUs of {vendor}{note}. `onnxsd generate` runs on CUDA and the CPU; a folder "
        f"of `onnxsd export --target portable` runs on {row.provider} through other tools",
        remedy=Pip(uninstall=_owners(machine, but=row.package), install=("onnxsd[run]", row.package)),
    )


def _for_the_cpu(machine: Machine, matrix: Matrix) -> Instead:
    row = matrix.runtime(matrix.cpu_package)
    return Instead(
        package=matrix.cpu_package,
        version=row.newest if row else None,
        provider="CPUExecutionProvider",
        index=DEFAULT_INDEX,
        because="needs no GPU; images take minutes",
        remedy=Pip(uninstall=_owners(machine, but=matrix.cpu_package), install=("onnxsd[cpu]",)),
    )


def _owners(machine: Machine, *, but: str | None = None) -> tuple[str, ...]:
    """The packages that own the name `onnxruntime`: all of them, if any other than `but` does."""
    names = removable(machine)
    return names if set(names) - {but} else ()
