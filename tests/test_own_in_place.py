"""Own operators write over what nobody else needs: ONNX Runtime lets them, and the results stay the same."""

from __future__ import annotations

import ctypes
import enum
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arena_growth import taken_bytes
from emulator.buffers import Array
from emulator.device import FIRST_SLOT, EmulatedDevice, emulated_device
from emulator.launching import Order
from kernel_cases import Launches

from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.kernels.choice import Kernels, choose
from onnxsd.ops.arena import arena_bytes
from onnxsd.ops.graph import AuthoredGraph, Graph
from onnxsd.ops.memory import OWN_IN_PLACE
from onnxsd.ops.operators import Value
from onnxsd.session import (
    Optimization,
    Provider,
    Session,
    SessionSettings,
)  # fmt: skip
from onnxsd.tensors import DType

# So many pixels that a thread of a group norm takes several of them, one batch after another.
IMAGES = (2, 40, 31, 64)
GROUP_NORM = {"groups": 8, "epsilon": 1e-5, "activation": 1, "slab": 32, "parts": 3}
ORDERS = [(Order.FORWARD, 0), (Order.BACKWARD, 0), (Order.SHUFFLED, 1)]
# Of the operands of a case, those that are needed after it, too. Sessions are lean: by default ONNX Runtime
# runs first what else needs them.
KEPT = (("x", "skip"), ("x",), ("skip",), ())


class Skip(enum.Enum):
    """What is added to x besides a bias: nothing, a tensor like it, or a row for each image."""

    NONE = "bias"
    LIKE_X = "skip"
    ROW = "row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One operator, and whether its y is an output of the graph, which is somebody else's memory."""

    operator: str
    skip: Skip = Skip.NONE
    wants_sum: bool = False
    shape: tuple[int, ...] = IMAGES
    y_is_an_output: bool = False

    def __str__(self) -> str:
        parts = [self.operator, self.skip.value, "x".join(map(str, self.shape))]
        parts += ["and sum"] if self.wants_sum else []
        return " ".join([*parts, "given out"] if self.y_is_an_output else parts)

    @property
    def operands(self) -> tuple[str, ...]:
        """Those of the shape of y."""
        return ("x", "skip") if self.skip is Skip.LIKE_X else ("x",)

    def over(self, kept: Sequence[str]) -> dict[str, str]:
        """Which output has to lie over which operand."""
        outputs = [*([] if self.y_is_an_output else ["y"]), *(["sum"] if self.wants_sum else [])]
        free = [name for name in self.operands if name not in kept]
        return dict(zip(outputs, free, strict=False))


SUMS = [False, True]
ADDITIONS = [Case(operator="FusedAdd", skip=skip) for skip in Skip]
GROUP_NORMS = [
    Case(operator="FusedGroupNorm", skip=skip, wants_sum=wants_sum, y_is_an_output=out)
    for skip, wants_sum, out in itertools.product(Skip, SUMS, SUMS)
]
# Of one pixel, whose row has as many numbers as x.
OF_A_PIXEL = [Case(operator="FusedGroupNorm", skip=Skip.ROW, wants_sum=True, shape=(2, 1, 1, 64))]
LAYER_NORMS = [
    Case(operator="FusedLayerNorm", skip=skip, wants_sum=wants_sum, y_is_an_output=out)
    for skip, wants_sum, out in itertools.product((Skip.NONE, Skip.LIKE_X), SUMS, SUMS)
]
# A thread has one, two or four vectors of a row, the last ones of some threads beyond its end.
SOFTMAXES = [Case(operator="RowSoftmax", shape=(1, 1, 3, width)) for width in (64, 5000, 12296, 16384)]
CASES = [*ADDITIONS, *GROUP_NORMS, *OF_A_PIXEL, *LAYER_NORMS, *SOFTMAXES]


@pytest.fixture(scope="module")
def device() -> EmulatedDevice:
    return emulated_device(FIRST_SLOT + 2)


class Net:
    """A graph; everything that it reads is an input of it."""

    def __init__(self) -> None:
        self.graph = Graph("test")
        self.feeds: dict[str, Array] = {}

    def given(self, *shape: int, dtype: DType = DType.FLOAT16, spread: float = 1.0) -> Value:
        """An input of random numbers."""
        name = f"in{len(self.feeds)}"
        numbers = np.random.default_rng(len(self.feeds)).standard_normal(shape) * spread
        self.feeds[name] = numbers.astype(dtype.numpy_name)
        return self.graph.input(name, dtype, shape)

    def beside(self, x: Value) -> Value:
        """The numbers of `x` as a value that is neither an input nor an output of the graph."""
        return self.graph.emit("FusedAdd", x, None, self.given(self._width(x), spread=0.0))

    def add(self, case: Case, kept: Sequence[str]) -> None:
        """One case over values of its own."""
        operands = {name: self.beside(self.given(*case.shape)) for name in case.operands}
        outputs = self._outputs(case, **operands)
        for name, value in outputs.items():
            given_out = name == "y" and case.y_is_an_output
            self.graph.output(f"{len(self.feeds)} {name}", value if given_out else self.beside(value))
        for name, value in operands.items():
            if name in kept:
                self.graph.output(f"{len(self.feeds)} kept {name}", self.beside(value))

    def _outputs(self, case: Case, *, x: Value, skip: Value | None = None) -> dict[str, Value]:
        width, emit = case.shape[-1], self.graph.emit
        if case.operator == "RowSoftmax":
            return {"y": emit("RowSoftmax", x)}
        row = self.given(case.shape[0], width) if case.skip is Skip.ROW else None
        addends = (skip or row, self.given(width))
        if case.operator == "FusedAdd":
            return {"y": emit("FusedAdd", x, *addends)}
        grouped = case.operator == "FusedGroupNorm"
        dtype = DType.FLOAT32 if grouped else DType.FLOAT16
        gamma, beta = (self.given(width, dtype=dtype) for _ in range(2))
        attributes: dict[str, Any] = GROUP_NORM if grouped else {"epsilon": 1e-5}
        wanted = {"y": 0, **({"sum": 2 if grouped else 1} if case.wants_sum else {})}
        values = self.graph.emit_all(
            case.operator, x, gamma, beta, *addends, outputs=tuple(wanted.values()), **attributes
        )
        return dict(zip(wanted, values, strict=True))

    @staticmethod
    def _width(x: Value) -> int:
        width = x.shape[-1]
        assert isinstance(width, int)
        return width


