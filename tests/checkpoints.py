"""Tiny checkpoints and their exports, which several files of tests share: each is made once a session."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

from onnxsd.artifact.folder import Folder
from onnxsd.cli import main
from onnxsd.export import synthetic
from onnxsd.export.export import Silent, export
from onnxsd.export.source import resolve
from onnxsd.ops import Target
from onnxsd.tensors import DType

SDXL = "sdxl-base-1.0"
UNET = "unet/diffusion_pytorch_model.safetensors"


def run(*arguments: str | Path) -> Result:
    """What `onnxsd` with these arguments prints and exits with."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="onnxsd")


@contextmanager
def locked_folder(beside: Path, mode: int = 0o555) -> Iterator[tuple[Path, Path]]:
    """A copy of the folder `beside`, and an empty folder without write permission (or with another `mode`).

    Root may write everywhere: whoever is root is nobody inside. What will be imported has to be by then.
    """
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions are not in a folder's mode here")
    me = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        copy, folder = Path(name) / "copy", Path(name) / "locked"
        shutil.copytree(beside, copy)
        folder.mkdir(mode=mode)
        if me == 0:
            os.seteuid(65_534)
        try:
            yield copy, folder
        finally:
            os.seteuid(me)


def change_json(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; a key whose value is None is taken out."""
    content = json.loads(path.read_text(encoding="utf-8"))
    changed = {**content, **values}
    kept = {key: value for key, value in changed.items() if value is not None or key not in values}
    path.write_text(json.dumps(kept), encoding="utf-8")


def change_tensors(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite a safetensors file after `change` did something to its tensors."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


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

    def copy(self, out: Path, name: str = SDXL) -> Path:
        """A checkpoint that a test may change."""
        shutil.copytree(self.checkpoint(name), out)
        return out

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
