"""Every kernel on a CPU against float64: odd sizes, all channel counts of all families, extreme numbers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from emulator import exact, kernels
from emulator.buffers import Array, beginning_at_a_page
from emulator.exact import within
from emulator.kernels import Addends, GroupNorm, Normed
from emulator.launching import Emulator, Order, emulator

import onnxsd.models

CONFIGURATIONS = sorted((Path(onnxsd.models.__file__).parent / "configurations").glob("*.json"))
# Of the narrow twins: groups and widths, concatenations among them.
TWINS = [(8, 16), (8, 32), (8, 48), (8, 64), (8, 96), (4, 8), (4, 16), (4, 24)]
ORDERS = [(Order.BACKWARD, 0), (Order.SHUFFLED, 1), (Order.SHUFFLED, 2)]
# Drawn by it, the approximate instructions of these tests are wrong by as much as they may be.
APPROXIMATION = 11


@pytest.fixture(scope="module", autouse=True)
def gpu() -> Iterator[Emulator]:
    loaded = emulator()
    with loaded.running(approximation=APPROXIMATION):
        yield loaded


def _normal(*shape: int, seed: int = 0, mean: float = 0.0, spread: float = 1.0) -> Array:
    numbers = np.random.default_rng(seed).standard_normal(shape) * spread + mean
    half: Array = numbers.clip(-exact.LARGEST, exact.LARGEST).astype(np.float16)
    return half


def _wide(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _addends(given: tuple[str, ...], images: int, pixels: int, channels: int) -> Addends:
    shapes = {"skip": (images, pixels, channels), "row": (images, channels), "bias": (channels,)}
    return Addends(**{name: _normal(*shapes[name], seed=7 + len(name), spread=2.0) for name in given})


def _combinations(*names: str) -> list[tuple[str, ...]]:
    return [given for size in range(len(names) + 1) for given in itertools.combinations(names, size)]


def _added(x: Array, addends: Addends) -> exact.Exact:
    row = None if addends.row is None else addends.row[:, None]
    return exact.added(x, addends.skip, row, addends.bias)


def _in_any_order(gpu: Emulator, compute: Callable[[], Array]) -> Array:
    """What a computation gives, once it is known to give the same bits in each order of its threads."""
    first = compute()
    for order, seed in ORDERS:
        # So each is run with pages that may not be touched before its buffers, too.
        side = beginning_at_a_page() if order is Order.BACKWARD else nullcontext()
        with gpu.running(order, seed=seed, approximation=APPROXIMATION), side:
            assert compute().tobytes() == first.tobytes(), f"a race shows {order.name.lower()}"
    return first


def _normed(compute: Callable[[bool], Normed]) -> Normed:
    """A norm, once it is known not to change with whether its sum is stored."""
    stored, anew = compute(True), compute(False)
    assert stored.y.tobytes() == anew.y.tobytes()
    return stored


def _check_group_norm(
    gpu: Emulator, how: GroupNorm, x: Array, addends: Addends = kernels.NONE, *, in_any_order: bool = True
) -> Array:
    """The normed image, once it and the sum are known to be right."""
    gamma, beta = _wide(x.shape[-1], seed=1), _wide(x.shape[-1], seed=2)
    found = _normed(lambda wants_sum: how.run(gpu, x, gamma, beta, addends, wants_sum=wants_sum))
    if in_any_order:
        _in_any_order(gpu, lambda: how.run(gpu, x, gamma, beta, addends).y)
    assert found.sum is not None
    within(found.sum, _added(x, addends))
    within(
        found.y,
        exact.group_norm(found.sum, gamma, beta, groups=how.groups, epsilon=how.epsilon, silu=how.silu),
    )
    return found.y


def _widths() -> list[int]:
    """The widths of all families' feature maps; a decoder also joins a level's with its own or the next's."""
    found: set[int] = set()
    for path in CONFIGURATIONS:
        for config in json.loads(path.read_text(encoding="utf-8")).values():
            if isinstance(config, dict) and "block_out_channels" in config:
                widths = config["block_out_channels"]
                found |= {*widths, *(2 * width for width in widths), *map(sum, itertools.pairwise(widths))}
    return sorted(found)


@pytest.mark.parametrize(("groups", "channels"), [*((32, width) for width in _widths()), *TWINS])
def test_group_norm_of_all_widths(gpu: Emulator, groups: int, channels: int) -> None:
    for slab in kernels.slabs(channels, groups)[:3]:
        how = GroupNorm(groups=groups, parts=3, slab=slab)
        _check_group_norm(gpu, how, _normal(2, 7 * 5, channels), in_any_order=slab < 100)


