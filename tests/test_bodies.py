"""Reference bodies mean what ONNX Runtime's own kernels compute, and round where a GPU rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from authoring import relative_error, run
from operator_models import NODES

from onnxsd.errors import BadInputError
from onnxsd.ops.graph import Graph
from onnxsd.ops.operators import MICROSOFT, OPERATORS, OWN
from onnxsd.session import Provider, Session
from onnxsd.tensors import DType
from onnxsd.verify import contrib
from onnxsd.verify.bodies import DOMAIN, with_reference_bodies

Array = npt.NDArray[Any]
# What ONNX Runtime has CPU kernels for, in float32.
ON_CPU = ("MultiHeadAttention", "SkipLayerNormalization", "Gelu", "QuickGelu")
# One rounding of a result near 1 to float32, with room for another order of summation; float16 by its own.
LARGEST_ERROR = {DType.FLOAT32: 2e-6, DType.FLOAT16: 6e-4}


def _bytes(model: ir.Model) -> bytes:
    return bytes(ir.to_proto(model).SerializeToString())


def test_every_operator_that_is_emitted_has_a_body_and_a_model() -> None:
    emitted = {name for name, operator in OPERATORS.items() if operator.domain in (MICROSOFT, OWN)}

    assert contrib.OPERATORS.keys() == emitted
    assert {node.operator for node in NODES.values()} == emitted


@pytest.mark.parametrize("name", [name for name, node in NODES.items() if node.operator in ON_CPU])
def test_a_body_computes_what_the_kernel_computes(name: str) -> None:
    node = NODES[name]
    model, feeds = node.model(DType.FLOAT32), node.feeds(DType.FLOAT32)
    kernel = Session.create(_bytes(model), provider=Provider.CPU).run(feeds)
    body = run(model, feeds)

    assert body.keys() == kernel.keys()
    for output, expected in kernel.items():
        assert relative_error(body[output], expected) <= LARGEST_ERROR[DType.FLOAT32]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=lambda dtype: dtype.numpy_name)
@pytest.mark.parametrize("name", [name for name, node in NODES.items() if node.domain == MICROSOFT])
def test_a_body_computes_what_the_kernel_on_a_gpu_computes(name: str, dtype: DType) -> None:
    node = NODES[name]
    model, feeds = node.model(dtype), node.feeds(dtype)
    kernel = Session.create(_bytes(model), provider=Provider.CUDA).run(feeds)
    body = run(model, feeds)

    for output, expected in kernel.items():
        assert relative_error(body[output], expected) <= LARGEST_ERROR[dtype]


@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=lambda dtype: dtype.numpy_name)
@pytest.mark.parametrize("name", NODES)
def test_a_body_is_valid_onnx_of_standard_operators(name: str, dtype: DType) -> None:
    proto = ir.to_proto(with_reference_bodies(NODES[name].model(dtype)))
    onnx.checker.check_model(proto)

    assert {node.domain for node in proto.graph.node} == {DOMAIN}
    assert {node.domain for function in proto.functions for node in function.node} == {""}
    assert {entry.domain for entry in proto.opset_import} == {"", DOMAIN}


def test_the_model_itself_stays_as_it_is() -> None:
    model = NODES["SkipGroupNorm"].model(DType.FLOAT16)
    before = _bytes(model)
    copy = with_reference_bodies(model)

    assert _bytes(model) == before
    assert not model.functions
    shared = model.graph.initializers.values()
    assert [value.const_value for value in shared] == [
        value.const_value for value in copy.graph.initializers.values()
    ]


def test_calls_that_are_alike_share_a_function() -> None:
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT32, (2, 8))
    for alpha in (1.0, 1.702, 1.0, 1.702):
        x = graph.emit("QuickGelu", x, alpha=alpha)
    graph.output("y", x)

    assert len(with_reference_bodies(graph.finish({}).model).functions) == 2


def _overflowing() -> ir.Model:
    """x · 1000 · 0.001 in float16: infinite where x is above 65.5, for a GPU stores what is in between."""
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT16, (2,))
    large = graph.emit("Mul", x, graph.constant(np.array(1000.0, np.float16), "large"))
    graph.output("y", graph.emit("Mul", large, graph.constant(np.array(0.001, np.float16), "small")))
    return graph.finish({}).model


def test_an_overflow_of_float16_is_seen() -> None:
    feeds = {"x": np.array([100.0, 3.0], np.float16)}
    kernels = onnxruntime.InferenceSession(_bytes(_overflowing()), providers=["CPUExecutionProvider"])
    (unrounded,) = kernels.run(None, feeds)
    rounded = run(_overflowing(), feeds)["y"]

    assert np.isfinite(unrounded).all(), "ONNX Runtime rounds between nodes by now: the bodies need not"
    assert np.isposinf(rounded[0])
    assert rounded[1] == np.float16(3000.0) * np.float16(0.001)


def test_float32_standard_nodes_are_left_alone() -> None:
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT32, (2,))
    graph.output("y", graph.emit("Add", x, x))

    assert not with_reference_bodies(graph.finish({}).model).functions


def _unknown_attribute(node: ir.Node) -> None:
    node.attributes.add(ir.AttrFloat32("mask_filter_value", -1.0))


def _unknown_operator(node: ir.Node) -> None:
    node.op_type = "FusedMatMul"


def _missing_operand(node: ir.Node) -> None:
    node.replace_input_with(2, None)


def _unknown_type(node: ir.Node) -> None:
    assert node.inputs[0] is not None
    node.inputs[0].type = None


def _unknown_rank(node: ir.Node) -> None:
    assert node.inputs[1] is not None
    node.inputs[1].shape = None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_unknown_attribute, "MultiHeadAttention with mask_filter_value"),
        (_unknown_operator, "com.microsoft FusedMatMul"),
        (_missing_operand, "3 to 3"),
        (_unknown_type, "type of its first input"),
        (_unknown_rank, "shape of its input x1"),
    ],
)
def test_what_no_body_is_written_for_is_refused(change: Callable[[ir.Node], None], says: str) -> None:
    model = NODES["MultiHeadAttention"].model(DType.FLOAT32)
    change(model.graph[0])

    with pytest.raises(BadInputError, match=says):
        with_reference_bodies(model)


def test_another_layout_of_group_norm_is_refused() -> None:
    model = NODES["GroupNorm"].model(DType.FLOAT32)
    model.graph[0].attributes.add(ir.AttrInt64("channels_last", 0))

    with pytest.raises(BadInputError, match="channels_last = 0"):
        with_reference_bodies(model)


def test_another_opset_is_refused() -> None:
    model = NODES["Gelu"].model(DType.FLOAT32)
    model.opset_imports[""] = 21

    with pytest.raises(BadInputError, match="opset 17, the model has 21"):
        with_reference_bodies(model)
