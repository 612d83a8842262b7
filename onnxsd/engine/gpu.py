"""One exported folder on one GPU: each component's weights once, and sessions over them for each size."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar, cast

import numpy as np

from onnxsd.artifact.data_file import readers
from onnxsd.artifact.folder import Folder
from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.engine.bound import Bound
from onnxsd.engine.memory import DeviceMemory
from onnxsd.engine.worker import Worker
from onnxsd.kernels.choice import KernelChoice
from onnxsd.ops import Target
from onnxsd.ops.arena import arena_bytes
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.ops.memory import memory_need
from onnxsd.session import (
    CustomOperators,
    DeviceArray,
    Optimization,
    Provider,
    Session,
    SessionSettings,
    start_cuda,
    view,
)
from onnxsd.session.block import Block
from onnxsd.session.driver import driver
from onnxsd.session.staging import Part, fill
from onnxsd.tensors import DType
from onnxsd.weights.recipe import Recipe
from onnxsd.weights.stream import layout

A = TypeVar("A")
T = TypeVar("T")
Weights = dict[str, DeviceArray]


class Gpu:
    """Weights and sessions, made on first use and kept as the memory's limit allows.

    Everything here is for the thread of `worker`.
    """

    def __init__(
        self,
        folder: Folder,
        device_id: int,
        *,
        cuda_graph: bool,
        limit_bytes: int | None,
        kernels: KernelChoice,
    ) -> None:
        start_cuda(device_id)
        self.folder = folder
        self.device_id = device_id
        self.kernels = kernels
        # What every graph for this GPU is authored in.
        self.target = Target.OWN if kernels.own else Target.CUDA
        self.cuda_graph = cuda_graph
        self.memory = DeviceMemory(driver(device_id), limit_bytes)
        self.worker = Worker()
        # Seconds that went into loading weights and making sessions.
        self.loading_s = 0.0
        self._weights: dict[str, Weights] = {}
        # In how many blocks each component's weights lie: one, and one more for what only graphs of other
        # sizes ask for.
        self._blocks: dict[str, int] = {}
        self._sessions: dict[Hashable, object] = {}
        self._of: dict[Hashable, str] = {}

    def resident(
        self,
        key: Hashable,
        component: str,
        author: Callable[[], Sequence[AuthoredGraph]],
        make: Callable[[Sequence[AuthoredGraph]], T],
    ) -> T:
        """What `make` makes of a component's graphs, kept under a key with the weights that they share.

        Args:
            key: what it is made for.
            component: whose weights it runs over.
            author: the graphs of its sessions, asked for on first use.
            make: makes their sessions and runs them once, so that all their memory is taken.
        """
        if key in self._sessions:
            self._touch_weights(component)
            self.memory.touch(key)
            return cast("T", self._sessions[key])
        started = time.perf_counter()
        graphs = author()
        self.worker.check()
        taken_bytes = sum(_taken_bytes(graph) for graph in graphs)
        recipes = [recipe for graph in graphs for recipe in graph.recipes]
        _, weights_bytes = layout(recipes)
        self.memory.require_possible(component, weights_bytes + taken_bytes)
        self._load(component, recipes, beside_bytes=taken_bytes)
        made = self.memory.add(
            key,
            lambda: make(graphs),
            what=f"{component}'s activations",
            need_bytes=taken_bytes,
            let_go=self._weakly(Gpu._forget, key),
            keep=self._held_under(component),
        )
        self._sessions[key], self._of[key] = made, component
        self.loading_s += time.perf_counter() - started
        return made

    def bound(
        self,
        key: Hashable,
        component: str,
        author: Callable[[], Sequence[AuthoredGraph]],
    ) -> Bound:
        """One session of a component with its buffers, run once."""

        def make(graphs: Sequence[AuthoredGraph]) -> Bound:
            bound = Bound(self.session(component, graphs[0]))
            bound.warm_up()
            return bound

        return self.resident(key, component, author, make)

    def session(self, component: str, graph: AuthoredGraph) -> Session:
        """A session of a component's graph over the weights that are there."""
        weights = self._weights[component]
        return Session.create(
            to_bytes(graph),
            provider=Provider.CUDA,
            device_id=self.device_id,
            options=session_settings(
                component,
                self.folder.manifest.precision,
                cuda_graph=self.cuda_graph,
                operators=self.kernels.operators,
            ),
            initializers={recipe.name: weights[recipe.name] for recipe in graph.recipes},
            label=component,
        )

    def release(self, component: str | None = None) -> None:
        """Let a component's sessions and weights go; without a name, everything."""
        for name in [component] if component is not None else list(self._weights):
            self._forget_weights(name)

    def _load(self, component: str, recipes: Sequence[Recipe], *, beside_bytes: int) -> None:
        """Have the weights on the GPU: those that are not there yet come as a block of their own.

        Args:
            component: whose they are.
            recipes: all that its sessions ask for, some of them twice.
            beside_bytes: what has to fit beside them.
        """
        missing = self._missing(component, recipes)
        # Beside what only sessions of other sizes ask for, which may be in the way.
        mixed = (missing and component in self._weights) or len(self._held_under(component)) > 1
        if mixed and not self._fits(component, missing, beside_bytes):
            self.memory.evict(_block_of(component, 0))
            missing = self._missing(component, recipes)
        self._touch_weights(component)
        if not missing:
            return
        blocks = self._blocks.get(component, 0)
        offsets, size_bytes = layout(missing)
        added = self.memory.add(
            _block_of(component, blocks),
            lambda: self._upload(component, missing, offsets, size_bytes),
            what=component,
            need_bytes=size_bytes,
            exact=True,
            let_go=self._weakly(Gpu._forget_weights, component),
            keep=self._held_under(component),
        )
        self._weights.setdefault(component, {}).update(added)
        self._blocks[component] = blocks + 1

    def _missing(self, component: str, recipes: Sequence[Recipe]) -> list[Recipe]:
        """What is asked for and not there, each once."""
        there = self._weights.get(component, {})
        return list({recipe.name: recipe for recipe in recipes if recipe.name not in there}.values())

    def _fits(self, component: str, missing: Sequence[Recipe], beside_bytes: int) -> bool:
        """Whether there is room for more of a component's weights beside those that are there."""
        there = self.memory.held_bytes(self._held_under(component))
        return there + layout(missing)[1] + beside_bytes <= self.memory.attainable_bytes()

    def _touch_weights(self, component: str) -> None:
        for key in self._held_under(component):
            self.memory.touch(key)

    def _held_under(self, component: str) -> tuple[Hashable, ...]:
        """The keys of a component's blocks of weights."""
        return tuple(_block_of(component, block) for block in range(self._blocks.get(component, 0)))

    def _upload(
        self, component: str, recipes: Sequence[Recipe], offsets: Mapping[str, int], size_bytes: int
    ) -> Weights:
        record = self.folder.manifest.component(component)
        block = Block(driver(self.device_id), size_bytes)
        fill(
            block,
            [
                Part(offset=offsets[recipe.name], size_bytes=recipe.size_bytes, read=read)
                for recipe, read in readers(self.folder.path, record, recipes)
            ],
        )
        return _views(block, recipes, offsets, self.device_id)

    def _weakly(self, method: Callable[[Gpu, A], None], argument: A) -> Callable[[], None]:
        """A call that does not keep this object: its memory would wait for a garbage collection."""
        reference = weakref.ref(self)

        def call() -> None:
            gpu = reference()
            if gpu is not None:
                method(gpu, argument)

        return call

    def _forget_weights(self, component: str) -> None:
        for key in [key for key, owner in self._of.items() if owner == component]:
            self.memory.drop(key)
        self._weights.pop(component, None)
        # All blocks leave together; one more may have been interrupted between being made and being noted.
        for block in range(self._blocks.pop(component, 0) + 1):
            self.memory.drop(_block_of(component, block))

    def _forget(self, key: Hashable) -> None:
        # What was interrupted between being made and being noted is held, and not here.
        self._sessions.pop(key, None)
        self._of.pop(key, None)


def session_settings(
    component: str, precision: DType, *, cuda_graph: bool, operators: CustomOperators | None
) -> SessionSettings:
    """How a component's sessions run on a GPU; `operators` bring own kernels, None is stock ones."""
    half = precision is DType.FLOAT16
    return SessionSettings(
        optimize=Optimization.DISABLED,
        cuda_graph=cuda_graph,
        # Stock graphs alone have convolutions that are worth a fused bias.
        fuse_conv_bias=half and operators is None and component.startswith("vae"),
        use_tf32=half,
        lean=True,
        custom_operators=operators,
    )


def _block_of(component: str, block: int) -> Hashable:
    return ("weights", component, block)


def _taken_bytes(graph: AuthoredGraph) -> int:
    """What a session will take besides weights; what its kernels need to work in is not in it."""
    need = memory_need(graph)
    return arena_bytes(graph) + need.inputs_bytes + need.outputs_bytes


def _views(block: Block, recipes: Sequence[Recipe], offsets: Mapping[str, int], device_id: int) -> Weights:
    return {
        recipe.name: view(
            block, offsets[recipe.name], recipe.shape, np.dtype(recipe.dtype.numpy_name), device_id
        )
        for recipe in recipes
    }
