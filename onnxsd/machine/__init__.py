"""What a machine is: its facts as a value, with JSON in and out, and the collectors that read them."""

from __future__ import annotations

from onnxsd.machine.facts import (
    Container,
    CpuArchitecture,
    DamagedFile,
    Distribution,
    Distro,
    Environment,
    Gpu,
    Library,
    Machine,
    Module,
    OperatingSystem,
    Origin,
    OtherGpu,
    Outcome,
    OwnKernels,
    Place,
    ProbeGraph,
    Problem,
    Provider,
    Python,
    SessionProbe,
    TorchProbe,
    Unreadable,
    Variable,
)
from onnxsd.machine.file import load, save
from onnxsd.machine.whatif import with_settings


def snapshot(*, probe: bool = True, python: str | None = None) -> Machine:
    """The facts about this machine; `probe` also imports onnxruntime and torch in child processes.

    Args:
        probe: whether to start child processes that import what may be broken.
        python: another interpreter whose environment is looked at, by its path or its name.

    Raises:
        UsageError: `python` is no interpreter that can be asked.
    """
    from onnxsd.machine import collect  # the readers are not needed where saved facts are judged

    return collect.snapshot(probe=probe, python=python)


__all__ = [
    "Container",
    "CpuArchitecture",
    "DamagedFile",
    "Distribution",
    "Distro",
    "Environment",
    "Gpu",
    "Library",
    "Machine",
    "Module",
    "OperatingSystem",
    "Origin",
    "OtherGpu",
    "Outcome",
    "OwnKernels",
    "Place",
    "ProbeGraph",
    "Problem",
    "Provider",
    "Python",
    "SessionProbe",
    "TorchProbe",
    "Unreadable",
    "Variable",
    "load",
    "save",
    "snapshot",
    "with_settings",
]
