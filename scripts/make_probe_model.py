"""Write the tiny ONNX models that the doctor runs to see whether a provider works.

Usage: python scripts/make_probe_model.py onnxsd/machine
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import onnx
from onnx import TensorProto, helper

# IR 8 and opset 13: what onnxruntime 1.11, the oldest GPU wheel on the index, still loads.
IR_VERSION = 8
OPSET = 13
_DOMAIN = "com.microsoft"
_HEADS = 2


def plain() -> onnx.ModelProto:
    """A graph of Conv, MatMul and Softmax, all of them operators that the CUDA provider has."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel"], ["h"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("MatMul", ["h", "weight"], ["z"]),
            helper.make_node("Softmax", ["z"], ["y"], axis=-1),
        ],
        "onnxsd-probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [_wave("kernel", [4, 4, 3, 3]), _wave("weight", [8, 8])],
    )
    model = _model(graph)
    onnx.checker.check_model(model)
    return model


def attention() -> onnx.ModelProto:
    """A graph of onnxruntime's own MultiHeadAttention, which it has since 1.14 and every export needs."""
    names = ["query", "key", "value"]
    shape = [1, 8, _HEADS * 8]  # batch, tokens, heads times the size of one
    graph = helper.make_graph(
        [helper.make_node("MultiHeadAttention", names, ["y"], domain=_DOMAIN, num_heads=_HEADS)],
        "onnxsd-probe-attention",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    return _model(graph, helper.make_opsetid(_DOMAIN, 1))


def _model(graph: onnx.GraphProto, *domains: onnx.OperatorSetIdProto) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", OPSET), *domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="onnxsd")


def _wave(name: str, shape: list[int]) -> onnx.TensorProto:
    """Weights without a random generator: sin(1), sin(2), … in eighths, exact in any float."""
    values = [round(8 * math.sin(at + 1)) / 8 for at in range(math.prod(shape))]
    return helper.make_tensor(name, TensorProto.FLOAT, shape, values)


def main() -> None:
    """Write the models to the folder that was given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, model in (("probe.onnx", plain()), ("probe_attention.onnx", attention())):
        (folder / name).write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
