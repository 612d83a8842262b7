"""From a checkpoint's tensors to a data file: what a recipe makes, what a cast loses, what errors name."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from numeric_reference import conv, upsample
from safetensors.numpy import save_file

from onnxsd.errors import ResourceError, WeightsError
from onnxsd.tensors import ALIGNMENT_BYTES, DType
from onnxsd.weights import stream
from onnxsd.weights.checkpoint import LISTED, WeightSource
from onnxsd.weights.recipe import Fold, Recipe
from onnxsd.weights.stream import layout
from onnxsd.weights.transform import (
    NO_LOSS,
    CastLoss,
    all_finite,
    carry_out,
    contiguous,
    convert,
    with_doubling,
)

Array = npt.NDArray[Any]
F16, F32, BF16 = DType.FLOAT16, DType.FLOAT32, DType.BFLOAT16


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def recipe(
    shape: tuple[int, ...],
    *,
    name: str = "w",
    source: str = "w",
    dtype: DType = F32,
    permutation: tuple[int, ...] | None = None,
    scale: float = 1.0,
    made: tuple[int, ...] | None = None,
) -> Recipe:
    """A recipe for a tensor of `shape`; the initializer has the permuted shape, or `made`."""
    permuted = shape if permutation is None else tuple(shape[axis] for axis in permutation)
    return Recipe(
        name=name,
        source=source,
        source_shape=shape,
        shape=made or permuted,
        dtype=dtype,
        permutation=permutation,
        scale=scale,
    )


def stored_as(array: Array, dtype: DType) -> Array:
    """A float32 array as a safetensors file holds it, bfloat16 as its bits."""
    if dtype is BF16:
        return array.astype(ml_dtypes.bfloat16).view(np.uint16)
    return array.astype(dtype.numpy_name)


def save(path: Path, tensors: Mapping[str, Array]) -> Path:
    save_file(dict(tensors), path)
    return path


# What a recipe makes


@pytest.mark.parametrize("stored", [F32, F16, BF16])
@pytest.mark.parametrize("wanted", [F32, F16])
@pytest.mark.parametrize(
    ("shape", "permutation", "made"),
    [
        ((7,), None, None),
        ((5, 3), None, None),
        ((5, 3), (1, 0), None),
        ((300, 270), (1, 0), None),
        ((4, 3, 2, 5), (0, 2, 3, 1), None),
        ((4, 3, 1, 1), (0, 2, 3, 1), (4, 3)),
        ((6,), None, (1, 6, 1, 1)),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 0.125, 3.0])
def test_a_recipe_permutes_scales_and_casts(
    stored: DType,
    wanted: DType,
    shape: tuple[int, ...],
    permutation: tuple[int, ...] | None,
    made: tuple[int, ...] | None,
    scale: float,
) -> None:
    held = stored_as(numbers(*shape), stored)
    widened = (held.view(ml_dtypes.bfloat16) if stored is BF16 else held).astype(np.float32)
    expected = widened if permutation is None else np.transpose(widened, permutation)
    expected = (expected * np.float32(scale)).astype(wanted.numpy_name)

    asked = recipe(shape, dtype=wanted, permutation=permutation, scale=scale, made=made)
    result, loss = carry_out(asked, held, stored)

    assert result.shape == asked.shape
    assert result.dtype == np.dtype(wanted.numpy_name)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, expected.reshape(asked.shape))
    assert loss == NO_LOSS


def test_a_1x1_convolution_of_an_older_checkpoint_becomes_the_linear_layer() -> None:
    held = numbers(6, 4, 1, 1)

    result, _ = carry_out(recipe((6, 4), permutation=(1, 0)), held, F32)

    np.testing.assert_array_equal(result, held[:, :, 0, 0].T)


@pytest.mark.parametrize("shape", [(1, 1), (127, 129), (128, 128), (5, 1000), (1000, 5), (0, 4)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_transposed_matrix_is_put_in_order(shape: tuple[int, int], dtype: type[Any]) -> None:
    matrix = numbers(*shape).astype(dtype)

    ordered = contiguous(matrix.T)

    assert ordered.flags.c_contiguous
    assert ordered.dtype == dtype
    np.testing.assert_array_equal(ordered, matrix.T)


def test_what_is_in_order_already_is_not_copied() -> None:
    matrix = numbers(8, 8)

    assert contiguous(matrix) is matrix


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("value", "finite"),
    [(np.nan, False), (-np.nan, False), (np.inf, False), (-np.inf, False), (-60_000.0, True), (0.0, True)],
)
def test_one_number_that_is_not_finite_is_seen(dtype: type[Any], value: float, finite: bool) -> None:
    array = numbers(9, 7).astype(dtype)
    array[8, 3] = value

    assert all_finite(array) is finite
    assert all_finite(array.T[:5]) is (True if finite else bool(np.isfinite(array.T[:5]).all()))


def test_nothing_is_finite() -> None:
    assert all_finite(np.empty((0, 3), np.float16))


# What a cast to fp16 loses


def test_what_overflows_and_what_turns_to_zero_is_counted() -> None:
    held = np.array([1.0, 70_000.0, -1e30, 1e-9, -1e-20, 0.0, 65_504.0, 6e-8], np.float32)

    result, loss = carry_out(recipe((8,), dtype=F16), held, F32)

    assert loss == CastLoss(overflowed=2, zeroed=2)
    assert np.isinf(result[1:3]).all()
    assert list(result[3:6]) == [0.0, 0.0, 0.0]
    assert result[6] == 65_504.0


def test_a_scale_is_applied_before_the_cast() -> None:
    held = np.array([131_072.0, 1e-9], np.float32)

    result, loss = carry_out(recipe((2,), dtype=F16, scale=0.25), held, F32)

    assert loss == CastLoss(zeroed=1)
    assert result[0] == 32_768.0


def test_float32_loses_nothing() -> None:
    held = np.array([1e30, 1e-30], np.float32)

    _, loss = carry_out(recipe((2,)), held, F32)

    assert loss == NO_LOSS


def test_losses_add_up() -> None:
    assert CastLoss(overflowed=1, zeroed=2) + CastLoss(overflowed=3) == CastLoss(overflowed=4, zeroed=2)


@pytest.mark.parametrize("stored", [F32, F16, BF16])
@pytest.mark.parametrize("wanted", [F32, F16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_a_checkpoint_are_refused_by_name(
    stored: DType, wanted: DType, value: float
) -> None:
    held = numbers(4, 4)
    held[2, 1] = value

    with pytest.raises(WeightsError, match=r"^mid\.weight holds NaN or infinity") as e:
        carry_out(recipe((4, 4), source="mid.weight", dtype=wanted), stored_as(held, stored), stored)
    assert e.value.exit_code == 3


# One recipe's initializer as another would have made it


@pytest.mark.parametrize("stored", [F32, F16])
@pytest.mark.parametrize("wanted", [F32, F16])
@pytest.mark.parametrize(
    ("shape", "first", "second"),
    [
        ((4, 3), None, (1, 0)),
        ((4, 3), (1, 0), None),
        ((200, 130), (1, 0), (1, 0)),
        ((4, 3, 2, 5), None, (0, 2, 3, 1)),
        ((4, 3, 2, 5), (0, 2, 3, 1), None),
        ((4, 3, 2, 5), (0, 2, 3, 1), (3, 1, 0, 2)),
    ],
)
def test_an_initializer_is_converted_as_if_it_were_made_anew(
    stored: DType,
    wanted: DType,
    shape: tuple[int, ...],
    first: tuple[int, ...] | None,
    second: tuple[int, ...] | None,
) -> None:
    held = stored_as(numbers(*shape), F16)  # so that fp16 on the way loses nothing
    there = recipe(shape, dtype=stored, permutation=first, scale=2.0)
    here = recipe(shape, dtype=wanted, permutation=second, scale=2.0)

    converted = convert(carry_out(there, held, F16)[0], there, here)

    np.testing.assert_array_equal(converted, carry_out(here, held, F16)[0])
    assert converted.flags.c_contiguous


def test_axes_of_size_1_may_differ() -> None:
    there = recipe((6,), made=(1, 6, 1, 1))
    here = recipe((6,), made=(6,))

    np.testing.assert_array_equal(convert(numbers(1, 6, 1, 1), there, here), numbers(6))


@pytest.mark.parametrize(
    "other", [recipe((4, 3), source="v"), recipe((4, 3), scale=2.0), recipe((3, 4))], ids=lambda r: r.source
)
def test_what_was_made_of_something_else_is_not_converted(other: Recipe) -> None:
    with pytest.raises(WeightsError, match="w cannot be made from"):
        convert(numbers(4, 3), other, recipe((4, 3)))


def phases(out: int, channels: int, *, dtype: DType = F16, scale: float = 1.0) -> Recipe:
    """A 3×3 convolution's weight with a doubling folded in."""
    return Recipe(
        name="w.phases", source="w", source_shape=(out, channels, 3, 3), permutation=(0, 2, 3, 1),
        shape=(4 * out, 2, 2, channels), dtype=dtype, scale=scale, fold=Fold.DOUBLING,
    )  # fmt: skip


