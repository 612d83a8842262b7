"""The text of the kernels, and how it is compiled: one translation unit out of the files in `cuda/`."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "cuda"
# What the log of the compiler calls the unit; each line says by itself in which file it is.
NAME = "onnxsd_kernels.cu"
OPTIONS = ("--std=c++17",)
# They declare what the others use.
_FIRST = ("device.cu", "arithmetic.cu")


def translation_unit(folder: Path = FOLDER) -> str:
    """All files joined: first those that the others use, then the others by name."""
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.cu"))}
    order = [*_FIRST, *(name for name in files if name not in _FIRST)]
    return "".join(f'#line 1 "{name}"\n{files[name]}\n' for name in order)
