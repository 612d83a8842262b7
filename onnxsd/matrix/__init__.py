"""What is known of wheels, drivers and GPUs: `compat_matrix.yaml` as a value."""

from __future__ import annotations

from onnxsd.matrix.file import dump, load
from onnxsd.matrix.rows import (
    Branch,
    CudaMajor,
    Floor,
    Goal,
    GpuCompanion,
    Libc,
    Matrix,
    PipTag,
    Release,
    Requirement,
    Wheel,
)

__all__ = [
    "Branch",
    "CudaMajor",
    "Floor",
    "Goal",
    "GpuCompanion",
    "Libc",
    "Matrix",
    "PipTag",
    "Release",
    "Requirement",
    "Wheel",
    "dump",
    "load",
]
