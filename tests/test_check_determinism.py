"""An operator that gives other bits the next time is found; on a CPU none of ours does."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from check_determinism import _graphs
from checkpoints import SDXL, Workshop
from determinism.calls import Found, Kind, distinct
from determinism.numbers import numbers
from determinism.table import as_json, as_text, rows
from determinism.trial import LARGE_BYTES, Outcome, Trial, _poisoned
from host_gpu import OWN, STOCK
from kernel_cases import native_library
from test_kernels_library import CPU, Launches, operators

from onnxsd.kernels.choice import KernelChoice
from onnxsd.ops import Target
from onnxsd.ops.graph import AuthoredGraph, Graph
from onnxsd.ops.operators import Value
from onnxsd.session import Optimization, Provider, Session, SessionSettings, resolve, runtime
from onnxsd.tensors import DType

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_determinism.py"
COMPONENTS = ("unet", "text_encoder")
SHAPE = (4, 64)


@pytest.fixture(scope="module")
def trial() -> Trial:
    settings = SessionSettings(optimize=Optimization.DISABLED)
    return Trial(choice=resolve("cpu"), settings=settings, runs=3, large_runs=2)


def graph_of(*make: Callable[[Graph, Value], Value]) -> AuthoredGraph:
    """A graph of nodes one after another."""
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT32, SHAPE)
    for one in make:
        x = one(graph, x)
    graph.output("y", x)
    return graph.finish({})


def erf(graph: Graph, x: Value) -> Value:
    return graph.emit("Erf", x)


def drawn(**attributes: float) -> Callable[[Graph, Value], Value]:
    """Random numbers: other ones in each run of a session."""
    return lambda graph, x: graph.emit_shaped(
        "RandomNormalLike", x, dtype=x.dtype, shape=x.shape, **attributes
    )


def tried(trial: Trial, graph: AuthoredGraph) -> dict[str, Outcome]:
    return {found.call.operator: trial.of(found) for found in distinct([("test", graph)])}


def test_every_operator_of_a_pipeline_is_deterministic_on_a_cpu(workshop: Workshop, tmp_path: Path) -> None:
    folder = workshop.export(SDXL, precision=DType.FLOAT16).path
    out = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), "--size", "64", "--runs", "2", "--provider", "cpu",
         "--component", "unet", "--component", "text_encoder", "--json", str(out)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["provider"] == "cpu"
    assert all(row["vary_between_runs"] == row["failed"] == 0 for row in found["operators"])
    blueprints = [workshop.export(SDXL, precision=DType.FLOAT16).blueprint(name) for name in COMPONENTS]
    sizes = {"batch": 2, "height": 8, "width": 8, "sequence": 77}
    emitted = {
        operator
        for blueprint in blueprints
        for operator in blueprint.author(
            Target.PORTABLE, DType.FLOAT32, {symbol: sizes[symbol] for symbol in blueprint.component.symbols}
        ).operator_counts()
    }
    assert {row["operator"] for row in found["operators"]} == emitted
    assert "| Conv |" in done.stdout


def test_random_numbers_vary_between_runs(trial: Trial) -> None:
    outcomes = tried(trial, graph_of(erf, drawn(), erf))

    assert outcomes["Erf"].sound
    assert len(outcomes["Erf"].found.nodes) == 2
    random = outcomes["RandomNormalLike"]
    assert random.between_runs
    # Two independent draws differ by √2 of their size.
    assert random.difference == pytest.approx(2**0.5, rel=0.2)
    assert not random.sound
    (line,) = [line for line in as_text([random]).splitlines() if line.startswith("RandomNormalLike")]
    assert "varies between runs, by 1." in line


def test_what_differs_between_sessions_alone_is_found(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime draws by a seed of the process, which is another one here for each session."""
    seeds, create = itertools.count(1), Session.create

    def create_reseeded(*arguments: Any, **options: Any) -> Session:
        onnxruntime.set_seed(next(seeds))
        return create(*arguments, **options)

    monkeypatch.setattr(Session, "create", create_reseeded)
    outcome = tried(dataclasses.replace(trial, runs=1), graph_of(drawn()))["RandomNormalLike"]

    assert outcome.between_sessions
    assert not outcome.between_runs
    assert outcome.difference == pytest.approx(2**0.5, rel=0.2)
    assert not outcome.sound


