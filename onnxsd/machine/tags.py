"""The platform tags of wheels that a system can install, best first, from its facts alone."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.machine.facts import CpuArchitecture, OperatingSystem
from onnxsd.records import Dotted

# The oldest C library that manylinux speaks of, by processor, and the names that older pips know for three of
# its versions (PEP 513, 571, 599).
_OLDEST_GLIBC_MINOR = {CpuArchitecture.X86_64: 5, CpuArchitecture.AARCH64: 17}
_LEGACY_NAMES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
_OLDEST_MUSL_MINOR = 0


def platform_tags_of(
    system: OperatingSystem, arch: CpuArchitecture, *, glibc: Dotted | None, musl: Dotted | None
) -> tuple[str, ...]:
    """What `packaging.tags.platform_tags()` would give on a machine with these facts."""
    if system is OperatingSystem.WINDOWS:
        return ("win_amd64",) if arch is CpuArchitecture.X86_64 else ("win_arm64",)
    if system is OperatingSystem.LINUX:
        return (f"linux_{arch.value}", *_libc_tags(arch, glibc, musl))
    return ()


def _libc_tags(arch: CpuArchitecture, glibc: Dotted | None, musl: Dotted | None) -> Iterator[str]:
    if glibc is not None and arch in _OLDEST_GLIBC_MINOR:
        major, minor = glibc.parts[:2]
        for at in range(minor, _OLDEST_GLIBC_MINOR[arch] - 1, -1):
            yield f"manylinux_{major}_{at}_{arch.value}"
            if at in _LEGACY_NAMES:
                yield f"{_LEGACY_NAMES[at]}_{arch.value}"
    elif musl is not None:
        major, minor = musl.parts[:2]
        for at in range(minor, _OLDEST_MUSL_MINOR - 1, -1):
            yield f"musllinux_{major}_{at}_{arch.value}"
