"""Write the tiny ONNX model that the doctor runs to see whether a provider works.

Usage: python scripts/make_probe_model.py onnxsd/machine/probe.onnx
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


def model_bytes() -> bytes:
    """A serialised graph of Conv, MatMul and Softmax, all of them operators that the CUDA provider has."""
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
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="onnxsd"
    )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _wave(name: str, shape: list[int]) -> onnx.TensorProto:
    """Weights without a random generator: sin(1), sin(2), … in eighths, exact in any float."""
    values = [round(8 * math.sin(at + 1)) / 8 for at in range(math.prod(shape))]
    return helper.make_tensor(name, TensorProto.FLOAT, shape, values)


def main() -> None:
    """Write the model to the path that was given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.parse_args().path.write_bytes(model_bytes())


if __name__ == "__main__":
    main()
