"""Own operators in ONNX Runtime, end to end on a CPU: the native library launches the emulated kernels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from emulator import exact
from emulator.buffers import Array
from emulator.device import FIRST_SLOT, EmulatedDevice, emulated_device
from emulator.exact import within
from onnx import TensorProto, helper

from onnxsd.errors import NotReadyError, OnnxsdError
from onnxsd.ops.graph import IR_VERSION, OPSET
from onnxsd.ops.operators import OWN

TYPES = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}


@pytest.fixture(scope="module")
def device() -> Iterator[EmulatedDevice]:
    made = emulated_device()
    with made.emulator.running(approximation=5):
        yield made


def _normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def _wide(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _model(
    operator: str, inputs: Mapping[str, Array | None], outputs: Mapping[str, str], **attributes: Any
) -> bytes:
    """One operator; inputs that are None are left out, and sizes are not known before it runs.

    outputs: the type of each by its name; one whose name begins with "-" is left out.
    """
    given = {name: array for name, array in inputs.items() if array is not None}
    names = [name if name in given else "" for name in inputs]
    wanted = ["" if name.startswith("-") else name for name in outputs]
    for places in (names, wanted):
        while not places[-1]:
            places.pop()
    node = helper.make_node(operator, names, wanted, domain=OWN, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(
                name, TYPES[array.dtype.name], [f"{name}{i}" for i in range(array.ndim)]
            )
            for name, array in given.items()
        ],
        [helper.make_tensor_value_info(name, TYPES[outputs[name]], None) for name in wanted if name],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(OWN, 1)]
    return bytes(helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets).SerializeToString())


def _run(
    device: EmulatedDevice,
    operator: str,
    inputs: Mapping[str, Array | None],
    outputs: Mapping[str, str] | None = None,
    **attributes: Any,
) -> Mapping[str, Array]:
    """Every output that is not left out; by default there is one, y."""
    model = _model(operator, inputs, outputs or {"y": "float16"}, **attributes)
    feeds = {name: array for name, array in inputs.items() if array is not None}
    return device.session(model).run(feeds)


SKIPS = ("no skip", "skip", "row")
GIVEN = [False, True]


def _skip(kind: str, x: Array) -> Array | None:
    shapes = {"skip": x.shape, "row": (x.shape[0], x.shape[-1])}
    return _normal(*shapes[kind], seed=3) if kind in shapes else None


def _bias(given: bool, x: Array) -> Array | None:
    return _normal(x.shape[-1], seed=4) if given else None


def _sum(x: Array, skip: Array | None, bias: Array | None) -> exact.Exact:
    if skip is not None and skip.ndim < x.ndim:
        skip = skip[:, None, None]
    return exact.added(x, skip, bias)


def _as_images(x: Array) -> Array:
    return x.reshape(x.shape[0], -1, x.shape[-1])


GROUP_NORM = {"groups": 8, "epsilon": 1e-5, "slab": 32, "parts": 3}


@pytest.mark.parametrize("wants_sum", GIVEN, ids=["", "and sum"])
@pytest.mark.parametrize("silu", GIVEN, ids=["", "silu"])
@pytest.mark.parametrize("bias_given", GIVEN, ids=["", "bias"])
@pytest.mark.parametrize("kind", SKIPS)
def test_group_norm(device: EmulatedDevice, kind: str, bias_given: bool, silu: bool, wants_sum: bool) -> None:
    x, gamma, beta = _normal(2, 7, 5, 64), _wide(64, seed=1), _wide(64, seed=2)
    skip, bias = _skip(kind, x), _bias(bias_given, x)
    inputs = {"x": x, "gamma": gamma, "beta": beta, "skip": skip, "bias": bias}
    outputs = {"y": "float16", "partials": "float32", "sum" if wants_sum else "-sum": "float16"}
    found = _run(device, "FusedGroupNorm", inputs, outputs, **GROUP_NORM, activation=int(silu))
    total = _sum(x, skip, bias)
    # Where the kernel keeps its sum to itself, a sum of two is the exact one, rounded.
    added = found["sum"] if wants_sum else total.numbers.astype(np.float16)
    if wants_sum:
        within(found["sum"], total)
    if wants_sum or np.all(total.terms == 0):
        expected = exact.group_norm(_as_images(added), gamma, beta, groups=8, epsilon=1e-5, silu=silu)
        within(_as_images(found["y"]), expected)
    assert found.keys() == {name for name in outputs if not name.startswith("-")}


def test_group_norm_gives_the_same_with_and_without_its_sum(device: EmulatedDevice) -> None:
    x = _normal(2, 7, 5, 64)
    inputs = {"x": x, "gamma": _wide(64, seed=1), "beta": _wide(64, seed=2)}
    for kind, bias_given in itertools.product(SKIPS, GIVEN):
        addends = {"skip": _skip(kind, x), "bias": _bias(bias_given, x)}
        found = [
            _run(
                device, "FusedGroupNorm", {**inputs, **addends},
                {"y": "float16", "partials": "float32", name: "float16"}, **GROUP_NORM, activation=1,
            )["y"]
            for name in ("sum", "-sum")
        ]  # fmt: skip
        assert found[0].tobytes() == found[1].tobytes()


@pytest.mark.parametrize("wants_sum", GIVEN, ids=["", "and sum"])
@pytest.mark.parametrize("bias_given", GIVEN, ids=["", "bias"])
@pytest.mark.parametrize("kind", SKIPS[:2])
@pytest.mark.parametrize("shape", [(3, 64), (2, 5, 320), (1, 2, 3, 2048)], ids=str)
def test_layer_norm(
    device: EmulatedDevice, shape: tuple[int, ...], kind: str, bias_given: bool, wants_sum: bool
) -> None:
    x, gamma, beta = _normal(*shape), _normal(shape[-1], seed=1), _normal(shape[-1], seed=2)
    skip, bias = _skip(kind, x), _bias(bias_given, x)
    inputs = {"x": x, "gamma": gamma, "beta": beta, "skip": skip, "bias": bias}
    wanted = {True: {"y": "float16", "sum": "float16"}, False: {"y": "float16"}}
    found = {
        which: _run(device, "FusedLayerNorm", inputs, wanted[which], epsilon=1e-5)
        for which in {True, wants_sum}
    }
    within(found[True]["sum"], _sum(x, skip, bias))
    within(found[wants_sum]["y"], exact.layer_norm(found[True]["sum"], gamma, beta, epsilon=1e-5))


@pytest.mark.parametrize("shape", [(3, 16), (2, 5, 640), (1, 2, 3, 2560)], ids=str)
def test_geglu(device: EmulatedDevice, shape: tuple[int, ...]) -> None:
    x, bias = _normal(*shape), _normal(shape[-1], seed=1)
    within(_run(device, "GEGLU", {"x": x, "bias": bias})["y"], exact.geglu(x, bias))


@pytest.mark.parametrize("shape", [(3, 16), (1, 2, 3, 4096), (2, 8200), (1, 16384), (1, 32768)], ids=str)
def test_softmax(device: EmulatedDevice, shape: tuple[int, ...]) -> None:
    x = _normal(*shape)
    within(_run(device, "RowSoftmax", {"x": x})["y"], exact.softmax(x))


@pytest.mark.parametrize("size", [(14, 10), (13, 10), (14, 9), (13, 9)], ids=str)
@pytest.mark.parametrize("bias_given", GIVEN, ids=["", "bias"])
@pytest.mark.parametrize("kind", SKIPS[:2])
def test_upsampling(device: EmulatedDevice, kind: str, bias_given: bool, size: tuple[int, int]) -> None:
    x = _normal(2, 7, 5, 24)
    skip, bias = _skip(kind, x), _bias(bias_given, x)
    height, width = size
    inputs = {"x": x, "skip": skip, "bias": bias}
    found = _run(device, "UpsampleNearest", inputs, height=height, width=width)["y"]
    small = _sum(x, skip, bias)
    large = exact.Exact(
        numbers=small.numbers.repeat(2, 1).repeat(2, 2)[:, :height, :width],
        terms=np.broadcast_to(small.terms, x.shape).repeat(2, 1).repeat(2, 2)[:, :height, :width],
    )
    within(found, large)


@pytest.mark.parametrize("bias_given", GIVEN, ids=["", "bias"])
@pytest.mark.parametrize("shape", [(1, 2, 2, 32), (2, 7, 5, 96), (3, 3, 18, 1280)], ids=str)
def test_interleaving(device: EmulatedDevice, shape: tuple[int, ...], bias_given: bool) -> None:
    z = _normal(*shape)
    rows, columns, channels = shape[1] - 1, shape[2] - 1, shape[3] // 4
    bias = _normal(channels, seed=4) if bias_given else None
    found = _run(device, "Interleave", {"z": z, "bias": bias})["y"]
    assert found.shape == (shape[0], 2 * rows, 2 * columns, channels)
    within(found, exact.interleaved(z, bias))


@pytest.mark.parametrize(
    ("shape", "kind", "bias_given"),
    [
        (shape, kind, bias_given)
        for shape in ((5, 8), (3, 5, 64), (2, 3, 5, 320))
        for kind, bias_given in [*itertools.product(SKIPS, GIVEN)][1:]
        if kind != "row" or len(shape) == 4
    ],
    ids=str,
)
def test_addition(device: EmulatedDevice, shape: tuple[int, ...], kind: str, bias_given: bool) -> None:
    x = _normal(*shape)
    skip, bias = _skip(kind, x), _bias(bias_given, x)
    within(_run(device, "FusedAdd", {"x": x, "skip": skip, "bias": bias})["y"], _sum(x, skip, bias))


def test_addition_of_a_single_row(device: EmulatedDevice) -> None:
    x, bias = _normal(64), _normal(64, seed=1)
    within(_run(device, "FusedAdd", {"x": x, "skip": None, "bias": bias})["y"], exact.added(x, bias))


@pytest.mark.parametrize("others", [8, 64])
@pytest.mark.parametrize("bias_given", GIVEN, ids=["", "bias"])
@pytest.mark.parametrize("kind", SKIPS[:2])
def test_concatenation(device: EmulatedDevice, kind: str, bias_given: bool, others: int) -> None:
    x, other = _normal(2, 3, 5, 24), _normal(2, 3, 5, others, seed=9)
    skip, bias = _skip(kind, x), _bias(bias_given, x)
    found = _run(device, "FusedConcat", {"x": x, "other": other, "skip": skip, "bias": bias})["y"]
    within(found[..., :24], _sum(x, skip, bias))
    assert (found[..., 24:] == other).all()


def _norm_of(channels: int) -> Mapping[str, Array]:
    """Inputs of a group norm over one pixel."""
    return {"x": _normal(1, 1, 1, channels), "gamma": _wide(channels), "beta": _wide(channels)}


X = _normal(2, 4, 4, 64)
NORM = {"x": X, "gamma": _wide(64), "beta": _wide(64)}
ROWS = {"x": X, "gamma": _normal(64), "beta": _normal(64)}
TO_8 = {"height": 8, "width": 8}


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "says"),
    [
        ("FusedGroupNorm", {**NORM, "x": X[0]}, {}, "four axes|batch, height, width"),
        ("FusedGroupNorm", {**NORM, "gamma": _wide(32)}, {}, "gamma and beta"),
        ("FusedGroupNorm", {**NORM, "skip": X[:1]}, {}, "skip"),
        ("FusedGroupNorm", {**NORM, "skip": None, "bias": _normal(1, 64)}, {}, "bias"),
        ("FusedGroupNorm", NORM, {"groups": 7}, "groups"),
        ("FusedGroupNorm", NORM, {"groups": 0}, "groups"),
        ("FusedGroupNorm", NORM, {"groups": -8}, "groups is out of range"),
        ("FusedGroupNorm", NORM, {"parts": 0}, "parts"),
        ("FusedGroupNorm", NORM, {"slab": 24}, "slab"),
        ("FusedGroupNorm", NORM, {"slab": 0}, "slab"),
        ("FusedGroupNorm", _norm_of(4096), {"slab": 4096}, "up to 3072"),
        ("FusedGroupNorm", _norm_of(512), {"slab": 512, "groups": 512}, "up to 384 groups"),
        (
            "FusedGroupNorm",
            {"x": X[..., :60], "gamma": _wide(60), "beta": _wide(60)},
            {"groups": 6, "slab": 60},
            "8",
        ),
        ("FusedGroupNorm", {**NORM, "x": X[:0]}, {}, "empty"),
        ("FusedLayerNorm", {**ROWS, "beta": _normal(1)}, {}, "gamma and beta"),
        ("FusedLayerNorm", {**ROWS, "skip": X[0]}, {}, "skip"),
        ("FusedLayerNorm", {**ROWS, "skip": None, "bias": _normal(8)}, {}, "bias"),
        ("FusedLayerNorm", {"x": X[..., :4], "gamma": _normal(4), "beta": _normal(4)}, {}, "multiple of 8"),
        (
            "FusedLayerNorm",
            {"x": _normal(2, 2056), "gamma": _normal(2056), "beta": _normal(2056)},
            {},
            "2048",
        ),
        ("RowSoftmax", {"x": X[..., :4].copy()}, {}, "multiple of 8"),
        ("RowSoftmax", {"x": _normal(1, 32776)}, {}, "32768"),
        ("GEGLU", {"x": X, "bias": _normal(32)}, {}, "bias"),
        ("GEGLU", {"x": X[..., :24].copy(), "bias": _normal(24)}, {}, "multiple of 8"),
        ("GEGLU", {"x": np.array(1, np.float16), "bias": _normal(16)}, {}, "axis"),
        ("GEGLU", {"x": _normal(*(1,) * 8, 16), "bias": _normal(16)}, {}, "axis"),
        ("UpsampleNearest", {"x": X}, {**TO_8, "height": 9}, "height"),
        ("UpsampleNearest", {"x": X}, {**TO_8, "width": 6}, "width"),
        ("UpsampleNearest", {"x": X[0]}, TO_8, "batch, height, width"),
        ("UpsampleNearest", {"x": X, "skip": X[:1]}, TO_8, "skip"),
        ("UpsampleNearest", {"x": X, "skip": None, "bias": _normal(8)}, TO_8, "bias"),
        ("Interleave", {"z": X[0]}, {}, "4·channels"),
        ("Interleave", {"z": X[:, :1].copy()}, {}, "one row and one column more"),
        ("Interleave", {"z": X[:, :, :1].copy()}, {}, "one row and one column more"),
        ("Interleave", {"z": X[..., :48].copy()}, {}, "multiple of 8"),
        ("Interleave", {"z": X[:0]}, {}, "empty"),
        ("Interleave", {"z": X, "bias": _normal(64)}, {}, "bias"),
        ("FusedAdd", {"x": X}, {}, "nothing to add"),
        ("FusedAdd", {"x": X, "skip": X[..., :32].copy()}, {}, "skip"),
        ("FusedAdd", {"x": X[0], "skip": X[0, 0]}, {}, "skip"),
        ("FusedAdd", {"x": X[:0], "skip": X[:0]}, {}, "empty"),
        ("FusedAdd", {"x": X, "skip": None, "bias": _normal(8)}, {}, "bias"),
        ("FusedConcat", {"x": X, "other": X[:1]}, {}, "same batch"),
        ("FusedConcat", {"x": X, "other": X[0]}, {}, "four axes"),
        ("FusedConcat", {"x": X, "other": X[..., :4].copy()}, {}, "multiple of 8"),
        ("FusedConcat", {"x": X, "other": X, "skip": X[:1]}, {}, "skip"),
        ("FusedConcat", {"x": X, "other": X, "skip": None, "bias": _normal(8)}, {}, "bias"),
    ],
)
def test_what_an_operator_cannot_take_is_an_error_in_words(
    device: EmulatedDevice,
    operator: str,
    inputs: Mapping[str, Array | None],
    attributes: Mapping[str, Any],
    says: str,
) -> None:
    outputs = {"y": "float16"}
    if operator == "FusedGroupNorm":
        attributes = {**GROUP_NORM, "activation": 0, **attributes}
        outputs["partials"] = "float32"
    if operator == "FusedLayerNorm":
        attributes = {"epsilon": 1e-5}
    with pytest.raises(OnnxsdError, match=rf"onnxsd( {operator})?: .*({says})"):
        _run(device, operator, inputs, outputs, **attributes)


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        ("FusedGroupNorm", {**NORM, "gamma": _normal(64)}),
        ("FusedLayerNorm", {**ROWS, "x": X.astype(np.float32)}),
        ("GEGLU", {"x": X, "bias": _wide(64)}),
        ("FusedAdd", {"x": X, "skip": X.astype(np.float32)}),
    ],
)
def test_a_wrong_type_is_refused_when_the_session_is_made(
    device: EmulatedDevice, operator: str, inputs: Mapping[str, Array]
) -> None:
    outputs = {"y": "float16", "partials": "float32"} if operator == "FusedGroupNorm" else {"y": "float16"}
    with pytest.raises(OnnxsdError, match=rf"cannot load .*{operator}|cannot load .*[Tt]ype"):
        device.session(_model(operator, inputs, outputs, **GROUP_NORM, activation=0))


def test_an_attribute_that_is_missing_is_refused_when_the_session_is_made(device: EmulatedDevice) -> None:
    with pytest.raises(OnnxsdError, match=r"cannot load .*height"):
        device.session(_model("UpsampleNearest", {"x": X}, {"y": "float16"}, width=8))


def test_a_kernel_that_fails_fails_the_run() -> None:
    broken = emulated_device(FIRST_SLOT + 1, broken=True)
    made = broken.session(_model("FusedAdd", {"x": X, "skip": X}, {"y": "float16"}))
    with pytest.raises(NotReadyError, match="onnxsd FusedAdd: launching addition failed with CUDA error 1"):
        made.run({"x": X, "skip": X})
    assert broken.emulator.failure == "no such kernel"
