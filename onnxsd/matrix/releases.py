"""Releases of onnxruntime-gpu on the default index, as their wheels describe them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from onnxsd.records import Dotted


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A release's wheels for one platform: who can install them, what they load, their GPU code.

    All that stands after `evidence` was read from `file`, one wheel of the group; None: not read.
    """

    platform: str
    tags: tuple[str, ...]
    abis: tuple[str, ...]
    sass: tuple[str, ...] | None  # machine code: 86 runs on 8.6 and 8.9, 90a on 9.0 alone; None: not read
    ptx: tuple[str, ...] | None  # compiled at the first start
    evidence: str
    needed: tuple[str, ...] | None = None  # libraries that the CUDA provider loads with itself
    module_needed: tuple[str, ...] | None = None  # those of them that `import onnxruntime` needs already
    tensorrt_needed: tuple[str, ...] | None = None  # libraries of the TensorRT provider; empty: it has none
    glibc: Dotted | None = None  # the highest symbol version that its binaries ask for
    glibcxx: Dotted | None = None  # the same of libstdc++
    executable_stack: bool | None = None  # glibc 2.41 and newer refuse to load such a module
    file: str | None = None
    size_bytes: int | None = None  # of that file: what a download takes

    def file_name(self, package: str, version: Version, abi: str) -> str:
        """The wheel's file name for a Python ABI: `onnxruntime_gpu-1.31.1-cp312-cp312-win_amd64.whl`."""
        python = abi.rstrip("mt")
        tags = ".".join(self.tags)
        return f"{package.replace('-', '_')}-{version}-{python}-{abi}-{tags}.whl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """What an extra of a release asks for, markers included."""

    name: str
    requires: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release of onnxruntime-gpu on the default index."""

    version: Version
    released: datetime.date
    requires_python: SpecifierSet | None
    cuda_major: int
    cuda: Dotted | None  # the toolkit it was built with
    cudnn_major: int
    cudnn_required: bool
    extras: tuple[str, ...]  # those that bring the CUDA libraries
    companions: tuple[str, ...]  # what to install beside it where no extra does
    extras_fault: str | None = None  # why pip cannot install the extras
    note: str | None = None
    requires: tuple[str, ...] | None = None  # Requires-Dist without extras, of all its wheels
    pins: tuple[Extra, ...] | None = None  # what each of its extras asks for
    wheels: tuple[Wheel, ...]
    source: str
    checked: datetime.date

    def wheel_for(self, platform: str) -> Wheel | None:
        """The wheels for a platform, by the matrix's name for it (`linux_x86_64`)."""
        return next((wheel for wheel in self.wheels if wheel.platform == platform), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vanished:
    """Releases that the CPU package has and the default index does not, or no longer, and what to take."""

    versions: SpecifierSet
    was_there: bool  # False: nothing shows that the GPU package ever had them
    instead: Version
    source: str
    checked: datetime.date
