"""What a machine is: its facts as a value, with JSON in and out, and the collectors that read them."""

from __future__ import annotations

from onnxsd.machine.collect import snapshot
from onnxsd.machine.facts import (
    CpuArchitecture,
    Distribution,
    Environment,
    Gpu,
    Machine,
    OperatingSystem,
    Outcome,
    Provider,
    Python,
    SessionProbe,
    Unreadable,
    Variable,
)
from onnxsd.machine.file import load, save
from onnxsd.machine.whatif import with_settings

__all__ = [
    "CpuArchitecture",
    "Distribution",
    "Environment",
    "Gpu",
    "Machine",
    "OperatingSystem",
    "Outcome",
    "Provider",
    "Python",
    "SessionProbe",
    "Unreadable",
    "Variable",
    "load",
    "save",
    "snapshot",
    "with_settings",
]
