"""What the kernels mean, in float64, and how far from it they may be.

Images here are (images, pixels, channels). What is normalized or moved is s, which is rounded once from the
exact sum `x + skip + row + bias`; what follows is exact of that s.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[Any]

LARGEST = 65504.0
# Half way to the next power of two, from which on a number is rounded to infinity.
INFINITE = 65520.0
# float32 keeps 24 bits; this is room for eight roundings of one sum's terms in a row.
FLOAT32 = 2.0**-21


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """Numbers before their rounding to float16, and the magnitude of the terms that make each of them.

    Kernels compute in float32. Where the terms cancel, what they were rounded by is left, and may be more
    than a float16 keeps of so small a difference.
    """

    numbers: Array
    terms: Array | float = 0.0


def spacing(numbers: Array) -> Array:
    """The distance to the next float16 number, 2^-24 among the subnormal ones; beyond the largest too."""
    _, exponent = np.frexp(numbers)
    unit: Array = np.ldexp(1.0, np.maximum(exponent - 11, -24))
    return unit


def within(found: Array, exact: Exact) -> None:
    """Fail where a float16 number is further from the exact one than rounding and one unit more.

    The unit is that of float16's last place at the exact number. To it comes what float32 makes of the terms.
    """
    numbers = np.broadcast_to(exact.numbers, found.shape)
    unit = spacing(numbers)
    rounding = np.abs(np.rint(numbers / unit) * unit - numbers)
    allowed = rounding + unit + FLOAT32 * exact.terms
    wide = found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        good = np.abs(wide - numbers) <= allowed
    good |= np.isinf(wide) & (np.sign(wide) == np.sign(numbers)) & (np.abs(numbers) + allowed >= INFINITE)
    if not good.all():
        raise AssertionError(_worst(wide, numbers, unit, good))


def _worst(found: Array, exact: Array, unit: Array, good: Array) -> str:
    with np.errstate(invalid="ignore"):
        off = np.where(good, 0.0, np.nan_to_num(np.abs(found - exact) / unit, nan=np.inf))
    at = np.unravel_index(off.argmax(), off.shape)
    place = ", ".join(map(str, at))
    return (
        f"{np.count_nonzero(~good)} of {good.size} numbers are too far off, most at ({place}): "
        f"{found[at]!r}, exactly {exact[at]!r}, {off[at]:.1f} units apart"
    )


def added(*addends: Array | None) -> Exact:
    """The sum of what is given; each is broadcast to the first."""
    given = [np.asarray(addend, np.float64) for addend in addends if addend is not None]
    numbers = sum(given, start=np.zeros_like(given[0]))
    # One addition in float32 is as good as exact: it is off by 2^-24 of its own result.
    magnitude = sum(map(np.abs, given), start=np.zeros_like(given[0])) if len(given) > 2 else 0.0
    return Exact(numbers=numbers, terms=magnitude / 8)


def group_norm(
    s: Array, gamma: Array, beta: Array, *, groups: int, epsilon: float, silu: bool = False
) -> Exact:
    """Each group of channels of each image to mean 0 and variance 1, then `· gamma + beta`, then SiLU."""
    grouped = s.astype(np.float64).reshape(*s.shape[:2], groups, -1)
    return _normalized(grouped, (1, 3), s.shape, gamma, beta, epsilon=epsilon, silu=silu)


def layer_norm(s: Array, gamma: Array, beta: Array, *, epsilon: float) -> Exact:
    """Each row to mean 0 and variance 1, then `· gamma + beta`."""
    return _normalized(s.astype(np.float64), (-1,), s.shape, gamma, beta, epsilon=epsilon, silu=False)


def _normalized(
    numbers: Array,
    axes: tuple[int, ...],
    shape: tuple[int, ...],
    gamma: Array,
    beta: Array,
    *,
    epsilon: float,
    silu: bool,
) -> Exact:
    """The terms: a number's distance from the mean and how wide they all spread, both scaled, and beta."""
    centred = numbers - numbers.mean(axes, keepdims=True)
    variance = (centred**2).mean(axes, keepdims=True)
    normed = (centred / np.sqrt(variance + epsilon)).reshape(shape)
    wide, shift = gamma.astype(np.float64), beta.astype(np.float64)
    result = normed * wide + shift
    terms = (np.abs(normed) + 1.0) * np.abs(wide) + np.abs(shift)
    return Exact(numbers=result * special.expit(result) if silu else result, terms=terms)


def geglu(x: Array, bias: Array) -> Exact:
    """The left half of each row times the gelu of its right half."""
    left, right = np.split(x.astype(np.float64) + bias.astype(np.float64), 2, axis=-1)
    return Exact(numbers=left * right * 0.5 * special.erfc(-right / np.sqrt(2.0)))


def interleaved(z: Array, bias: Array | None) -> Exact:
    """Four phases of z (images, rows + 1, columns + 1, 4·channels) put together, plus bias."""
    images, rows, columns, channels = (z.shape[0], z.shape[1] - 1, z.shape[2] - 1, z.shape[3] // 4)
    large = np.empty((images, 2 * rows, 2 * columns, channels), z.dtype)
    for phase, (p, q) in enumerate(itertools.product(range(2), repeat=2)):
        own = slice(phase * channels, (phase + 1) * channels)
        large[:, p::2, q::2] = z[:, p : p + rows, q : q + columns, own]
    return added(large, bias)


def softmax(x: Array) -> Exact:
    """exp of each number over the sum of the row's; their relative error counts where float16 is coarse."""
    powers = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True).astype(np.float64))
    result = powers / powers.sum(-1, keepdims=True)
    return Exact(numbers=result, terms=result)