def test_a_doubling_is_folded_into_a_convolutions_weight() -> None:
    """In whole numbers, so that every sum is exact."""
    generator = np.random.default_rng(3)
    weight = generator.integers(-8, 9, (5, 4, 3, 3)).astype(np.float32)
    small = generator.integers(-8, 9, (2, 4, 3, 6)).astype(np.float32)
    folded = with_doubling(weight.transpose(0, 2, 3, 1))

    doubled = conv(upsample(small, 6, 12), weight, np.zeros(5))
    of_phases = conv(small, folded.transpose(0, 3, 1, 2), np.zeros(20))
    assert of_phases.shape == (2, 20, 4, 7)
    for phase, (p, q) in enumerate(itertools.product(range(2), repeat=2)):
        one = of_phases[:, 5 * phase : 5 * (phase + 1), p : p + 3, q : q + 6]
        np.testing.assert_array_equal(one, doubled[:, :, p::2, q::2])


@pytest.mark.parametrize("held", [F16, F32, BF16])
@pytest.mark.parametrize("wanted", [F16, F32])
def test_a_folded_weight_is_made_of_what_a_folder_holds_of_it(held: DType, wanted: DType) -> None:
    recipe = phases(5, 4, dtype=wanted, scale=0.7)
    tensor = stored_as(numbers(5, 4, 3, 3), held)
    there, loss = carry_out(recipe.stored, tensor, held)
    folded = convert(there, recipe.stored, recipe)

    assert loss == NO_LOSS
    assert recipe.stored.name == recipe.stored.source == "w"
    assert recipe.stored.stored == recipe.stored
    assert (folded.shape, folded.dtype.name) == (recipe.shape, wanted.numpy_name)
    # Summed up in float32, whatever is held, and rounded once.
    sums = with_doubling(there.astype(np.float32))
    np.testing.assert_array_equal(folded, sums.astype(wanted.numpy_name))
    np.testing.assert_allclose(sums, with_doubling(there.astype(np.float64)), atol=2.0**-21)
    np.testing.assert_array_equal(carry_out(recipe, tensor, held)[0], folded)


