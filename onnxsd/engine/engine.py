"""The engine: an exported folder's models, run on the provider that was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.artifact.data_file import initializers
from onnxsd.artifact.folder import Folder
from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.engine.gpu import Gpu
from onnxsd.engine.tensorrt import require_portable, tensorrt_session
from onnxsd.errors import UsageError, VerificationError
from onnxsd.kernels.choice import Kernels, choose
from onnxsd.ops import Target
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.session import Choice, Provider, Session
from onnxsd.tensors import DType

Array = npt.NDArray[Any]


class Engine:
    """Sessions of one exported folder on one device.

    On CUDA (`gpu`) each component's weights are loaded once, and sessions of fixed sizes share them. On a CPU
    one session with symbolic sizes holds weights that were widened to float32 once, and ONNX Runtime
    optimises it. TensorRT builds its own engine of the folder's files for each size. `kernels` says whether
    sessions run on onnxsd's own kernels, and why.
    """

    def __init__(
        self,
        folder: Folder,
        choice: Choice,
        *,
        cuda_graph: bool = True,
        memory_limit_bytes: int | None = None,
        kernels: Kernels = Kernels.AUTO,
    ) -> None:
        """Decide on kernels and start the GPU; models are loaded on first use.

        Raises:
            NotReadyError: own kernels were asked for and cannot be used; the message says what is missing.
        """
        self.folder = folder
        self.choice = choice
        if choice.provider is Provider.TENSORRT:
            require_portable(folder)
        self.kernels = choose(
            kernels,
            provider=choice.provider,
            device_id=choice.device_id,
            precision=folder.manifest.precision,
        )
        self.gpu: Gpu | None = None
        if choice.provider is Provider.CUDA:
            self.gpu = Gpu(
                folder,
                choice.device_id,
                cuda_graph=cuda_graph,
                limit_bytes=memory_limit_bytes,
                kernels=self.kernels,
            )
        self._sessions: dict[tuple[str, tuple[tuple[str, int], ...]], Session] = {}

    @property
    def dtype(self) -> DType:
        """The type that sessions compute in."""
        return DType.FLOAT32 if self.choice.provider is Provider.CPU else self.folder.manifest.precision

    def has(self, component: str) -> bool:
        """Whether the folder has a component."""
        return self.folder.manifest.has(component)

    def run(
        self, component: str, sizes: Mapping[str, int], feeds: Mapping[str, Array], *wanted: str
    ) -> dict[str, Array]:
        """One call of a component: its wanted outputs (all, if none is named), on the host.

        Args:
            component: its name in the folder.
            sizes: the values of its symbols.
            feeds: its inputs, cast to the types that it takes.
            wanted: names of outputs.
        """
        gpu = self.gpu
        if gpu is not None:
            return gpu.worker.run(lambda: self._run_on_gpu(gpu, component, sizes, feeds, wanted))
        session = self.session(component, sizes)
        types = {spec.name: spec.dtype for spec in session.inputs}
        outputs = session.run({name: value.astype(types[name]) for name, value in feeds.items()})
        return {name: outputs[name] for name in wanted or outputs}

    def session(self, component: str, sizes: Mapping[str, int]) -> Session:
        """The session of a component at these sizes on the CPU or TensorRT, made on first use."""
        if self.gpu is not None:
            raise UsageError(f"{component} runs on CUDA through `run`: a captured graph has no other way")
        on_cpu = self.choice.provider is Provider.CPU
        key = (component, () if on_cpu else tuple(sorted(sizes.items())))
        if key not in self._sessions:
            self._sessions[key] = self._on_cpu(component) if on_cpu else self._on_tensorrt(component, sizes)
        return self._sessions[key]

    def release(self, component: str | None = None) -> None:
        """Let a component's sessions and weights go; without a name, everything."""
        kept = {} if component is None else self._sessions
        self._sessions = {key: session for key, session in kept.items() if key[0] != component}
        gpu = self.gpu
        if gpu is not None:
            gpu.worker.run(lambda: gpu.release(component))

    def _run_on_gpu(
        self,
        gpu: Gpu,
        component: str,
        sizes: Mapping[str, int],
        feeds: Mapping[str, Array],
        wanted: tuple[str, ...],
    ) -> dict[str, Array]:
        def author() -> tuple[AuthoredGraph]:
            return (self.folder.blueprint(component).author(gpu.target, self.dtype, dict(sizes)),)

        bound = gpu.bound((component, tuple(sorted(sizes.items()))), component, author)
        for name, value in feeds.items():
            bound.set(name, value)
        bound.run()
        return {name: bound.get(name) for name in wanted or bound.outputs}

    def _on_tensorrt(self, component: str, sizes: Mapping[str, int]) -> Session:
        return tensorrt_session(self.folder, component, sizes, self.choice.device_id)

    def _on_cpu(self, component: str) -> Session:
        graph = self.folder.blueprint(component).author(Target.PORTABLE, self.dtype)
        record = self.folder.manifest.component(component)
        widened = {
            recipe.name: array for recipe, array in initializers(self.folder.path, record, graph.recipes)
        }
        return Session.create(to_bytes(graph), provider=Provider.CPU, external=widened, label=component)


def require_finite(array: Array, component: str) -> None:
    """Refuse NaN and infinity in what a component gave: they would end in a black picture."""
    if not np.isfinite(array).all():
        raise VerificationError(
            f"{component} gave NaN or infinity",
            hint="`onnxsd verify` on the folder says what is wrong with it",
        )
