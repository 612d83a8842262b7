"""Operating systems by their C library, and container images by what they hold."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from onnxsd.records import Dotted


@dataclass(frozen=True, slots=True, kw_only=True)
class Libc:
    """Systems that come with a version of glibc."""

    glibc: Dotted
    systems: tuple[str, ...]
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class OddSystem:
    """A system on which wheels for glibc do not load as they are, by its id in /etc/os-release."""

    id: str
    name: str
    because: str
    instead: str
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A public container image; `cuda` None: it brings no CUDA libraries, and pip's serve."""

    name: str
    system: str
    glibc: Dotted
    python: Dotted  # the one it holds, or that its package manager installs
    cuda: Dotted | None
    cudnn_major: int | None
    source: str
    checked: datetime.date
    note: str | None = None
