"""Own operators write over what nobody else needs: ONNX Runtime lets them, and the results stay the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from arena_growth import taken_bytes
from emulator.buffers import Array
from emulator.device import FIRST_SLOT, EmulatedDevice, emulated_device
from emulator.launching import Order

from onnxsd.kernels.choice import Kernels, choose
from onnxsd.ops.arena import arena_bytes
from onnxsd.ops.graph import AuthoredGraph, Graph
from onnxsd.ops.memory import OWN_IN_PLACE
from onnxsd.ops.operators import Value
from onnxsd.session import Optimization, Provider, Session, SessionSettings
from onnxsd.tensors import DType

# So many pixels that a thread of a group norm takes several of them, one batch after another.
SHAPE = (2, 40, 31, 64)
# Softmax takes a block to a row.
FEW = (1, 2, 31, 64)
GROUPS = {"groups": 8, "epsilon": 1e-5, "activation": 1, "slab": 32, "parts": 3}
# What each case computes of a value `x`, to which it alone has a claim, and of another such value.
CASES = (
    "FusedAdd", "FusedAdd and skip", "FusedGroupNorm", "FusedGroupNorm and sum", "FusedGroupNorm of skip",
    "FusedGroupNorm of skip and sum", "FusedLayerNorm", "FusedLayerNorm of skip and sum", "RowSoftmax",
)  # fmt: skip
KEPT = ("x, skip", "x", "skip", "")
ORDERS = [(Order.FORWARD, 0), (Order.BACKWARD, 0), (Order.SHUFFLED, 1)]


@pytest.fixture(scope="module")
def device() -> EmulatedDevice:
    return emulated_device(FIRST_SLOT + 2)


class Net:
    """A graph around one operator; everything that it reads is an input of the graph."""

    def __init__(self) -> None:
        self.graph = Graph("test")
        self.feeds: dict[str, Array] = {}

    def given(self, *shape: int, dtype: DType = DType.FLOAT16) -> Value:
        """An input of random numbers."""
        name = f"in{len(self.feeds)}"
        numbers = np.random.default_rng(len(self.feeds)).standard_normal(shape)
        self.feeds[name] = numbers.astype(dtype.numpy_name)
        return self.graph.input(name, dtype, shape)

    def beside(self, x: Value) -> Value:
        """`x` and a bias: a value that is neither an input nor an output of the graph."""
        return self.graph.emit("FusedAdd", x, None, self.given(SHAPE[-1]))

    def case(self, what: str, x: Value, skip: Value) -> tuple[Value, ...]:
        """The operator's outputs but for scratch."""
        operator, _, operands = what.partition(" ")
        addends = (skip,) if "skip" in operands else (None, self.given(SHAPE[-1]))
        if operator in ("FusedAdd", "RowSoftmax"):
            return (self.graph.emit(operator, x, *(addends if operator == "FusedAdd" else ())),)
        grouped = operator == "FusedGroupNorm"
        dtype = DType.FLOAT32 if grouped else DType.FLOAT16
        affine = [self.given(SHAPE[-1], dtype=dtype) for _ in ("gamma", "beta")]
        total = 2 if grouped else 1
        attributes = GROUPS if grouped else {"epsilon": 1e-5}
        outputs = (0, total) if "sum" in operands else (0,)
        return self.graph.emit_all(operator, x, *affine, *addends, outputs=outputs, **attributes)


def around(*cases: str, kept: str = "") -> tuple[AuthoredGraph, dict[str, Array]]:
    """One operator over two values, case after case; `kept` names those that are needed after it, too."""
    net = Net()
    for case in cases:
        shape = FEW if case == "RowSoftmax" else SHAPE
        operands = {name: net.beside(net.given(*shape)) for name in ("x", "skip")}
        for value in net.case(case, **operands):
            net.graph.output(f"{case}: {len(net.feeds)}", net.beside(value))
        for name, value in operands.items():
            if name in kept:
                net.graph.output(f"{case}: kept {name}", net.beside(value))
    return net.graph.finish({}), net.feeds


def as_bytes(graph: AuthoredGraph) -> bytes:
    return bytes(ir.to_proto(graph.model).SerializeToString())


@pytest.mark.parametrize("case", CASES)
def test_what_lies_over_an_operand_is_what_lies_elsewhere(case: str, device: EmulatedDevice) -> None:
    found = []
    for kept in KEPT:
        graph, feeds = around(case, kept=kept)
        session = device.session(as_bytes(graph))
        for order, seed in ORDERS:
            with device.emulator.running(order, seed=seed):
                outputs = session.run(feeds)
            found.append({name: array.tobytes() for name, array in outputs.items() if "kept" not in name})

    assert all(one == found[0] for one in found[1:])


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu_too(case: str) -> None:
    own = choose(Kernels.OWN, provider=Provider.CUDA, device_id=0, precision=DType.FLOAT16).operators
    settings = SessionSettings(optimize=Optimization.DISABLED, custom_operators=own)
    found = []
    for kept in KEPT:
        graph, feeds = around(case, kept=kept)
        outputs = Session.create(as_bytes(graph), provider=Provider.CUDA, options=settings).run(feeds)
        found.append({name: array.tobytes() for name, array in outputs.items() if "kept" not in name})

    assert all(one == found[0] for one in found[1:])


def test_the_arena_takes_what_is_said(tmp_path: Path, device: EmulatedDevice) -> None:
    for kept in ("x, skip", ""):
        graph, _ = around(*CASES, kept=kept)
        path = tmp_path / "model.onnx"
        path.write_bytes(as_bytes(graph))
        taken = taken_bytes(path, "as modelled", own_operators=True)
        assert taken == arena_bytes(graph)

    assert taken != arena_bytes(graph, in_place=frozenset())


def test_every_operator_that_is_said_to_lie_over_its_operands_is_tried() -> None:
    assert {case.partition(" ")[0] for case in CASES} == OWN_IN_PLACE
