"""What a graph needs in memory is known before it runs, and ONNX Runtime's arena takes what is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from arena_growth import taken_bytes
from authoring import random_weights, with_weights

from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.errors import UsageError
from onnxsd.models import catalogue
from onnxsd.models.components import Blueprint, component
from onnxsd.models.twin import narrow
from onnxsd.ops import Target
from onnxsd.ops.arena import LARGEST_WASTE_BYTES, arena_bytes
from onnxsd.ops.graph import AuthoredGraph, Graph
from onnxsd.ops.memory import IN_PLACE_ON_CPU, MemoryNeed, activation_bytes, memory_need
from onnxsd.ops.operators import OPERATORS, Value
from onnxsd.tensors import DType, Size

# Every hand-made value has 1,024 elements of float32.
SHAPE = (4, 256)
ONE = 4096
MIB = 1 << 20


def made(graph: Graph, *values: Value) -> Value:
    """A new value of one or two others, by a node that CUDA does not compute in place."""
    return graph.emit("Erf" if len(values) == 1 else "Add", *values)


def finished(graph: Graph, *outputs: Value) -> AuthoredGraph:
    for index, value in enumerate(outputs):
        graph.output(f"y{index}", value)
    return graph.finish({})


def start() -> tuple[Graph, Value]:
    graph = Graph("test")
    return graph, graph.input("x", DType.FLOAT32, SHAPE)


def chain(length: int) -> AuthoredGraph:
    graph, x = start()
    for _ in range(length):
        x = made(graph, x)
    return finished(graph, x)


@pytest.mark.parametrize(("length", "values"), [(1, 0), (2, 1), (3, 2), (9, 2)])
def test_a_chain_holds_two_values(length: int, values: int) -> None:
    # The last one is the graph's output, which is somebody else's memory.
    assert activation_bytes(chain(length)) == values * ONE


def test_a_chain_in_place_holds_one_value() -> None:
    assert activation_bytes(chain(9), in_place=IN_PLACE_ON_CPU) == ONE


def test_a_diamond_holds_three_values() -> None:
    graph, x = start()
    top = made(graph, x)
    left, right = made(graph, top), made(graph, top)
    diamond = finished(graph, made(graph, made(graph, left, right)))

    assert activation_bytes(diamond) == 3 * ONE
    # The second branch is written over the top, which nobody needs after it.
    assert activation_bytes(diamond, in_place=IN_PLACE_ON_CPU) == 2 * ONE


def test_a_residual_is_held_until_it_is_added() -> None:
    graph, x = start()
    residual = h = made(graph, x)
    for _ in range(5):
        h = made(graph, h)
    held = finished(graph, made(graph, made(graph, h, residual)))

    assert activation_bytes(held) == 3 * ONE
    assert activation_bytes(held, in_place=IN_PLACE_ON_CPU) == 2 * ONE


def test_an_operand_that_is_needed_later_is_not_written_over() -> None:
    graph, x = start()
    first = made(graph, x)
    twice = finished(graph, made(graph, made(graph, first, first)))

    # Both operands are the same value: two uses, so the sum takes memory of its own.
    assert activation_bytes(twice, in_place=IN_PLACE_ON_CPU) == 2 * ONE


def test_a_smaller_operand_is_not_written_over() -> None:
    graph, x = start()
    row = made(graph, graph.input("row", DType.FLOAT32, (256,)))
    broadcast = finished(graph, made(graph, made(graph, x, row)))

    assert activation_bytes(broadcast, in_place=IN_PLACE_ON_CPU) == ONE + 1024


def test_a_view_lies_in_its_operand() -> None:
    graph, x = start()
    first = made(graph, x)
    view = graph.reshape(graph.reshape(first, (1024,)), (32, 32))
    viewed = finished(graph, made(graph, made(graph, view)), made(graph, first))

    # `first` lives on through its view, and once more for its own last use.
    assert activation_bytes(viewed) == 2 * ONE


def test_a_value_lives_as_long_as_its_view() -> None:
    graph, x = start()
    view = graph.reshape(made(graph, x), (1024,))
    other = made(graph, made(graph, graph.reshape(x, (1024,))))
    kept = finished(graph, made(graph, made(graph, view, other)))

    assert activation_bytes(kept) == 3 * ONE


def test_a_view_of_an_input_takes_nothing() -> None:
    graph, x = start()
    viewed = finished(graph, made(graph, graph.reshape(x, (1024,))))

    assert activation_bytes(viewed) == 0
    assert arena_bytes(viewed) == 0


def test_a_value_that_nobody_takes_is_there_for_its_node() -> None:
    graph, x = start()
    made(graph, x)
    unused = finished(graph, made(graph, made(graph, x)))

    assert activation_bytes(unused) == ONE


def test_what_nobody_takes_stays_in_the_arena_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the scratch of a group norm does; here the half of a Split."""
    monkeypatch.setitem(OPERATORS, "Split", dataclasses.replace(OPERATORS["Split"], kept=2))
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT32, (4, 2 * MIB // 16))
    for _ in range(6):
        half = graph.emit("Split", x, axis=-1)
        x = graph.emit("Concat", half, half, axis=-1)
    split = finished(graph, x)
    path = tmp_path / "model.onnx"
    path.write_bytes(to_bytes(split))

    assert {len(node.outputs) for node in split.model.graph if node.op_type == "Split"} == {2}
    # Both halves beside what is split, once a Split is the second one.
    assert activation_bytes(split) == 4 * MIB
    # Six halves that nobody takes, and what a chain holds.
    assert arena_bytes(split) == (6 + 1 + 2) * MIB == taken_bytes(path)


def test_a_group_norms_scratch_is_counted() -> None:
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT16, (2, 8, 8, 320))
    gamma, beta = (graph.input(name, DType.FLOAT32, (320,)) for name in ("gamma", "beta"))
    for _ in range(3):
        x = graph.emit(
            "FusedGroupNorm", x, gamma, beta, groups=32, epsilon=1e-5, activation=1, slab=64, parts=5
        )
    normed = finished(graph, x)
    pixels, scratch = 2 * 8 * 8 * 320 * 2, 2 * 32 * 5 * 4 * 4

    # The second norm lies over the first, the third is an output; and each has scratch of its own.
    assert activation_bytes(normed) == pixels + scratch
    assert arena_bytes(normed) == pixels + 3 * scratch