def test_a_fold_of_weights_that_lie_in_another_order_is_the_same() -> None:
    recipe = phases(5, 4)
    plain = dataclasses.replace(recipe.stored, permutation=None, shape=recipe.source_shape)
    tensor = numbers(5, 4, 3, 3).astype(np.float16)

    np.testing.assert_array_equal(convert(tensor, plain, recipe), carry_out(recipe, tensor, F16)[0])


def test_sums_of_weights_that_overflow_are_refused() -> None:
    large = np.full((5, 4, 3, 3), 40000, np.float16)

    with pytest.raises(WeightsError, match="w: sums of its weights do not fit into float16"):
        carry_out(phases(5, 4), large, F16)
    assert carry_out(phases(5, 4, dtype=F32), large, F16)[0].max() == 160000


def test_nothing_is_made_of_what_is_folded() -> None:
    recipe = phases(5, 4)

    with pytest.raises(WeightsError, match="w cannot be made from"):
        convert(numbers(*recipe.shape), recipe, recipe.stored)


def test_what_is_folded_is_not_written(tmp_path: Path) -> None:
    with (
        WeightSource([save(tmp_path / "w.safetensors", {"w": numbers(5, 4, 3, 3)})]) as source,
        pytest.raises(WeightsError, match=r"written as they are, .* into w\.phases"),
    ):
        stream.write(tmp_path / "data", [phases(5, 4)], source)
    assert not (tmp_path / "data").exists()


# A component's tensors, over its files


def test_tensors_of_all_shards_are_read_by_their_present_names(tmp_path: Path) -> None:
    first = save(tmp_path / "a.safetensors", {"old.w": numbers(2, 3), "other.w": numbers(1)})
    second = save(tmp_path / "b.safetensors", {"old.b": numbers(3).astype(np.float16)})

    source = WeightSource(
        [first, second], rename=lambda n: n.replace("old", "new"), owns=lambda n: n.startswith("new.")
    )
    with source:
        assert sorted(source) == ["new.b", "new.w"]
        assert source.entry("new.b").dtype is F16
        with source.reading("new.w") as array:
            np.testing.assert_array_equal(array, numbers(2, 3))
            del array
        source.check([recipe((2, 3), source="new.w"), recipe((3,), source="new.b")])