@pytest.mark.parametrize("silu", [False, True], ids=["plain", "silu"])
@pytest.mark.parametrize("given", _combinations("skip", "row", "bias"), ids="+".join)
def test_group_norm_of_a_sum(gpu: Emulator, given: tuple[str, ...], silu: bool) -> None:
    how = GroupNorm(groups=8, silu=silu, parts=5, slab=32)
    _check_group_norm(gpu, how, _normal(3, 13 * 9, 64), _addends(given, 3, 13 * 9, 64))


@pytest.mark.parametrize("parts", [1, 2, 8, 16, 40, 150])
@pytest.mark.parametrize("pixels", [1, 35, 117])
def test_group_norm_in_parts(gpu: Emulator, pixels: int, parts: int) -> None:
    how = GroupNorm(groups=8, parts=parts, silu=True)
    addends = _addends(("skip",), 1, pixels, 32)
    _check_group_norm(gpu, how, _normal(1, pixels, 32), addends, in_any_order=parts < 10)


@pytest.mark.parametrize("images", [1, 2, 3, 4, 5])
def test_an_image_does_not_change_with_its_company(gpu: Emulator, images: int) -> None:
    x, row = _normal(images, 35, 320), _normal(images, 320, seed=3)
    how = GroupNorm(groups=32, parts=4)
    together = _check_group_norm(gpu, how, x, Addends(row=row), in_any_order=False)
    for i in range(images):
        alone = _check_group_norm(gpu, how, x[i : i + 1], Addends(row=row[i : i + 1]), in_any_order=False)
        assert alone[0].tobytes() == together[i].tobytes()


@pytest.mark.parametrize("given", [(), ("row",), ("skip", "bias")], ids="+".join)
def test_group_norm_of_a_large_image(gpu: Emulator, given: tuple[str, ...]) -> None:
    how = GroupNorm(groups=32, parts=264, silu=True, slab=320)
    addends = _addends(given, 1, 128 * 128, 320)
    _check_group_norm(gpu, how, _normal(1, 128 * 128, 320), addends, in_any_order=False)


SHAPE = (1, 2048, 320)


def _huge(pixel: int, channel: int, numbers: Array) -> Array:
    """The same with one huge number."""
    changed: Array = numbers.copy()
    changed[0, pixel, channel] = 60000.0
    return changed


EXTREME = {
    "mean 200": _normal(*SHAPE, mean=200),
    "mean -2000": _normal(*SHAPE, mean=-2000, spread=4),
    "all equal": np.full(SHAPE, 1234, np.float16),
    "zeros": np.zeros(SHAPE, np.float16),
    "largest": np.full(SHAPE, exact.LARGEST, np.float16),
    "near the limits": _normal(*SHAPE, spread=14000),
    "subnormal": _normal(*SHAPE, spread=2.0**-20),
    # Where the groups are narrower than a vector's eight channels, one number stands for the means of both.
    "groups apart": _normal(*SHAPE) + _normal(32, seed=4, spread=5).repeat(10),
    # At the first pixel of an image, of a part and in the middle; in a group's first channel and in others.
    **{
        f"huge at {pixel}, {channel} in {name}": _huge(pixel, channel, base)
        for pixel, channel in itertools.product((0, 64, 1000), (0, 9, 10, 13))
        for name, base in (("zeros", np.zeros(SHAPE, np.float16)), ("noise", _normal(*SHAPE)))
    },
}


@pytest.mark.parametrize("name", EXTREME)
def test_group_norm_of_extreme_numbers(gpu: Emulator, name: str) -> None:
    for parts in (1, 32):
        how = GroupNorm(groups=32, parts=parts, slab=160)
        _check_group_norm(gpu, how, EXTREME[name], in_any_order=False)


@pytest.mark.parametrize("channel", [0, 1, 15])
def test_group_norm_of_a_huge_number_that_has_a_part_almost_to_itself(gpu: Emulator, channel: int) -> None:
    for pixel in (0, 100, 199):
        x = _huge(pixel, channel, _normal(1, 200, 16))
        _check_group_norm(gpu, GroupNorm(groups=8, parts=200), x, in_any_order=False)


@pytest.mark.parametrize("epsilon", [1e-12, 1e-6, 1e-5, 0.1])
def test_group_norm_adds_epsilon_to_the_variance(gpu: Emulator, epsilon: float) -> None:
    _check_group_norm(gpu, GroupNorm(groups=8, epsilon=epsilon), _normal(1, 63, 64, spread=2.0**-18))


