"""The engine's GPU over host memory: its own books and weights, with the operators' bodies on the CPU."""

from __future__ import annotations

import dataclasses
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fake_cuda import FakeCuda

from onnxsd.artifact.folder import Folder
from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.engine import engine as engines
from onnxsd.engine import gpu as gpus
from onnxsd.engine.engine import Engine
from onnxsd.engine.gpu import Gpu
from onnxsd.engine.pipeline import Pipeline
from onnxsd.kernels.choice import KernelChoice, Kernels
from onnxsd.ops.arena import arena_bytes
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.ops.memory import memory_need
from onnxsd.session import Choice, CustomOperators, Optimization, Provider, Session, SessionSettings
from onnxsd.session import block as blocks
from onnxsd.session.block import Block
from onnxsd.session.driver import Driver
from onnxsd.verify.bodies import with_reference_bodies

DLPACK_CPU = 1
CHOICE = Choice(provider=Provider.CUDA, device_id=0, reason="a fake device")
STOCK = KernelChoice(operators=None, reason="stock operators were asked for")
# No session here loads the library: own operators have bodies.
OWN = KernelChoice(
    operators=CustomOperators(library=Path("operators.so")), reason="a test asks for own kernels"
)


class HostGpu(Gpu):
    """A `Gpu` whose sessions run on the CPU, over weights that lie in a fake device's memory.

    A block of the fake device stands for what each session takes, and lives as long. operators: how many of
    each its sessions hold.
    """

    def __init__(self, folder: Folder, device_id: int, **options: Any) -> None:
        super().__init__(folder, device_id, **options)
        self.driver = gpus.driver(device_id)
        self.operators: Counter[str] = Counter()

    def session(self, component: str, graph: AuthoredGraph) -> Session:
        """A session of the graph with bodies for the GPU's operators; nothing is captured."""
        self.operators.update(graph.operator_counts())
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
    put_in_place(cuda, monkeypatch)
    with monkeypatch.context() as meanwhile:
        choose_always(kernels, meanwhile)
        engine = Engine(folder, CHOICE, cuda_graph=False, memory_limit_bytes=limit_bytes)
    return Pipeline(engine)


def put_in_place(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a fake device the one that engines find."""
    driver = Driver(cuda, 0)
    monkeypatch.setattr(blocks, "_CUDA", DLPACK_CPU)
    monkeypatch.setattr(gpus, "start_cuda", lambda device_id: None)
    monkeypatch.setattr(gpus, "driver", lambda ordinal: driver)
    monkeypatch.setattr(engines, "Gpu", HostGpu)


def choose_always(kernels: KernelChoice, monkeypatch: pytest.MonkeyPatch) -> list[Kernels]:
    """Let engines have these kernels, whatever they ask for; what they ask for is noted in the list."""
    asked: list[Kernels] = []

    def choose(wanted: Kernels, **_: Any) -> KernelChoice:
        asked.append(wanted)
        return kernels

    monkeypatch.setattr(engines, "choose", choose)
    return asked