def test_a_seed_makes_sessions_alike_but_not_their_runs(trial: Trial) -> None:
    seeded = tried(trial, graph_of(drawn(seed=7.0)))["RandomNormalLike"]

    assert seeded.between_runs
    assert not seeded.between_sessions


def test_nan_where_numbers_belong_is_told(trial: Trial) -> None:
    left = np.zeros(8, np.float32)
    assert not _poisoned(left)
    left.view(np.uint32)[3] = 0xFFFFFFFF
    assert _poisoned(left)
    assert not _poisoned(np.full(8, -1, np.int64))


def test_a_call_that_does_not_run_is_an_outcome(trial: Trial) -> None:
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT32, (1, 4, 4, 8))
    weight = graph.constant(np.ones((8, 3, 3, 8), np.float32), "weight")
    made = graph.emit(
        "NhwcConv",
        x,
        weight,
        kernel_shape=(3, 3),
        strides=(1, 1),
        pads=(1, 1, 1, 1),
        dilations=(1, 1),
        group=1,
    )
    graph.output("y", made)
    outcome = tried(trial, graph.finish({}))["NhwcConv"]

    assert outcome.failure is not None
    assert "NhwcConv" in outcome.failure
    assert not outcome.sound
    assert rows([outcome])[0].failed == 1
    assert as_json([outcome])["calls"][0]["failure"] == outcome.failure


@pytest.mark.parametrize(("kernels", "norm"), [(OWN, "FusedGroupNorm"), (STOCK, "GroupNorm")])
def test_on_a_gpu_nodes_are_those_of_the_engine(kernels: KernelChoice, norm: str, workshop: Workshop) -> None:
    folder = workshop.export(SDXL, precision=DType.FLOAT16)
    asked = argparse.Namespace(component=["unet"], size=64)
    ((settings, graphs),) = _graphs(folder, Provider.CUDA, kernels, asked).items()

    assert settings.custom_operators == kernels.operators
    counts = graphs[0][1].operator_counts()
    assert counts[norm]
    assert ("FusedAdd" in counts) is kernels.own


def test_an_own_operator_runs_by_the_library_that_its_session_is_given(trial: Trial) -> None:
    """By a launch that does nothing, so that what was there before is found."""
    library, launches, device = native_library(), Launches(), 50
    if (installed := runtime.available()).version.release[:2] < (1, library.api_version):
        pytest.skip(f"{installed} has not the API that the library needs")
    library.provide(device, CPU, launches.address, range(len(library.functions)))
    settings = dataclasses.replace(trial.settings, custom_operators=operators(library, str(device)))
    graph = Graph("test")
    x, skip = (graph.input(name, DType.FLOAT16, SHAPE) for name in ("x", "skip"))
    graph.output("y", graph.emit("FusedAdd", x, skip))
    outcome = tried(dataclasses.replace(trial, settings=settings), graph.finish({}))["FusedAdd"]

    assert outcome.failure is None
    assert outcome.unwritten
    assert not outcome.sound
    # Three runs in each of two sessions.
    assert launches.functions == [library.functions.index("addition")] * 6


