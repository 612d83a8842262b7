"""Print what the libraries in a wheel ask of a system; exit 1 where manylinux_2_28 does not promise it.

Usage: python scripts/check_wheel.py WHEEL [--architecture x86_64]
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

from refresh import elf

from onnxsd.errors import BadInputError

# What every manylinux_2_28 system has: auditwheel 6.8's policy of that name.
CEILINGS = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)}
# The policy allows more (libz, libX11, …): the native library has no business with those.
LIBRARIES = frozenset(
    {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libstdc++.so.6", "libgcc_s.so.1"}
    | {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
)
# e_machine of an ELF header, by the names that wheels' tags have.
MACHINES = {"x86_64": 62, "aarch64": 183}


def libraries(wheel: Path) -> dict[str, bytes]:
    """Every ELF file in a wheel, by its place there."""
    with ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    return {name: content for name, content in contents.items() if content.startswith(elf.MAGIC)}


def asked(content: bytes) -> elf.Elf:
    """What a library asks of the system."""
    return elf.parse(lambda start, size: content[start : start + size])


def faults(content: bytes, architecture: str) -> Iterator[str]:
    """Why a library does not run on every manylinux_2_28 system, one line a reason."""
    library = asked(content)
    machine = int.from_bytes(content[18:20], "little")
    if machine != MACHINES[architecture]:
        yield f"is for ELF machine {machine}, and {architecture} is {MACHINES[architecture]}"
    for name in sorted(set(library.needed) - LIBRARIES):
        yield f"needs {name}, which is not part of the system"
    for version in library.versions:
        if _exceeds(version):
            yield f"needs {version}, which is above manylinux_2_28 ({_ceilings()})"
    if library.executable_stack:
        yield "wants an executable stack, which glibc 2.41 and hardened systems refuse"
    if library.run_path:
        yield f"looks for libraries in {library.run_path}"


def _exceeds(version: str) -> bool:
    """Whether a symbol version, as `GLIBC_2.34`, is not among those that the policy has."""
    family, _, number = version.partition("_")
    if family not in CEILINGS or not number.replace(".", "").isdigit():
        return True
    return tuple(int(part) for part in number.split(".")) > CEILINGS[family]


def _ceilings() -> str:
    return ", ".join(f"{family}_{'.'.join(map(str, number))}" for family, number in CEILINGS.items())


def main(arguments: list[str]) -> int:
    """Check one wheel; 0 where its libraries run on every manylinux_2_28 system, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--architecture", choices=sorted(MACHINES), default=platform.machine())
    asked_for = parser.parse_args(arguments)
    found = libraries(asked_for.wheel)
    if not found:
        print(f"{asked_for.wheel.name} holds no library: it was built without a compiler", file=sys.stderr)
        return 1
    wrong = False
    for name, content in found.items():
        try:
            library = asked(content)
            print(f"{name}: {', '.join(library.needed)}; {', '.join(library.versions)}")
            reasons = list(faults(content, asked_for.architecture))
        except BadInputError as error:
            reasons = [str(error)]
        for reason in reasons:
            print(f"{name} {reason}", file=sys.stderr)
        wrong = wrong or bool(reasons)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
