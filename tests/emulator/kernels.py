"""The kernels as functions of arrays, launched over the grids that the native library launches them over."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from math import lcm

import numpy as np

from emulator.buffers import Array, Buffer, given, wanted
from emulator.launching import Emulator

WIDTH = 8  # float16 numbers that a thread takes at once
SOFTMAX_THREADS = 512
THREADS = 128
GEGLU_LINES, LINES = 2, 4  # lines that a thread computes


def _maybe(array: Array | None) -> Buffer | None:
    return None if array is None else given(array)


def _blocks(lines: int, vectors: int, lines_per_thread: int) -> int:
    return -(-(-(-lines // lines_per_thread) * vectors) // THREADS)


def slabs(channels: int, groups: int) -> tuple[int, ...]:
    """How many channels wide an image's slabs may be: whole vectors, whole groups, all of one width."""
    least = lcm(WIDTH, channels // groups)
    return tuple(slab for slab in range(least, channels + 1, least) if channels % slab == 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addends:
    """What is added to an image or to rows: like it; (images, channels); (channels)."""

    skip: Array | None = None
    row: Array | None = None
    bias: Array | None = None

    def given(self) -> tuple[Buffer | None, Buffer | None, Buffer | None]:
        """As kernels take them."""
        return _maybe(self.skip), _maybe(self.row), _maybe(self.bias)


NONE = Addends()


class Shape(ctypes.Structure):
    """The sizes of a group norm, as group_norm.cu has them."""

    _fields_ = tuple(
        (name, ctypes.c_int)
        for name in (
            "pixels", "vectors", "groups", "parts", "pixels_per_part", "slab_vectors", "slab_groups",
            "group_channels", "rows",
        )
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Normed:
    """What a norm gives: `y`, and the sum that was normalized, where it was asked for."""

    y: Array
    sum: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNorm:
    """How a group norm is launched.

    Attributes:
        parts: into how many parts the pixels of an image are divided.
        slab: how many channels a block takes; None is as few as it can be.
    """

    groups: int
    epsilon: float = 1e-5
    silu: bool = False
    parts: int = 1
    slab: int | None = None

    def run(
        self,
        emulator: Emulator,
        x: Array,
        gamma: Array,
        beta: Array,
        addends: Addends = NONE,
        *,
        wants_sum: bool = False,
    ) -> Normed:
        """Both kernels; x (images, pixels, channels)."""
        images, pixels, channels = x.shape
        # All its kernels have blocks of one size, as many threads as they may have.
        threads = emulator.largest_block("group_norm_apply_plain")
        slab, each = self.slab or slabs(channels, self.groups)[0], channels // self.groups
        shape = Shape(
            pixels=pixels, vectors=channels // WIDTH, groups=self.groups, parts=self.parts,
            pixels_per_part=-(-pixels // self.parts), slab_vectors=slab // WIDTH, slab_groups=slab // each,
            group_channels=each, rows=threads // (slab // WIDTH),
        )  # fmt: skip
        grid = self.parts, channels // slab, images
        total = wanted(x.shape) if wants_sum else None
        partials, y = wanted((images, self.groups, self.parts, 4), np.float32), wanted(x.shape)
        summands: tuple[Buffer | None, ...] = given(x), *addends.given()
        few = addends.row is not None or addends.bias is not None or wants_sum
        kind = "skip" if addends.skip is not None else "channels" if few else "plain"
        emulator.launch(f"group_norm_statistics_{kind}", grid, threads, *summands, total, partials, shape)
        # What was summed and stored is read in place of its summands.
        if total is not None:
            kind, summands = "plain", (given(total.array.copy()), None, None, None)
        emulator.launch(
            f"group_norm_apply_{kind}", grid, threads,
            *summands, given(gamma), given(beta), partials, y, shape, self.epsilon, int(self.silu),
        )  # fmt: skip
        return Normed(y=y.array, sum=None if total is None else total.array)


def layer_norm(
    emulator: Emulator,
    x: Array,
    gamma: Array,
    beta: Array,
    addends: Addends = NONE,
    *,
    epsilon: float = 1e-5,
    wants_sum: bool = False,
) -> Normed:
    """x (rows, width)."""
    rows, width = x.shape
    skip, _, bias = addends.given()
    y, total = wanted(x.shape), wanted(x.shape) if wants_sum else None
    vectors, inverse_width = width // WIDTH, float(np.float32(1 / width))
    emulator.launch(
        "layer_norm", (rows,), -(-vectors // 32) * 32,
        given(x), skip, bias, given(gamma), given(beta), y, total, vectors, inverse_width, epsilon,
    )  # fmt: skip
    return Normed(y=y.array, sum=None if total is None else total.array)


def softmax(emulator: Emulator, x: Array) -> Array:
    """x (rows, width) → (rows, width)."""
    rows, vectors = x.shape[0], x.shape[1] // WIDTH
    y = wanted(x.shape)
    each = next(count for count in (1, 2, 4, 8) if count * SOFTMAX_THREADS >= vectors)
    emulator.launch(f"softmax_{each}", (rows,), SOFTMAX_THREADS, given(x), y, vectors)
    return y.array


def geglu(emulator: Emulator, x: Array, bias: Array) -> Array:
    """x (rows, 2·width) → (rows, width)."""
    rows, vectors = x.shape[0], x.shape[1] // 2 // WIDTH
    y = wanted((rows, x.shape[1] // 2))
    blocks = _blocks(rows, vectors, GEGLU_LINES)
    emulator.launch("geglu", (blocks,), THREADS, given(x), given(bias), y, rows, vectors)
    return y.array


def addition(emulator: Emulator, x: Array, addends: Addends) -> Array:
    """x (images, lines, width)."""
    images, lines, width = x.shape
    y, vectors = wanted(x.shape), width // WIDTH
    emulator.launch(
        "addition", (_blocks(images * lines, vectors, LINES),), THREADS,
        given(x), *addends.given(), y, images * lines, vectors, lines,
    )  # fmt: skip
    return y.array


def concatenation(emulator: Emulator, x: Array, other: Array, addends: Addends) -> Array:
    """x (lines, width) and other (lines, others) → (lines, width + others)."""
    lines, width = x.shape
    vectors, others = width // WIDTH, other.shape[1] // WIDTH
    y = wanted((lines, width + other.shape[1]))
    skip, _, bias = addends.given()
    emulator.launch(
        "concatenation", (_blocks(lines, vectors + others, LINES),), THREADS,
        given(x), skip, bias, given(other), y, lines, vectors, others,
    )  # fmt: skip
    return y.array


def upsampling(emulator: Emulator, x: Array, size: tuple[int, int], addends: Addends) -> Array:
    """x (images, ⌈height/2⌉, ⌈width/2⌉, channels) → (images, height, width, channels)."""
    images, rows, columns, channels = x.shape
    y, vectors = wanted((images, *size, channels)), channels // WIDTH
    skip, _, bias = addends.given()
    blocks = -(-images * rows * columns * vectors // THREADS)
    emulator.launch("upsampling", (blocks,), THREADS, given(x), skip, bias, y, images, *size, vectors)
    return y.array


def interleaving(emulator: Emulator, z: Array, bias: Array | None) -> Array:
    """z (images, rows + 1, columns + 1, 4·channels) → (images, 2·rows, 2·columns, channels)."""
    images, rows, columns, channels = (z.shape[0], z.shape[1] - 1, z.shape[2] - 1, z.shape[3] // 4)
    y, vectors = wanted((images, 2 * rows, 2 * columns, channels)), channels // WIDTH
    grid = -(-columns * vectors // THREADS), rows, images
    emulator.launch("interleaving", grid, THREADS, given(z), _maybe(bias), y, columns, vectors)
    return y.array
