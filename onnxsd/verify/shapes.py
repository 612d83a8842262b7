"""Checks that need no reference: a component's file is valid ONNX, its sizes hold, its numbers are finite."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from onnxsd.artifact.folder import Folder
from onnxsd.artifact.manifest import CheckRecord
from onnxsd.errors import OnnxsdError, VerificationError
from onnxsd.models.components import Blueprint
from onnxsd.models.twin import narrow
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.session import Choice, Provider, Session
from onnxsd.tensors import evaluate
from onnxsd.verify.bodies import with_reference_bodies
from onnxsd.verify.cases import cases
from onnxsd.verify.exported import exported_session, needs_bodies
from onnxsd.verify.runnable import random_arrays, random_inputs, session_of

EXPORTED = "exported file"
TWIN = "narrow twin"
# On a CPU a weight is widened to float32, and kernels keep a rearranged copy of it.
CPU_BYTES_PER_WEIGHT = 8


def check(folder: Folder, name: str, *, choice: Choice, memory_bytes: int) -> Iterator[CheckRecord]:
    """Every check of one component; a check that fails is a record, not an exception.

    Args:
        folder: the exported folder.
        name: the component.
        choice: the provider to run on.
        memory_bytes: what runs on the CPU may take; a component that needs more is run as a narrow twin.
    """
    record = folder.manifest.component(name)
    blueprint = folder.blueprint(name)
    graph = blueprint.author(folder.target, folder.manifest.precision)
    path = folder.path / record.model.path
    yield _made("onnx", name, EXPORTED, lambda: _check_file(path))
    yield _made("symbols", name, EXPORTED, lambda: _check_symbols(path, graph))
    if choice.provider is Provider.CUDA or _cpu_bytes(graph) <= memory_bytes:
        yield _made("runs", name, EXPORTED, lambda: _run_file(folder, name, blueprint, graph, choice))
    else:
        yield _made("runs", name, TWIN, lambda: _run_twin(blueprint, folder, choice))


def _made(check_name: str, component: str, subject: str, make: Callable[[], str]) -> CheckRecord:
    """The record of one check; `make` returns what it saw, or raises what it found wrong."""
    try:
        detail, passed = make(), True
    except (OnnxsdError, onnx.checker.ValidationError) as error:
        detail, passed = " ".join(str(error).split()), False
    return CheckRecord(check=check_name, component=component, subject=subject, passed=passed, detail=detail)


def _check_file(path: Path) -> str:
    onnx.checker.check_model(str(path))
    return "valid ONNX"


def _check_symbols(path: Path, graph: AuthoredGraph) -> str:
    """The file declares the inputs, outputs and weights that authoring proved, each size as its formula."""
    model = ir.load(path)
    declared = {value.name: _signature(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    authored = {v.name: _signature(v) for v in (*graph.model.graph.inputs, *graph.model.graph.outputs)}
    for name, signature in authored.items():
        if declared.get(name) != signature:
            raise VerificationError(
                f"{path}: {name} should be {signature}, the file says {declared.get(name)}"
            )
    for recipe in graph.recipes:
        value = model.graph.initializers.get(recipe.name)
        if value is None or value.const_value is None or tuple(value.const_value.shape) != recipe.shape:
            raise VerificationError(f"{path}: weight {recipe.name} {list(recipe.shape)} is not in the file")
    return f"{len(authored)} inputs and outputs, {len(graph.recipes)} weights as authored"


def _signature(value: ir.Value) -> str:
    return f"{value.dtype} {value.shape}"


def _cpu_bytes(graph: AuthoredGraph) -> int:
    return CPU_BYTES_PER_WEIGHT * sum(recipe.elements for recipe in graph.recipes)


def _run_file(folder: Folder, name: str, blueprint: Blueprint, graph: AuthoredGraph, choice: Choice) -> str:
    return _run_cases(exported_session(folder, name, choice), blueprint, graph)


def _run_twin(blueprint: Blueprint, folder: Folder, choice: Choice) -> str:
    """The same configuration with narrow layers and random weights: every node, none of the weights."""
    twin = dataclasses.replace(blueprint, config=narrow(blueprint.config, depth=None))
    graph = twin.author(folder.target, folder.manifest.precision)
    if needs_bodies(folder, choice):
        graph = dataclasses.replace(graph, model=with_reference_bodies(graph.model))
    session = session_of(
        graph, random_arrays(graph.recipes), provider=choice.provider, label=f"twin of {twin.component.name}"
    )
    return _run_cases(session, twin, graph)


def _run_cases(session: Session, blueprint: Blueprint, graph: AuthoredGraph) -> str:
    """Run every case; each output has the size that its formula says, and only finite numbers."""
    ran, wanted = [], cases(blueprint)
    for case in wanted:
        outputs = session.run(random_inputs(graph, case))
        for name, _, shape in graph.outputs:
            expected, found = evaluate(shape, case), outputs[name].shape
            if found != expected:
                raise VerificationError(
                    f"{name} has shape {list(found)} at {case}, its formula gives {list(expected)}"
                )
            if not np.isfinite(outputs[name]).all():
                raise VerificationError(f"{name} holds NaN or infinity at {case}")
        ran.append("×".join(str(size) for size in case.values()))
    return f"{'×'.join(wanted[0])}: {', '.join(ran)}; sizes as declared, all finite"