def test_scratch_of_as_many_bytes_lies_over_nothing() -> None:
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT16, (1, 1, 1, 64))
    gamma, beta = (graph.input(name, DType.FLOAT32, (64,)) for name in ("gamma", "beta"))
    added = graph.emit("FusedAdd", x, x)
    normed = graph.emit(
        "FusedGroupNorm", added, gamma, beta, groups=8, epsilon=1e-5, activation=1, slab=64, parts=1
    )

    # The norm itself is the graph's output; what is added, and the scratch, have 128 bytes each.
    assert arena_bytes(finished(graph, normed)) == 256 + 256


def test_everything_is_told_apart_and_rounded_up() -> None:
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT16, (3,))
    weight = graph.constant(np.ones((300,), np.float16), "weight")
    y = graph.emit("Add", graph.reshape(graph.emit("Erf", x), (3, 1)), weight)
    need = memory_need(finished(graph, y))

    # The shape that Reshape takes is a constant too.
    assert need == MemoryNeed(
        activations_bytes=256, inputs_bytes=256, outputs_bytes=2048, weights_bytes=768 + 256
    )


def test_symbolic_sizes_are_refused() -> None:
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT32, (Size.symbol("batch"), 8))
    symbolic = finished(graph, made(graph, made(graph, x)))

    for ask in (activation_bytes, memory_need, arena_bytes):
        with pytest.raises(UsageError, match=r"symbolic.*batch.*with a number for each"):
            ask(symbolic)


def authored(name: str, component_name: str, **sizes: int) -> AuthoredGraph:
    pipeline = catalogue.load(name)
    entry = component(component_name)
    blueprint = Blueprint(component=entry, config=pipeline.models[entry.source], time_ids=pipeline.time_ids)
    wanted: Mapping[str, int] = {"sequence": 77, **sizes}
    return blueprint.author(Target.CUDA, DType.FLOAT16, {symbol: wanted[symbol] for symbol in entry.symbols})


@pytest.mark.parametrize("component_name", ["unet", "vae_decoder"])
@pytest.mark.parametrize("name", catalogue.names())
def test_more_pixels_and_more_rows_need_more(name: str, component_name: str) -> None:
    sizes = ((1, 64, 64), (1, 64, 96), (2, 64, 96))
    graphs = [
        authored(name, component_name, batch=batch, height=height, width=width)
        for batch, height, width in sizes
    ]
    needs = [memory_need(graph) for graph in graphs]
    arenas = [arena_bytes(graph) for graph in graphs]

    for part in ("activations_bytes", "inputs_bytes", "outputs_bytes"):
        found = [getattr(need, part) for need in needs]
        assert found == sorted(found), part
    activations = [need.activations_bytes for need in needs]
    assert len(set(activations)) == len(activations)
    assert arenas == sorted(arenas)
    assert all(arena >= least for arena, least in zip(arenas, activations, strict=True))


