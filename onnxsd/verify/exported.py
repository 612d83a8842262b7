"""The exported file of a component as a session, made to run where this machine has no kernels for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from onnxsd.artifact.folder import Folder
from onnxsd.ops import Target
from onnxsd.session import Choice, Provider, Session, SessionSettings
from onnxsd.verify.bodies import with_reference_bodies


def exported_session(folder: Folder, name: str, choice: Choice) -> Session:
    """A component's own file on the chosen provider; on a CPU the cuda target's operators get bodies."""
    path = folder.path / folder.manifest.component(name).model.path
    if folder.target is Target.CUDA and choice.provider is not Provider.CUDA:
        return _with_bodies(path, choice, label=name)
    return Session.create(
        path,
        provider=choice.provider,
        device_id=choice.device_id,
        options=SessionSettings(cpu_nodes=choice.provider is Provider.CUDA),
        label=name,
    )


def _with_bodies(path: Path, choice: Choice, *, label: str) -> Session:
    """A file whose operators have no kernel here, with bodies for them; its weights from where it says.

    Nothing is written, for the folder may belong to another user.
    """
    model = ir.load(path)
    weights: dict[str, npt.NDArray[Any]] = {
        name: value.const_value.numpy()
        for name, value in model.graph.initializers.items()
        if isinstance(value.const_value, ir.ExternalTensor)
    }
    content = bytes(ir.to_proto(with_reference_bodies(model)).SerializeToString())
    return Session.create(content, provider=choice.provider, external=weights, label=label)