def test_group_norm_of_what_a_bias_moves_far(gpu: Emulator) -> None:
    addends = Addends(skip=_normal(2, 63, 64, seed=1), bias=_normal(64, seed=2, spread=500))
    _check_group_norm(gpu, GroupNorm(groups=8, parts=2), _normal(2, 63, 64), addends)


def _check_layer_norm(
    gpu: Emulator, x: Array, addends: Addends = kernels.NONE, *, epsilon: float = 1e-5
) -> None:
    gamma, beta = _normal(x.shape[1], seed=5), _normal(x.shape[1], seed=6)

    def compute(wants_sum: bool) -> Normed:
        return kernels.layer_norm(gpu, x, gamma, beta, addends, epsilon=epsilon, wants_sum=wants_sum)

    found = _normed(compute)
    _in_any_order(gpu, lambda: compute(False).y)
    assert found.sum is not None
    within(found.sum, _added(x, addends))
    within(found.y, exact.layer_norm(found.sum, gamma, beta, epsilon=epsilon))


@pytest.mark.parametrize("rows", [1, 3, 77])
@pytest.mark.parametrize("width", [8, 16, 48, 320, 640, 768, 1024, 1280, 1536, 1792, 2048])
def test_layer_norm(gpu: Emulator, width: int, rows: int) -> None:
    _check_layer_norm(gpu, _normal(rows, width))


@pytest.mark.parametrize("width", [264, 640])
@pytest.mark.parametrize("given", _combinations("skip", "bias"), ids="+".join)
def test_layer_norm_of_a_sum(gpu: Emulator, given: tuple[str, ...], width: int) -> None:
    addends = _addends(given, 10, 1, width)
    skip = None if addends.skip is None else addends.skip[:, 0]
    _check_layer_norm(gpu, _normal(10, width), Addends(skip=skip, bias=addends.bias))


@pytest.mark.parametrize("name", EXTREME)
def test_layer_norm_of_extreme_numbers(gpu: Emulator, name: str) -> None:
    _check_layer_norm(gpu, EXTREME[name][0, ::8])


