"""Whole models in own operators give what they give in stock ones.

On a CPU, by the bodies of both; the kernels themselves are tested where a GPU is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from authoring import relative_error, run
from test_loop import loop_of, table_of, through, twin, work_of

from onnxsd.models import catalogue
from onnxsd.models.components import COMPONENTS, Blueprint, component
from onnxsd.models.twin import twin_of
from onnxsd.ops import Target
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.ops.operators import OPERATORS, OWN
from onnxsd.tensors import DType
from onnxsd.verify.runnable import random_arrays, random_inputs
from onnxsd.weights.transform import convert

Array = npt.NDArray[Any]
Sizes = Mapping[str, int]
# What float16 makes of a whole model, by stock operators as by own ones.
LARGEST_ERROR = 4e-3
# Guidance multiplies the difference of two such results.
LARGEST_LOOP_ERROR = 1e-2
# An odd size is halved and doubled again on its way.
LATENTS: tuple[Sizes, ...] = (
    {"batch": 1, "height": 9, "width": 13, "sequence": 77},
    {"batch": 3, "height": 8, "width": 6, "sequence": 20},
)
PIXELS = tuple({**sizes, "height": 8 * sizes["height"] + 3, "width": 8 * sizes["width"]} for sizes in LATENTS)
# A twin keeps the depths that differ from stage to stage.
DEPTHS = {"sdxl-base-1.0": 3, "ssd-1b": 3}
TWINS = {name: twin_of(catalogue.load(name), depth=DEPTHS.get(name, 2)) for name in catalogue.names()}
# All shipped VAEs are one, and text encoders differ in their width, depth and activation alone.
ONCE = {("vae", "sdxl-base-1.0"), ("text_encoder", "sd-2.1"), ("text_encoder_2", "sdxl-base-1.0")}
PARTS = [
    (name, entry.name)
    for name, pipeline in TWINS.items()
    for entry in COMPONENTS
    if entry.source in pipeline.models and (entry.source == "unet" or (entry.source, name) in ONCE)
]


def blueprint(name: str, part: str) -> Blueprint:
    pipeline, source = TWINS[name], component(part)
    return Blueprint(component=source, config=pipeline.models[source.source], time_ids=pipeline.time_ids)


def with_arrays(graph: AuthoredGraph, arrays: Mapping[str, Array]) -> AuthoredGraph:
    """The graph with what float16 keeps of its weights, in the types that it wants them in."""
    from onnx_ir import tensor

    for recipe in graph.recipes:
        rounded = arrays[recipe.stored.name].astype(np.float16)
        made = convert(rounded, dataclasses.replace(recipe.stored, dtype=DType.FLOAT16), recipe)
        graph.model.graph.initializers[recipe.name].const_value = tensor(made, name=recipe.name)
    return graph


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_own_operators_give_what_stock_ones_give(name: str, part: str) -> None:
    for sizes in PIXELS if part == "vae_encoder" else LATENTS:
        whole = blueprint(name, part)
        wanted = {symbol: sizes[symbol] for symbol in whole.component.symbols}
        own = whole.author(Target.OWN, DType.FLOAT16, wanted)
        stock = whole.author(Target.CUDA, DType.FLOAT32, wanted)
        arrays, feeds = random_arrays(stock.recipes), random_inputs(own, {})
        found, expected = (
            run(with_arrays(graph, arrays).model, typed(graph, feeds)) for graph in (own, stock)
        )
        assert found.keys() == expected.keys()
        for output, array in expected.items():
            assert found[output].shape == array.shape
            assert relative_error(found[output], array) <= LARGEST_ERROR, (sizes, output)


def typed(graph: AuthoredGraph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Inputs in the types that the graph takes."""
    return {name: feeds[name].astype(dtype.numpy_name) for name, dtype, _ in graph.inputs}


@pytest.mark.parametrize("name", ["sdxl-base-1.0", "sd-1.5"])
@pytest.mark.parametrize("guidance", [True, False])
def test_a_loop_in_own_operators_makes_the_picture_of_stock_ones(name: str, guidance: bool) -> None:
    whole = twin(name)
    inputs = {entry: shape for entry, _, shape in whole.author(Target.CUDA, DType.FLOAT32).inputs}
    context = inputs["encoder_hidden_states"][2]
    pooled = inputs["text_embeds"][1] if "text_embeds" in inputs else None
    assert isinstance(context, int)
    assert pooled is None or isinstance(pooled, int)
    work = work_of(table_of("euler", 3), guidance=guidance, width=context, pooled=pooled)
    own, stock = (
        through(loop_of(whole, target, work, dtype=DType.FLOAT16), work)
        for target in (Target.OWN, Target.CUDA)
    )

    assert relative_error(own, stock) <= LARGEST_LOOP_ERROR


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_weights_are_made_of_the_same_in_own_operators(name: str, part: str) -> None:
    """One exported folder serves sessions in either, whatever is folded into its weights on the way."""
    whole = blueprint(name, part)
    wanted = {symbol: LATENTS[1][symbol] for symbol in whole.component.symbols}
    own, stock = (whole.author(target, DType.FLOAT16, wanted) for target in (Target.OWN, Target.CUDA))

    assert {recipe.stored for recipe in own.recipes} == set(stock.recipes)
    folded = [recipe for recipe in own.recipes if recipe.fold is not None]
    assert len(folded) == own.operator_counts()["Interleave"]
    assert all(recipe.source.endswith(".upsamplers.0.conv.weight") for recipe in folded)


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_twin_holds_the_own_operators_of_the_whole_model(name: str, part: str) -> None:
    """So that what is compared above is what is shipped."""
    sizes = LATENTS[1]
    whole = catalogue.load(name).models[component(part).source]
    small = blueprint(name, part)
    wanted = {symbol: 8 * sizes[symbol] for symbol in small.component.symbols}
    wanted["sequence"] = 77
    graphs = [
        each.author(Target.OWN, DType.FLOAT16, wanted)
        for each in (small, dataclasses.replace(small, config=whole))
    ]
    held, expected = ({node.op_type for node in graph.model.graph if node.domain == OWN} for graph in graphs)

    # A twin's VAE has heads that fused attention takes.
    assert held == expected - {"RowSoftmax"}
    assert all(OPERATORS[operator].domain == OWN for operator in held)