def test_the_decoder_of_a_megapixel_needs_two_and_a_half_of_its_largest_values() -> None:
    decoder = authored("sdxl", "vae_decoder", batch=1, height=128, width=128)

    # The last block's first convolution: the block's input of 256 channels, its norm, and 128 channels.
    assert activation_bytes(decoder) == 1024 * 1024 * (256 + 256 + 128) * 2


def test_a_bias_that_a_norm_absorbs_costs_the_decoder_another_value() -> None:
    decoder = authored("sdxl", "vae_decoder", batch=1, height=32, width=32)

    # SkipGroupNorm over 256 channels at 256²: what it reads, the sum, and what it gives.
    assert activation_bytes(decoder) == 256 * 256 * (256 + 256 + 256) * 2


def elements(graph: Graph, bytes_: int) -> Value:
    """A value of that many bytes, from an input of its own."""
    return made(graph, graph.input(f"in{bytes_}", DType.FLOAT32, (bytes_ // 4,)))


def test_free_chunks_that_are_no_neighbours_serve_no_larger_request() -> None:
    graph = Graph("test")
    small, smaller = elements(graph, 8192), elements(graph, 4096)
    done = (made(graph, small), made(graph, smaller))
    parted = finished(graph, *done, made(graph, elements(graph, 12288)))

    # 12,288 bytes are free in two regions, and the third value needs as many in one piece.
    assert activation_bytes(parted) == 12288
    assert arena_bytes(parted) == 8192 + 4096 + 12288


@pytest.mark.parametrize(
    ("request_bytes", "regions"),
    [(4096, 8192), (4352, 8192 + 4096), (8192, 8192 + 4096)],
    ids=["half: cut", "more than half: not cut", "all of it"],
)
def test_a_chunk_is_cut_where_half_of_it_is_enough(request_bytes: int, regions: int) -> None:
    graph = Graph("test")
    first = made(graph, elements(graph, 8192))
    served, beside = elements(graph, request_bytes), elements(graph, 4095 // 256 * 256 + 256)
    cut = finished(graph, first, made(graph, served), made(graph, beside))

    assert arena_bytes(cut) == regions


def test_a_large_rest_is_cut_off_however_large_the_request() -> None:
    graph = Graph("test")
    large = LARGEST_WASTE_BYTES * 4
    first = made(graph, elements(graph, large))
    served, rest = elements(graph, large - LARGEST_WASTE_BYTES), elements(graph, LARGEST_WASTE_BYTES)
    cut = finished(graph, first, made(graph, served), made(graph, rest))

    assert arena_bytes(cut) == large


def test_free_neighbours_become_one_chunk() -> None:
    graph = Graph("test")
    first = made(graph, elements(graph, 16384))
    halves = (elements(graph, 8192), elements(graph, 4096))
    done = [made(graph, half) for half in halves]
    joined = finished(graph, first, *done, made(graph, elements(graph, 16384)))

    assert arena_bytes(joined) == 16384


@pytest.mark.parametrize("name", ["sdxl-base-1.0", "sd-1.5"])
def test_the_arena_of_onnx_runtime_is_as_large_as_said(name: str, tmp_path: Path) -> None:
    """The portable UNet of a narrow twin on a CPU; kernels' workspaces find room in free chunks there."""
    config = narrow(catalogue.load(name).models["unet"], depth=2)
    blueprint = Blueprint(component=component("unet"), config=config)
    sizes = {"batch": 2, "height": 32, "width": 32, "sequence": 77}
    graph = blueprint.author(Target.PORTABLE, DType.FLOAT32, sizes)
    model = with_weights(graph, random_weights(graph, np.random.default_rng(0)))
    path = tmp_path / "model.onnx"
    path.write_bytes(ir.to_proto(model).SerializeToString())
    said = arena_bytes(graph, in_place=IN_PLACE_ON_CPU)
    found, by_default = (taken_bytes(path, by_default=how) for how in (False, True))

    print(
        f"{name}: least {activation_bytes(graph, in_place=IN_PLACE_ON_CPU) / MIB:.2f}, said {said / MIB:.2f},"
        f" taken {found / MIB:.2f}, taken by default {by_default / MIB:.2f} MiB"
    )
    assert said * 0.95 <= found <= said * 1.05
    # If this ever fails, ONNX Runtime plans better than 1.31 did, and docs/performance.md is out of date.
    assert by_default > found
