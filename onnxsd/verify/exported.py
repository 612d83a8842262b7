"""The exported file of a component as a session, made to mean the same where this machine has no kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from onnxsd.artifact.folder import Folder
from onnxsd.errors import VerificationError
from onnxsd.ops import Target
from onnxsd.session import Choice, Provider, Session, SessionSettings
from onnxsd.tensors import DType
from onnxsd.verify.bodies import with_reference_bodies


def needs_bodies(folder: Folder, choice: Choice) -> bool:
    """Whether the folder's graphs mean what they mean on a GPU only with bodies for their operators.

    A CPU has no kernels for the cuda target's, and it computes fp16 graphs in float32 without rounding
    between nodes, so that an overflow would go unseen.
    """
    half = folder.manifest.precision is DType.FLOAT16
    return choice.provider is Provider.CPU and (folder.target is Target.CUDA or half)


def exported_session(folder: Folder, name: str, choice: Choice) -> Session:
    """A component's own file on the chosen provider, with bodies for its operators where they are needed."""
    path = folder.path / folder.manifest.component(name).model.path
    if needs_bodies(folder, choice):
        return _with_bodies(path, choice, label=name)
    return Session.create(
        path,
        provider=choice.provider,
        device_id=choice.device_id,
        options=SessionSettings(cpu_nodes=choice.provider is Provider.CUDA),
        label=name,
    )


def _with_bodies(path: Path, choice: Choice, *, label: str) -> Session:
    """A file with bodies for its operators; its weights from where it says.

    Nothing is written, for the folder may belong to another user.
    """
    model = ir.load(path)
    weights: dict[str, npt.NDArray[Any]] = {
        name: _read(value.const_value, path)
        for name, value in model.graph.initializers.items()
        if isinstance(value.const_value, ir.ExternalTensor)
    }
    content = bytes(ir.to_proto(with_reference_bodies(model)).SerializeToString())
    return Session.create(content, provider=choice.provider, external=weights, label=label)


def _read(weight: ir.ExternalTensor, path: Path) -> npt.NDArray[Any]:
    """A weight's numbers, a view of the data file."""
    try:
        return weight.numpy()
    except ValueError as error:
        raise VerificationError(
            f"{path}: weight {weight.name} is not all in {weight.location}: {error}", hint="export again"
        ) from error
