"""The engine: a weight set for each component, and a session for each key over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.artifact.data_file import initializers
from onnxsd.artifact.folder import Folder
from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.engine.bound import Bound
from onnxsd.errors import VerificationError
from onnxsd.ops import Target
from onnxsd.session import (
    Choice,
    DeviceArray,
    Optimization,
    Provider,
    Session,
    SessionSettings,
    to_device,
)
from onnxsd.tensors import DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a session is made for: a component at sizes; on a CPU one session serves every size."""

    component: str
    sizes: tuple[tuple[str, int], ...] = ()


class Engine:
    """Sessions of one exported folder on one device.

    On CUDA each component's weights are loaded once and belong to the engine; a key's graph is authored with
    fixed sizes, without weights, and its session uses the engine's buffers in place. On a CPU one session
    with symbolic sizes holds weights that were widened to float32 once, and ONNX Runtime optimises it.
    """

    def __init__(self, folder: Folder, choice: Choice, *, cuda_graph: bool = True) -> None:
        self.folder = folder
        self.choice = choice
        self.cuda_graph = cuda_graph and choice.provider is Provider.CUDA
        self._sessions: dict[Key, Session] = {}
        self._bound: dict[Key, Bound] = {}
        self._weights: dict[str, dict[str, DeviceArray]] = {}

    @property
    def on_cuda(self) -> bool:
        """Whether sessions run on a GPU."""
        return self.choice.provider is Provider.CUDA

    @property
    def dtype(self) -> DType:
        """The type that sessions compute in."""
        return self.folder.manifest.precision if self.on_cuda else DType.FLOAT32

    def has(self, component: str) -> bool:
        """Whether the folder has a component."""
        return self.folder.manifest.has(component)

    def session(self, component: str, sizes: Mapping[str, int]) -> Session:
        """The session of a component at these sizes (the values of its symbols), made on first use."""
        key = Key(component=component, sizes=tuple(sorted(sizes.items())) if self.on_cuda else ())
        if key not in self._sessions:
            self._sessions[key] = self._make_on_cuda(key) if self.on_cuda else self._make_on_cpu(key)
        return self._sessions[key]

    def bound(self, component: str, sizes: Mapping[str, int]) -> Bound:
        """The session of a component on CUDA with buffers of its own; its runs replay a captured graph."""
        key = Key(component=component, sizes=tuple(sorted(sizes.items())))
        if key not in self._bound:
            self._bound[key] = Bound(self._make_on_cuda(key, capture=self.cuda_graph))
        return self._bound[key]

    def release(self, component: str) -> None:
        """Let a component's sessions and weights go."""
        self._sessions = {key: kept for key, kept in self._sessions.items() if key.component != component}
        self._bound = {key: kept for key, kept in self._bound.items() if key.component != component}
        self._weights.pop(component, None)

    def _make_on_cuda(self, key: Key, *, capture: bool = False) -> Session:
        blueprint = self.folder.blueprint(key.component)
        graph = blueprint.author(Target.CUDA, self.dtype, dict(key.sizes))
        if key.component not in self._weights:
            record = self.folder.manifest.component(key.component)
            self._weights[key.component] = {
                recipe.name: to_device(array, self.choice.provider, self.choice.device_id)
                for recipe, array in initializers(self.folder.path, record, graph.recipes)
            }
        return Session.create(
            to_bytes(graph),
            provider=self.choice.provider,
            device_id=self.choice.device_id,
            options=SessionSettings(optimize=Optimization.DISABLED, cuda_graph=capture),
            initializers=self._weights[key.component],
            label=key.component,
        )

    def _make_on_cpu(self, key: Key) -> Session:
        graph = self.folder.blueprint(key.component).author(Target.PORTABLE, self.dtype)
        record = self.folder.manifest.component(key.component)
        widened = {
            recipe.name: array for recipe, array in initializers(self.folder.path, record, graph.recipes)
        }
        return Session.create(to_bytes(graph), provider=Provider.CPU, external=widened, label=key.component)


def require_finite(array: npt.NDArray[Any], component: str) -> None:
    """Refuse NaN and infinity in what a component gave: they would end in a black picture."""
    if not np.isfinite(array).all():
        raise VerificationError(
            f"{component} gave NaN or infinity",
            hint="`onnxsd verify` on the folder says what is wrong with it",
        )
