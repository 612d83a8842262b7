"""What a machine is: its facts as a value, with JSON in and out, and the collectors that read them."""

from __future__ import annotations

from onnxsd.machine.collect import snapshot
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
