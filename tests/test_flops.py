"""Arithmetic counted from authored graphs: the published figures, and graphs that are counted by hand."""

from __future__ import annotations

import pytest

from onnxsd.errors import ShapeError
from onnxsd.models import catalogue
from onnxsd.models.components import Blueprint, component
from onnxsd.ops import Target
from onnxsd.ops.flops import Flops, count
from onnxsd.ops.graph import AuthoredGraph, Graph
from onnxsd.tensors import DType, Size
from onnxsd.weights.recipe import Recipe


def authored(pipeline: str, part: str, target: Target, **sizes: int) -> AuthoredGraph:
    """The graph of one component of a pipeline in the catalogue."""
    config = catalogue.load(pipeline).models["vae" if part.startswith("vae") else part]
    return Blueprint(component=component(part), config=config).author(target, DType.FLOAT16, sizes)


def recipe(shape: tuple[int, ...]) -> Recipe:
    """A weight that is taken as it is."""
    return Recipe(name="w", source="w", source_shape=shape, shape=shape, dtype=DType.FLOAT32)


# With what own graphs save: they convolve what is upsampled before it is.
MODELS = [
    ("sdxl", "unet", {"batch": 2, "height": 128, "width": 128, "sequence": 77}, 13.522, 0.258),
    ("sdxl", "vae_decoder", {"batch": 1, "height": 128, "width": 128}, 10.470, 1.538),
    ("sd15", "unet", {"batch": 2, "height": 64, "width": 64, "sequence": 77}, 1.607, 0.069),
]


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize(("pipeline", "part", "sizes", "tera", "saved"), MODELS)
def test_the_whole_models_ask_for_what_is_known(
    target: Target, pipeline: str, part: str, sizes: dict[str, int], tera: float, saved: float
) -> None:
    expected = tera - saved if target is Target.OWN else tera

    assert count(authored(pipeline, part, target, **sizes)).total / 1e12 == pytest.approx(expected, rel=1e-3)


def test_the_classes_of_sdxl() -> None:
    """The same as torch's FlopCounterMode counts: linear 8,708.4, convolutions 3,246.2, attention 1,567.8."""
    graph = authored("sdxl", "unet", Target.CUDA, batch=2, height=128, width=128, sequence=77)

    assert count(graph) == Flops(
        linear=8_708_418_437_120, convolution=3_246_223_523_840, attention=1_567_830_835_200
    )


def test_a_linear_and_a_product_of_activations_are_told_apart() -> None:
    graph = Graph("two products")
    x = graph.input("x", DType.FLOAT32, (2, 5, 7))
    weight = graph.weight(recipe((7, 3)))
    y = graph.emit("MatMul", x, weight)
    graph.output("z", graph.emit("MatMul", graph.emit("Transpose", y, perm=(0, 2, 1)), x))

    assert count(graph.finish({})) == Flops(linear=2 * 2 * 5 * 3 * 7, attention=2 * 2 * 3 * 7 * 5)


def test_a_convolution_with_a_stride() -> None:
    graph = Graph("a convolution")
    x = graph.input("x", DType.FLOAT32, (1, 4, 8, 6))
    weight = graph.weight(recipe((10, 4, 3, 3)))
    y = graph.emit("Conv", x, weight, kernel_shape=(3, 3), pads=(1, 1, 1, 1), strides=(2, 2))
    graph.output("y", y)

    assert count(graph.finish({})) == Flops(convolution=2 * (10 * 4 * 3) * (4 * 3 * 3))


def test_a_symbolic_size_is_refused() -> None:
    graph = Graph("of any height")
    x = graph.input("x", DType.FLOAT32, (1, Size.symbol("rows"), 7))
    graph.output("y", graph.emit("MatMul", x, graph.emit("Transpose", x, perm=(0, 2, 1))))

    with pytest.raises(ShapeError, match="MatMul"):
        count(graph.finish({}))