def test_scratch_of_a_kernel_may_stay_unwritten(workshop: Workshop) -> None:
    """Nobody reads it; whether everything else was written is asked."""
    blueprint = workshop.export(SDXL, precision=DType.FLOAT16).blueprint("vae_decoder")
    graph = blueprint.author(Target.OWN, DType.FLOAT16, {"batch": 1, "height": 8, "width": 8})
    by_outputs = {
        found.call.outputs: found.read
        for found in distinct([("vae", graph)])
        if found.call.operator == "FusedGroupNorm"
    }

    assert by_outputs == {(True, True): {"y0"}, (True, True, True): {"y0", "y2"}}
    assert all(found.read for found in distinct([("vae", graph)]))


def found_in(graph: AuthoredGraph) -> tuple[Found, ...]:
    return distinct([("one", graph), ("two", graph)])


def test_equal_calls_are_one_and_unequal_ones_are_not() -> None:
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT32, SHAPE)
    row = graph.input("row", DType.FLOAT32, (64,))
    ones, twos = (graph.constant(np.full((64,), value, np.float32), "c") for value in (1.0, 2.0))
    for index, other in enumerate((x, row, ones, twos)):
        graph.output(f"a{index}", graph.emit("Add", x, other))
    graph.output("b0", graph.emit("Add", x, row))
    for axis in (0, 1):
        graph.output(f"c{axis}", graph.emit("Concat", x, x, axis=axis))
    calls = found_in(graph.finish({}))

    # By shape, by where an operand comes from, by a constant's content; then by attribute.
    assert [found.call.operator for found in calls] == ["Add"] * 4 + ["Concat"] * 2
    assert [len(found.nodes) for found in calls] == [2, 4, 2, 2, 2, 2]
    assert calls[1].nodes[0].startswith("one: ")


def test_operands_are_of_sensible_size(workshop: Workshop) -> None:
    blueprint = workshop.export(SDXL, precision=DType.FLOAT16).blueprint("unet")
    sizes = {"batch": 2, "height": 8, "width": 8, "sequence": 77}
    graph = blueprint.author(Target.CUDA, DType.FLOAT16, sizes)
    calls = {found.call.operator: found for found in distinct([("unet", graph)])}
    norm, conv = calls["GroupNorm"].call, calls["NhwcConv"].call
    kinds = [operand.kind for operand in norm.operands if operand is not None]

    assert kinds == [Kind.ACTIVATION, Kind.WEIGHT, Kind.BIAS]
    x, gamma, beta = (numbers(norm, index) for index in range(3))
    assert (x.dtype, gamma.dtype) == (np.float16, np.float32)
    assert np.std(x.astype(np.float32)) == pytest.approx(1, rel=0.2)
    assert np.mean(gamma) == pytest.approx(1, abs=0.2)
    assert abs(float(np.mean(beta))) < 0.2
    weight = numbers(conv, 1).astype(np.float64)
    # A sum over what one output pixel sees stays near 1.
    assert np.sqrt((weight**2).sum(axis=(1, 2, 3)).mean()) == pytest.approx(1, rel=0.3)


def test_indices_stay_within_their_table(workshop: Workshop) -> None:
    blueprint = workshop.export(SDXL, precision=DType.FLOAT16).blueprint("text_encoder")
    graph = blueprint.author(Target.PORTABLE, DType.FLOAT32, {"batch": 1, "sequence": 77})
    (gather,) = [found.call for found in distinct([("text", graph)]) if found.call.operator == "Gather"]
    table = gather.operands[0]
    assert table is not None
    ids = numbers(gather, 1)

    assert ids.dtype == np.int64
    assert 0 <= ids.min() < ids.max() < table.shape[0]


def test_large_outputs_have_fewer_runs() -> None:
    settings = SessionSettings(optimize=Optimization.DISABLED)
    once = Trial(choice=resolve("cpu"), settings=settings, runs=2, large_runs=1)
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT32, (LARGE_BYTES // 4 + 64,))
    graph.output("y", drawn(seed=7.0)(graph, x))
    outcome = tried(once, graph.finish({}))["RandomNormalLike"]

    # One run in each of two sessions of one seed: nothing to compare that would vary.
    assert outcome.sound