@pytest.mark.parametrize("value", [30, 100, 1000, 60000])
@pytest.mark.parametrize("width", [320, 2048])
def test_layer_norm_of_rows_with_one_large_number(gpu: Emulator, width: int, value: float) -> None:
    for channel in (0, 3, 6, width // 2):
        x = _normal(20, width)
        x[:, channel] = value
        _check_layer_norm(gpu, x)


@pytest.mark.parametrize("epsilon", [1e-12, 1e-6, 0.1])
def test_layer_norm_adds_epsilon_to_the_variance(gpu: Emulator, epsilon: float) -> None:
    _check_layer_norm(gpu, _normal(5, 320, spread=2.0**-18), epsilon=epsilon)


@pytest.mark.parametrize("width", [8, 264, 4096, 4104, 8192, 8200, 16384, 32768])
def test_softmax(gpu: Emulator, width: int) -> None:
    x = _normal(3, width, spread=2.0)
    within(_in_any_order(gpu, lambda: kernels.softmax(gpu, x)), exact.softmax(x))


@pytest.mark.parametrize("level", [0.0, 40000.0, -exact.LARGEST])
def test_softmax_of_extreme_numbers(gpu: Emulator, level: float) -> None:
    """All equal; one far above; one far below; all so large that only their distances count."""
    x = np.full((4, 1024), level, np.float16)
    x[1, 700], x[2, 3] = exact.LARGEST, -exact.LARGEST
    x[3] += np.abs(_normal(1024, spread=64.0)) * np.float16(1 if level < 0 else -1)
    within(kernels.softmax(gpu, x), exact.softmax(x))


def _check_geglu(gpu: Emulator, x: Array, bias: Array) -> None:
    within(_in_any_order(gpu, lambda: kernels.geglu(gpu, x, bias)), exact.geglu(x, bias))


@pytest.mark.parametrize("rows", [1, 2, 5, 77])
@pytest.mark.parametrize("width", [8, 64, 1280, 2560, 5120])
def test_geglu(gpu: Emulator, width: int, rows: int) -> None:
    _check_geglu(gpu, _normal(rows, 2 * width, spread=2.0), _normal(2 * width, seed=1))


@pytest.mark.parametrize("left", [1.0, -3.0, 1000.0, exact.LARGEST, 2.0**-14, 2.0**-24])
def test_geglu_far_out_on_both_sides(gpu: Emulator, left: float) -> None:
    """Every float16 number as the gate, each with the same number to its left."""
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    gates = every[np.isfinite(every)].reshape(-1, 1024)
    bias = np.zeros(2048, np.float16)
    x = np.concatenate([np.full_like(gates, left), gates], axis=1)
    within(kernels.geglu(gpu, x, bias), exact.geglu(x, bias))


def test_geglu_whose_bias_moves_much(gpu: Emulator) -> None:
    x = _normal(9, 1280)
    _check_geglu(gpu, x, _normal(1280, seed=3, spread=500.0))
    _check_geglu(gpu, x, _normal(1280, seed=4, mean=-4.0))
    _check_geglu(gpu, x, np.full(1280, exact.LARGEST, np.float16))


@pytest.mark.parametrize(("lines", "width"), [(1, 8), (63, 320), (117, 24), (4, 1280), (2, 2560)])
@pytest.mark.parametrize("given", _combinations("skip", "row", "bias"), ids="+".join)
def test_addition(gpu: Emulator, given: tuple[str, ...], lines: int, width: int) -> None:
    x, addends = _normal(3, lines, width), _addends(given, 3, lines, width)
    within(_in_any_order(gpu, lambda: kernels.addition(gpu, x, addends)), _added(x, addends))


def test_addition_at_the_ends_of_float16(gpu: Emulator) -> None:
    x = np.linspace(65000, exact.LARGEST, 512).astype(np.float16).reshape(1, 8, 64)
    tiny = _normal(1, 8, 64, spread=2.0**-23)
    for one, other in ((x, 100 + 0 * x), (-x, -x // 8), (tiny, tiny[:, ::-1].copy())):
        addends = Addends(skip=other)
        within(kernels.addition(gpu, one, addends), _added(one, addends))


# Left and right of the decoders of SD 1.5 and SDXL, of the refiner, and of a twin.
JOINED = [(1280, 1280), (1280, 640), (640, 320), (320, 320), (1536, 768), (768, 384), (16, 48), (8, 8)]


@pytest.mark.parametrize(("width", "others"), JOINED)
@pytest.mark.parametrize("given", _combinations("skip", "bias"), ids="+".join)
def test_concatenation(gpu: Emulator, given: tuple[str, ...], width: int, others: int) -> None:
    x, other = _normal(35, width), _normal(35, others, seed=9)
    addends = _addends(given, 35, 1, width)
    addends = Addends(skip=None if addends.skip is None else addends.skip[:, 0], bias=addends.bias)
    found = _in_any_order(gpu, lambda: kernels.concatenation(gpu, x, other, addends))
    within(found[:, :width], _added(x, addends))
    assert found[:, width:].tobytes() == other.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 5), (8, 5), (7, 6), (26, 18)], ids=str)
@pytest.mark.parametrize("given", _combinations("skip", "bias"), ids="+".join)
@pytest.mark.parametrize("channels", [8, 320])
def test_upsampling(gpu: Emulator, size: tuple[int, int], given: tuple[str, ...], channels: int) -> None:
    rows, columns = (size[0] + 1) // 2, (size[1] + 1) // 2
    x, addends = _normal(3, rows, columns, channels), _addends(given, 3, rows * columns, channels)
    if addends.skip is not None:
        addends = Addends(skip=addends.skip.reshape(x.shape), bias=addends.bias)
    found = _in_any_order(gpu, lambda: kernels.upsampling(gpu, x, size, addends))
    within(found[:, ::2, ::2], _added(x, addends))
    for row, column in itertools.product(range(2), repeat=2):
        copies = found[:, row::2, column::2]
        source = found[:, ::2, ::2][:, : copies.shape[1], : copies.shape[2]]
        assert copies.tobytes() == source.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (7, 5), (3, 18)], ids=str)
@pytest.mark.parametrize("bias_given", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("channels", [8, 24, 320])
def test_interleaving(gpu: Emulator, size: tuple[int, int], bias_given: bool, channels: int) -> None:
    rows, columns = size
    z = _normal(3, rows + 1, columns + 1, 4 * channels)
    bias = _normal(channels, seed=1, spread=2.0) if bias_given else None
    found = _in_any_order(gpu, lambda: kernels.interleaving(gpu, z, bias))
    assert found.shape == (3, 2 * rows, 2 * columns, channels)
    within(found, exact.interleaved(z, bias))
