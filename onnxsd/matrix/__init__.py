"""What is known of wheels, drivers and GPUs: `compat_matrix.yaml` as a value."""

from __future__ import annotations

from onnxsd.matrix.companions import Clash, Fit, LibraryPackage, ModelFormat, Runtime, TorchBuild
from onnxsd.matrix.drivers import Branch, CudaMajor, Toolkit
from onnxsd.matrix.feeds import Feed
from onnxsd.matrix.file import dump, load
from onnxsd.matrix.goals import Floor, Goal, Requirement
from onnxsd.matrix.gpus import CudaGpus, CudnnGpus, GpuCompanion, GpuFamily
from onnxsd.matrix.installers import PipFeature, PipTag
from onnxsd.matrix.releases import Extra, Release, Vanished, Wheel
from onnxsd.matrix.rows import Matrix
from onnxsd.matrix.systems import Image, Libc, OddSystem

__all__ = [
    "Branch",
    "Clash",
    "CudaGpus",
    "CudaMajor",
    "CudnnGpus",
    "Extra",
    "Feed",
    "Fit",
    "Floor",
    "Goal",
    "GpuCompanion",
    "GpuFamily",
    "Image",
    "Libc",
    "LibraryPackage",
    "Matrix",
    "ModelFormat",
    "OddSystem",
    "PipFeature",
    "PipTag",
    "Release",
    "Requirement",
    "Runtime",
    "Toolkit",
    "TorchBuild",
    "Vanished",
    "Wheel",
    "dump",
    "load",
]
