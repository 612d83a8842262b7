"""Tiny checkpoints and their exports, which several files of tests share: each is made once a session."""

from __future__ import annotations

from pathlib import Path

from onnxsd.artifact.folder import Folder
from onnxsd.export import synthetic
from onnxsd.export.export import export
from onnxsd.export.source import resolve
from onnxsd.ops import Target
from onnxsd.tensors import DType

SDXL = "sdxl-base-1.0"


class Silent:
    """Somebody who wants to hear nothing of how far an export is."""

    def stage(self, text: str) -> None:
        """A step begins."""

    def total(self, size_bytes: int) -> None:
        """So many bytes of weights will be written."""

    def wrote(self, size_bytes: int) -> None:
        """So many bytes were written."""


class Workshop:
    """Checkpoints and exports by what they are; whoever changes one copies it first.

    fp16 weights of a seed are the fp32 ones, cast, so every export is made of the fp32 checkpoint.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[Path, Folder] = {}

    def checkpoint(self, name: str = SDXL, dtype: DType = DType.FLOAT32) -> Path:
        """The narrow twin of a pipeline, with random weights, in diffusers' layout."""
        folder = self._root / f"{name}-{dtype.value}"
        if not folder.exists():
            synthetic.write(synthetic.plan(name, tiny=True, dtype=dtype), folder)
        return folder

    def export(
        self, name: str = SDXL, target: Target = Target.PORTABLE, precision: DType = DType.FLOAT32
    ) -> Folder:
        """The export of such a checkpoint, without checks."""
        out = self._root / f"{name}-{target.value}-{precision.value}"
        if out not in self._made:
            source = resolve(str(self.checkpoint(name)), precision=precision)
            made = export(source, out, target=target, precision=precision, choice=None, report=Silent())
            self._made[out] = made
        return self._made[out]
