"""The exported file of a component as a session, made to run where this machine has no kernels for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

import onnx_ir as ir

from onnxsd.artifact.folder import Folder
from onnxsd.ops import Target
from onnxsd.session import Choice, Provider, Session, SessionSettings
from onnxsd.verify.bodies import with_reference_bodies


@contextmanager
def exported_session(folder: Folder, name: str, choice: Choice) -> Iterator[Session]:
    """A component's own file on the chosen provider; on a CPU the cuda target's operators get bodies."""
    on_cuda = choice.provider is Provider.CUDA
    path = folder.path / folder.manifest.component(name).model.path
    with _runs_here(path, needs_bodies=folder.target is Target.CUDA and not on_cuda) as model:
        yield Session.create(
            model,
            provider=choice.provider,
            device_id=choice.device_id,
            options=SessionSettings(cpu_nodes=on_cuda),
            label=name,
        )


@contextmanager
def _runs_here(path: Path, *, needs_bodies: bool) -> Iterator[Path]:
    """The model, or where its operators have no kernel on this machine, a copy in which they have bodies."""
    if not needs_bodies:
        yield path
        return
    # In the same folder, where the data file is.
    with NamedTemporaryFile(suffix=".onnx", prefix="check-", dir=path.parent, delete=False) as copy:
        pass
    try:
        ir.save(with_reference_bodies(ir.load(path)), copy.name)
        yield Path(copy.name)
    finally:
        Path(copy.name).unlink()
