"""What a native library was built from: a mark inside it, which is read without loading it.

The library launches the kernels' text with arguments of its own, so both must be of one source. setup.py runs
this file by itself, before there is a package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_MARK = "onnxsd_built_from_"
_DIGITS = 16


def mark(package: Path) -> str:
    """What a library holds that is built now, an identifier of C++; `package` is the folder of onnxsd."""
    return f"{_mark_of_kernels(package)}{_digest(_native(package).glob('*.[ch]pp'))}"


def fits(library: Path, package: Path) -> bool:
    """Whether a library was built from what lies here: the kernels' text, and in a checkout `native/` too.

    Raises:
        OSError: one of these cannot be read.
    """
    in_a_checkout = (_native(package) / "operators.cpp").is_file()
    wanted = mark(package) if in_a_checkout else _mark_of_kernels(package)
    return wanted.encode() in library.read_bytes()


def _mark_of_kernels(package: Path) -> str:
    return f"{_MARK}{_digest((package / 'kernels' / 'cuda').glob('*.cu'))}_"


def _native(package: Path) -> Path:
    return package.parent / "native"


def _digest(files: Iterable[Path]) -> str:
    """Of the files' names and texts, however their lines end."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        text = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(text).digest())
    return digest.hexdigest()[:_DIGITS]
