"""GPUs by compute capability: their names, and what CUDA and cuDNN still serve."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from onnxsd.records import Dotted


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFamily:
    """GPUs that share a compute capability, as their users call them."""

    compute_capability: Dotted
    names: tuple[str, ...]
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaGpus:
    """The compute capabilities that the libraries of a CUDA version serve; `newest` None: no limit known."""

    cuda: SpecifierSet
    oldest: Dotted
    newest: Dotted | None
    source: str
    checked: datetime.date
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CudnnGpus:
    """The compute capabilities that a cuDNN version serves; `newest` None: no limit known."""

    cudnn: SpecifierSet
    cuda_major: int
    oldest: Dotted
    newest: Dotted | None
    source: str
    checked: datetime.date
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCompanion:
    """A requirement to add where a GPU's compute capability is below a limit."""

    cuda_major: int
    below: Dotted
    requirement: str
    because: str
    source: str
    checked: datetime.date
