"""Package indexes beside the default one that hold builds of onnxruntime-gpu."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """An index and what it holds; wheels were not read, unlike those of `releases`."""

    name: str
    url: str
    cuda_major: int
    cudnn_major: int | None
    versions: SpecifierSet  # of stable releases; a nightly feed names the releases they lead to
    nightly: bool
    platforms: tuple[str, ...]
    dependencies: bool  # whether it holds what the wheels depend on, or that must be installed first
    note: str
    source: str
    checked: datetime.date

    def holds(self, version: Version, platform: str) -> bool:
        """Whether a stable release for a platform is known to be there."""
        return not self.nightly and platform in self.platforms and version in self.versions
