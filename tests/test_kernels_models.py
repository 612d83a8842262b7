"""Whole models in own operators, run by the emulated kernels, against the same in stock operators."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest
from authoring import random_weights, relative_error, run, with_weights
from emulator.buffers import Array
from emulator.device import EmulatedDevice, emulated_device
from emulator.launching import Order

from onnxsd.models import catalogue
from onnxsd.models.components import Blueprint, component
from onnxsd.models.twin import twin_of
from onnxsd.ops import Target
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.ops.operators import MICROSOFT, OWN
from onnxsd.session import Optimization, Session
from onnxsd.tensors import DType
from onnxsd.verify.bodies import with_reference_bodies

APPROXIMATION = 5
# Of the error that float16 makes in stock operators: roundings fall otherwise where sums are rounded once.
MOST_OF_STOCK = 1.1


@pytest.fixture(scope="module")
def device() -> Iterator[EmulatedDevice]:
    made = emulated_device()
    with made.emulator.running(approximation=APPROXIMATION):
        yield made


PARTS = {
    "unet": ("sdxl-base-1.0", {"batch": 2, "height": 8, "width": 12, "sequence": 7}),
    "vae_decoder": ("sdxl-base-1.0", {"batch": 2, "height": 7, "width": 5}),
    "vae_encoder": ("sdxl-base-1.0", {"batch": 1, "height": 24, "width": 40}),
    "text_encoder": ("sd-1.5", {"batch": 2, "sequence": 9}),
}


def _twin(part: str, target: Target, dtype: DType = DType.FLOAT16) -> AuthoredGraph:
    name, sizes = PARTS[part]
    pipeline = twin_of(catalogue.load(name), depth=2)
    described = component(part)
    blueprint = Blueprint(
        component=described, config=pipeline.models[described.source], time_ids=pipeline.time_ids
    )
    return blueprint.author(target, dtype, sizes)


def _feeds(graph: AuthoredGraph) -> dict[str, Array]:
    rng = np.random.default_rng(8)
    feeds: dict[str, Array] = {}
    for name, dtype, sizes in graph.inputs:
        shape = tuple(size for size in sizes if isinstance(size, int))
        assert len(shape) == len(sizes)
        integers = dtype is DType.INT64
        drawn = rng.integers(0, 900, shape) if integers else rng.standard_normal(shape)
        feeds[name] = drawn.astype(dtype.numpy_name)
    return feeds


def _made(graph: AuthoredGraph) -> ir.Model:
    return with_weights(graph, random_weights(graph, np.random.default_rng(6)))


def _with_own_kernels(
    device: EmulatedDevice, part: str, optimize: Optimization = Optimization.DISABLED
) -> Session:
    """A twin in own operators, of which those of others have their reference bodies."""
    model = with_reference_bodies(_made(_twin(part, Target.OWN)), fused=frozenset({MICROSOFT}))
    return device.session(bytes(ir.to_proto(model).SerializeToString()), optimize)


@pytest.mark.parametrize("part", PARTS)
def test_a_whole_model_is_as_near_to_float32_as_in_stock_operators(device: EmulatedDevice, part: str) -> None:
    stock, wide = _twin(part, Target.CUDA), _twin(part, Target.CUDA, DType.FLOAT32)
    feeds = _feeds(stock)
    in_float32 = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in feeds.items()
    }
    expected, rounded = run(_made(wide), in_float32), run(_made(stock), feeds)
    found = _with_own_kernels(device, part).run(feeds)

    assert found.keys() == rounded.keys() == expected.keys()
    for name, array in expected.items():
        assert relative_error(found[name], array) <= MOST_OF_STOCK * relative_error(rounded[name], array)


@pytest.mark.parametrize("part", PARTS)
def test_every_own_operator_launches_its_kernels_once(device: EmulatedDevice, part: str) -> None:
    graph = _twin(part, Target.OWN)
    session, feeds = _with_own_kernels(device, part), _feeds(graph)
    before = device.emulator.launches()
    session.run(feeds)
    launched = sum(count - before[name] for name, count in device.emulator.launches().items())
    own = [node.op_type for node in graph.model.graph if node.domain == OWN]

    assert own
    assert launched == len(own) + own.count("FusedGroupNorm")


@pytest.mark.parametrize("optimize", Optimization)
@pytest.mark.parametrize("part", PARTS)
def test_a_whole_model_gives_the_same_bits_each_time(
    device: EmulatedDevice, part: str, optimize: Optimization
) -> None:
    first, second = (_with_own_kernels(device, part, optimize) for _ in range(2))
    feeds = _feeds(_twin(part, Target.OWN))
    expected = {name: array.tobytes() for name, array in first.run(feeds).items()}
    for session in (first, second):
        for order, seed in ((Order.FORWARD, 0), (Order.BACKWARD, 0), (Order.SHUFFLED, 3)):
            with device.emulator.running(order, seed=seed, approximation=APPROXIMATION):
                found = session.run(feeds)
            assert {name: array.tobytes() for name, array in found.items()} == expected
