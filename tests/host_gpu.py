"""The engine's GPU over host memory: its own books and weights, with the operators' bodies on the CPU."""

from __future__ import annotations

import dataclasses
import weakref
from pathlib import Path
from typing import Any

import pytest
from fake_cuda import FakeCuda

from onnxsd.artifact.folder import Folder
from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.engine import gpu as gpus
from onnxsd.engine.engine import Engine
from onnxsd.engine.gpu import Gpu
from onnxsd.engine.pipeline import Pipeline
from onnxsd.kernels.choice import KernelChoice
from onnxsd.ops.arena import arena_bytes
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.ops.memory import memory_need
from onnxsd.session import Choice, CustomOperators, Optimization, Provider, Session, SessionSettings
from onnxsd.session import block as blocks
from onnxsd.session.block import Block
from onnxsd.session.driver import Driver
from onnxsd.verify.bodies import with_reference_bodies

DLPACK_CPU = 1
STOCK = KernelChoice(operators=None, reason="stock operators were asked for")
# No session here loads the library: own operators have bodies.
OWN = KernelChoice(
    operators=CustomOperators(library=Path("operators.so")), reason="a test asks for own kernels"
)


class HostGpu(Gpu):
    """A `Gpu` whose sessions run on the CPU, over weights that lie in a fake device's memory.

    A block of the fake device stands for what each session takes, and lives as long.
    """

    driver: Driver

    def session(self, component: str, graph: AuthoredGraph) -> Session:
        """A session of the graph with bodies for the GPU's operators; nothing is captured."""
        need = memory_need(graph)
        size_bytes = arena_bytes(graph) + need.inputs_bytes + need.outputs_bytes
        activations = Block(self.driver, size_bytes)
        weights = self._weights[component]
        runnable = dataclasses.replace(graph, model=with_reference_bodies(graph.model))
        session = Session.create(
            to_bytes(runnable),
            provider=Provider.CPU,
            options=SessionSettings(optimize=Optimization.DISABLED, threads=1, prepack=False),
            initializers={recipe.name: on_host(weights[recipe.name]) for recipe in graph.recipes},
            label=component,
        )
        weakref.finalize(session, activations.close)
        return session


def on_host(weight: Any) -> Any:
    """The same tensor, said to lie where it does."""
    return dataclasses.replace(weight, provider=Provider.CPU)


def pipeline_over(
    cuda: FakeCuda,
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    *,
    limit_bytes: int | None = None,
    kernels: KernelChoice = STOCK,
) -> Pipeline:
    """A pipeline whose GPU is a fake device: weights lie there, activations do not."""
    driver = Driver(cuda, 0)
    monkeypatch.setattr(blocks, "_CUDA", DLPACK_CPU)
    monkeypatch.setattr(gpus, "start_cuda", lambda device_id: None)
    monkeypatch.setattr(gpus, "driver", lambda ordinal: driver)
    engine = Engine(folder, Choice(provider=Provider.CPU, device_id=0, reason="a fake device"))
    engine.gpu = HostGpu(folder, 0, cuda_graph=False, limit_bytes=limit_bytes, kernels=kernels)
    engine.gpu.driver = driver
    return Pipeline(engine)
