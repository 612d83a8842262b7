"""Small models for the tests of `onnxsd.session`, as bytes, with or without their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Shape = Sequence[int | str]


def value(name: str, shape: Shape | None, dtype: type = np.float32) -> onnx.ValueInfoProto:
    """A graph's input or output."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def external(name: str, array: Array, location: str = "no-such-file.data") -> onnx.TensorProto:
    """An initializer whose data lies in a file that need not exist."""
    tensor = TensorProto(
        name=name,
        dims=array.shape,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    for key, text in (("location", location), ("offset", "0"), ("length", str(array.nbytes))):
        tensor.external_data.add(key=key, value=text)
    return tensor


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    *,
    ir_version: int = 8,
    opset: int = 17,
) -> bytes:
    """The bytes of a model."""
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(weights))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, ir_version=ir_version, opset_imports=opsets).SerializeToString())


def scaled(**versions: int) -> bytes:
    """y = 2·x for x of (batch, 3)."""
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    multiply = helper.make_node("Mul", ["x", "two"], ["y"])
    return model([multiply], [value("x", ["batch", 3])], [value("y", ["batch", 3])], [two], **versions)


def matrix_product(weight: Array) -> bytes:
    """y = x @ weight, with the weight in external data; x is (2, K)."""
    rows, columns = weight.shape
    return model(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        [value("x", [2, rows], weight.dtype.type)],
        [value("y", [2, columns], weight.dtype.type)],
        [external("weight", weight)],
    )


def counter() -> bytes:
    """next = state + step, all of shape (4,): state that a binding can alias."""
    add = helper.make_node("Add", ["state", "step"], ["next"])
    return model([add], [value("state", [4]), value("step", [4])], [value("next", [4])])


def three_weights(weights: Mapping[str, Array]) -> bytes:
    """A matrix that is used as it is and transposed, a convolution and an embedding, all in external data.

    ONNX Runtime folds the transposition at load and prepacks matrix and convolution, so each is a chance to
    read something else than the value given.
    """
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["product"]),
        helper.make_node("Transpose", ["matrix"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["product", "turned"], ["back"]),
        helper.make_node("Conv", ["image", "kernel"], ["filtered"], kernel_shape=[1, 1]),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
    ]
    inputs = [
        value("x", ["batch", weights["matrix"].shape[0]]),
        value("image", ["batch", weights["kernel"].shape[1], "height", "width"]),
        value("ids", ["batch", "tokens"], np.int64),
    ]
    outputs = [value(name, None) for name in ("product", "back", "filtered", "rows")]
    return model(nodes, inputs, outputs, [external(name, array) for name, array in weights.items()])


def three_weights_answer(weights: Mapping[str, Array], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What `three_weights` has to give, by numpy."""
    product = feeds["x"] @ weights["matrix"]
    return {
        "product": product,
        "back": product @ weights["matrix"].T,
        "filtered": np.einsum("oi,bihw->bohw", weights["kernel"][:, :, 0, 0], feeds["image"]),
        "rows": weights["table"][feeds["ids"]],
    }