def around(case: Case, kept: Sequence[str]) -> tuple[AuthoredGraph, dict[str, Array]]:
    """A graph of one case, and numbers for its inputs."""
    net = Net()
    net.add(case, kept)
    return net.graph.finish({}), net.feeds


def compared(outputs: dict[str, Array]) -> list[bytes]:
    """What the operator itself gives, in its outputs' order."""
    return [array.tobytes() for name, array in outputs.items() if "kept" not in name]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_lies_over_an_operand_is_what_lies_elsewhere(case: Case, device: EmulatedDevice) -> None:
    found = []
    for kept in KEPT:
        graph, feeds = around(case, kept)
        session = device.session(to_bytes(graph), lean=True)
        for order, seed in ORDERS:
            with device.emulator.running(order, seed=seed):
                found.append(compared(session.run(feeds)))

    assert all(one == found[0] for one in found[1:])


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=str)
def test_on_a_gpu_too(case: Case) -> None:
    own = choose(Kernels.OWN, provider=Provider.CUDA, device_id=0, precision=DType.FLOAT16).operators
    settings = SessionSettings(optimize=Optimization.DISABLED, lean=True, custom_operators=own)
    found = []
    for kept in KEPT:
        graph, feeds = around(case, kept)
        session = Session.create(to_bytes(graph), provider=Provider.CUDA, options=settings)
        found.append(compared(session.run(feeds)))

    assert all(one == found[0] for one in found[1:])


# The operands' places among a kernel's arguments.
ARGUMENTS = {
    "addition": {"x": 0, "skip": 1, "y": 4},
    "group_norm_statistics": {"x": 0, "skip": 1, "sum": 4},
    "group_norm_apply": {"y": 7},
    "layer_norm": {"x": 0, "skip": 1, "y": 5, "sum": 6},
    "softmax": {"x": 0, "y": 1},
}


class Places(Launches):
    """Launches of kernels on a device of its own, and where the operands of each lie."""

    def __init__(self, device: EmulatedDevice) -> None:
        super().__init__()
        self.launched: list[dict[str, int]] = []
        self._device, self._names = device, device.library.functions
        # A function is the number of its name, from 1: what is 0 was not given.
        handles = range(1, len(self._names) + 1)
        device.library.provide(device.slot, Provider.CPU.runtime_name, self.address, handles)

    def saw(self, function: int, arguments: Any) -> None:
        """Note the addresses that a kernel is given."""
        name = self._names[function - 1]
        operands = next(places for begin, places in ARGUMENTS.items() if name.startswith(begin))
        self.launched.append(
            {
                operand: ctypes.cast(arguments[at], ctypes.POINTER(ctypes.c_void_p))[0] or 0
                for operand, at in operands.items()
            }
        )

    def of(self, case: Case, kept: Sequence[str]) -> dict[str, int]:
        """The addresses of the case's operator, for which those that make its operands are launched first."""
        graph, feeds = around(case, kept)
        session = self._device.session(to_bytes(graph), lean=True)
        self.launched.clear()
        session.run(feeds)
        first, kernels = len(case.operands), 2 if case.operator == "FusedGroupNorm" else 1
        of_the_case = self.launched[first : first + kernels]
        return {name: address for places in of_the_case for name, address in places.items()}


@pytest.fixture(scope="module")
def places(device: EmulatedDevice) -> Places:
    return Places(replace(device, slot=FIRST_SLOT + 3))


@pytest.mark.parametrize("kept", KEPT, ids=", ".join)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_lies_over_an_operand_that_nobody_else_needs(
    case: Case, kept: tuple[str, ...], places: Places
) -> None:
    found = places.of(case, kept)
    over = {
        output: operand
        for output, operand in itertools.product(("y", "sum"), ("x", "skip"))
        if found.get(output) and found[output] == found.get(operand)
    }

    assert over == case.over(kept)


def test_the_arena_takes_what_is_said(tmp_path: Path, device: EmulatedDevice) -> None:
    for cases in (GROUP_NORMS, [*ADDITIONS, *OF_A_PIXEL, *LAYER_NORMS, *SOFTMAXES]):
        net = Net()
        for case, kept in itertools.product(cases, KEPT):
            net.add(case, kept)
        graph = net.graph.finish({})
        path = tmp_path / "model.onnx"
        path.write_bytes(to_bytes(graph))

        assert taken_bytes(path, own_operators=True) == arena_bytes(graph)


def test_every_operator_that_is_said_to_lie_over_its_operands_is_tried() -> None:
    assert {case.operator for case in CASES} == OWN_IN_PLACE
