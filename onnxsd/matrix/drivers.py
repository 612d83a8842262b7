"""NVIDIA drivers, and the CUDA versions that they carry."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from onnxsd.records import Dotted


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaMajor:
    """The oldest driver on which a build for this CUDA major runs."""

    major: int
    linux: Dotted
    windows: Dotted
    source: str
    checked: datetime.date
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """The CUDA version that a branch of drivers offers, and the month in which its support ends."""

    branch: Dotted
    cuda: Dotted
    source: str
    checked: datetime.date
    ends: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolkit:
    """The driver that came with a CUDA toolkit: PTX of that toolkit needs one at least as new."""

    toolkit: Dotted
    linux: Dotted | None
    windows: Dotted | None
    source: str
    checked: datetime.date
