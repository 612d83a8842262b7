"""Symbolic sizes: equal formulas are equal, and every formula gives the number that it stands for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxsd.tensors import Dim, Size, ceil_div, evaluate, product, shape_text

H, W = Size.symbol("h"), Size.symbol("w")
VALUES = st.fixed_dictionaries({"h": st.integers(1, 200), "w": st.integers(1, 200)})
Formula = tuple[Dim, Callable[[int, int], int]]


def _sum(left: Formula, right: Formula) -> Formula:
    return left[0] + right[0], lambda h, w: left[1](h, w) + right[1](h, w)


def _times(left: Formula, right: Formula) -> Formula:
    return left[0] * right[0], lambda h, w: left[1](h, w) * right[1](h, w)


def _ceiling(inner: Formula, divisor: int) -> Formula:
    return ceil_div(inner[0], divisor), lambda h, w: -(-inner[1](h, w) // divisor)


def _constant(number: int) -> Formula:
    return number, lambda h, w: number


SYMBOLS: tuple[Formula, ...] = ((H, lambda h, w: h), (W, lambda h, w: w))
FORMULAS = st.recursive(
    st.sampled_from(SYMBOLS) | st.integers(-9, 9).map(_constant),
    lambda inner: (
        st.builds(_sum, inner, inner)
        | st.builds(_times, inner, inner)
        | st.builds(_ceiling, inner, st.integers(1, 8))
    ),
    max_leaves=8,
)
# One step of a chain as models make them: add a constant, then divide upwards or multiply.
STEPS = st.lists(st.tuples(st.integers(-4, 4), st.integers(1, 4), st.booleans()), max_size=4)


def _number(size: Dim, values: dict[str, int]) -> int:
    return evaluate((size,), values)[0]


@given(FORMULAS, VALUES)
def test_a_formula_gives_the_number_it_stands_for(formula: Formula, values: dict[str, int]) -> None:
    size, brute_force = formula

    assert _number(size, values) == brute_force(values["h"], values["w"])


@given(FORMULAS, VALUES)
def test_the_text_of_a_size_is_its_formula(formula: Formula, values: dict[str, int]) -> None:
    size, brute_force = formula

    assert eval(str(size), {}, dict(values)) == brute_force(values["h"], values["w"])


@given(FORMULAS, FORMULAS, FORMULAS)
def test_the_order_of_terms_and_factors_does_not_matter(a: Formula, b: Formula, c: Formula) -> None:
    (left, _), (middle, _), (right, _) = a, b, c

    assert left + middle == middle + left
    assert (left + middle) + right == left + (middle + right)
    assert left * middle == middle * left
    assert (left * middle) * right == left * (middle * right)
    assert left * (middle + right) == left * middle + left * right


def _chain(steps: list[tuple[int, int, bool]]) -> Dim:
    size: Dim = H
    for added, factor, divides in steps:
        size = ceil_div(size + added, factor) if divides else (size + added) * factor
    return size


@given(STEPS, st.integers(1, 8), st.integers(-9, 9))
def test_multiples_of_the_divisor_come_out_of_the_ceiling(
    steps: list[tuple[int, int, bool]], divisor: int, multiple: int
) -> None:
    size, whole = _chain(steps), W * multiple + multiple

    assert ceil_div(size + whole * divisor, divisor) == ceil_div(size, divisor) + whole


@given(STEPS)
def test_dividing_twice_is_dividing_once_by_the_product(steps: list[tuple[int, int, bool]]) -> None:
    size = _chain(steps)

    assert ceil_div(ceil_div(size, 2), 3) == ceil_div(size, 6)
    assert ceil_div(size * 2, 4) == ceil_div(size, 2)
    assert ceil_div(size * 5, 5) == size


@given(STEPS, STEPS)
def test_sizes_that_are_equal_as_formulas_are_equal_as_numbers(
    left: list[tuple[int, int, bool]], right: list[tuple[int, int, bool]]
) -> None:
    a, b = _chain(left), _chain(right)

    if a == b:
        assert all(_number(a, {"h": h}) == _number(b, {"h": h}) for h in range(1, 200))


def _strided(size: Dim, padding: int, kernel: int = 3, stride: int = 2) -> Dim:
    return ceil_div(size + (padding - kernel + 1), stride)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_strided(_strided(H, 2), 2), ceil_div(H, 4)),
        (_strided(_strided(_strided(H * 8, 1), 1), 1), H),
        (ceil_div(H + 3, 2), ceil_div(H + 1, 2) + 1),
        (ceil_div(H * 2 + W, 2), ceil_div(W, 2) + H),
        (ceil_div(ceil_div(H * 3, 2), 3), ceil_div(H, 2)),
        (ceil_div(ceil_div(H, 2) + 3, 2), ceil_div(H + 2, 4) + 1),
        (ceil_div(H * 6 + 3, 4), ceil_div(H * 3 + 2, 2)),
        (ceil_div(H * 2, 2) * W, H * W),
        (H + W * 0, H),
        (H + -1 * H, 0),
    ],
)
def test_the_ways_a_model_takes_to_one_size_meet(one: Dim, other: Dim) -> None:
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    ("one", "other"), [(ceil_div(H, 2), ceil_div(H + 1, 2)), (ceil_div(H, 2) * 2, H), (H * W, H + W)]
)
def test_different_sizes_are_different(one: Dim, other: Dim) -> None:
    assert one != other


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (H, "h"),
        (ceil_div(H, 2), "(h + 1) // 2"),
        (ceil_div(H + -1, 2), "h // 2"),
        (ceil_div(H, 2) * ceil_div(W, 2), "((h + 1) // 2) * ((w + 1) // 2)"),
        (H * W * 2 + 1, "h * w * 2 + 1"),
    ],
)
def test_text(size: Dim, text: str) -> None:
    assert str(size) == text


def test_a_shape_of_numbers_and_symbols() -> None:
    shape = (2, H, ceil_div(W, 8))

    assert shape_text(shape) == "[2, h, (w + 7) // 8]"
    assert evaluate(shape, {"h": 5, "w": 9}) == (2, 5, 2)
    assert product(shape) == ceil_div(W, 8) * H * 2
    assert product(()) == 1