def test_a_bfloat16_tensor_comes_as_its_bits(tmp_path: Path) -> None:
    exact = np.array([1.0, -2.5, 3.0e38], np.float32).astype(ml_dtypes.bfloat16)
    path = tmp_path / "w.safetensors"
    header = b'{"w":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + exact.tobytes())

    with WeightSource([path]) as source, source.reading("w") as array:
        result, _ = carry_out(recipe((3,)), array, source.entry("w").dtype)
        del array

    np.testing.assert_array_equal(result, exact.astype(np.float32))


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        ([recipe((2, 4))], "weights of another shape: w: expected [2, 4], found [2, 3]"),
        ([recipe((2, 3)), recipe((5,), source="b")], "missing weights: b [5]"),
        ([recipe((2, 3), source="v")], "missing weights: v [2, 3]"),
        ([], "unexpected weights: w [2, 3]"),
    ],
)
def test_weights_that_do_not_fit_are_named(recipes: list[Recipe], said: str, tmp_path: Path) -> None:
    path = save(tmp_path / "model.safetensors", {"w": numbers(2, 3)})

    with WeightSource([path]) as source, pytest.raises(WeightsError, match=re.escape(said)) as e:
        source.check(recipes)
    assert str(path) in e.value.message
    assert e.value.hint is not None
    assert e.value.exit_code == 3


def test_a_long_list_of_faults_is_counted(tmp_path: Path) -> None:
    path = save(tmp_path / "model.safetensors", {"w": numbers(2, 3)})
    wanted = [recipe((2, 3)), *(recipe((1,), source=f"m{n}") for n in range(LISTED + 3))]

    with WeightSource([path]) as source, pytest.raises(WeightsError, match="; and 3 more"):
        source.check(wanted)


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_a_truncated_file_is_named_with_its_size(keep: int, tmp_path: Path) -> None:
    path = save(tmp_path / "model.safetensors", {"w": numbers(16, 16)})
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])

    with pytest.raises(WeightsError, match="is truncated or not a safetensors file") as e:
        WeightSource([path])
    assert str(path) in e.value.message
    assert f"{path.stat().st_size:,} bytes" in e.value.message


def test_a_type_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "model.safetensors", {"w": np.zeros(4, np.uint8)})

    with pytest.raises(WeightsError, match="w is of type U8"):
        WeightSource([path])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot read"):
        WeightSource([tmp_path / "gone.safetensors"])


def test_an_error_is_not_lost_while_a_view_of_the_file_lives(tmp_path: Path) -> None:
    path = save(tmp_path / "model.safetensors", {"w": np.full(3, np.nan, np.float32)})

    with pytest.raises(WeightsError, match="w holds NaN"), WeightSource([path]) as source:
        stream.write(tmp_path / "data", [recipe((3,))], source)


# The data file


def test_each_initializer_starts_at_a_row_and_lies_where_the_layout_says(tmp_path: Path) -> None:
    held = {"a": numbers(3), "b": numbers(40, 5), "c": numbers(2, 2, 1, 1)}
    wanted = [
        recipe((3,), name="first", source="a", dtype=F16),
        recipe((40, 5), name="second", source="b", permutation=(1, 0)),
        recipe((2, 2, 1, 1), name="third", source="c", dtype=F16),
        recipe((3,), name="again", source="a"),
    ]
    told: list[int] = []

    with WeightSource([save(tmp_path / "w.safetensors", held)]) as source:
        written = stream.write(tmp_path / "data", wanted, source, progress=told.append)
    content = (tmp_path / "data").read_bytes()

    assert written.offsets == layout(wanted)[0]
    assert all(offset % ALIGNMENT_BYTES == 0 for offset in written.offsets.values())
    assert written.size_bytes == layout(wanted)[1] == len(content)
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    assert told == [each.size_bytes for each in wanted]
    for each in wanted:
        found = np.frombuffer(content, each.dtype.numpy_name, each.elements, written.offsets[each.name])
        np.testing.assert_array_equal(found.reshape(each.shape), carry_out(each, held[each.source], F32)[0])


def test_losses_are_told_by_initializer(tmp_path: Path) -> None:
    held = {"good": numbers(4), "bad": np.array([1e9, 1e-9, 1.0], np.float32)}
    wanted = [
        recipe((4,), name="good", source="good", dtype=F16),
        recipe((3,), name="bad", source="bad", dtype=F16),
    ]

    with WeightSource([save(tmp_path / "w.safetensors", held)]) as source:
        written = stream.write(tmp_path / "data", wanted, source)

    assert written.losses == {"bad": CastLoss(overflowed=1, zeroed=1)}
    assert written.loss == CastLoss(overflowed=1, zeroed=1)


def test_a_data_file_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"mine")

    with (
        WeightSource([save(tmp_path / "w.safetensors", {"w": numbers(3)})]) as source,
        pytest.raises(FileExistsError),
    ):
        stream.write(tmp_path / "data", [recipe((3,))], source)
    assert (tmp_path / "data").read_bytes() == b"mine"
