"""The vocabulary that models speak: what each op means and what it asks of its operands.

A model definition calls these methods and never learns which target lowers them. A spatial tensor's shape is
always written (batch, channels, height, width) here, whatever layout the target keeps it in. Every op checks
its operands' shapes before it lowers them, and the lowering's result after.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from onnxsd.errors import ShapeError
from onnxsd.ops.graph import AuthoredGraph, Graph
from onnxsd.ops.operators import TO_IR, Value, refuse
from onnxsd.ops.terms import SAME, Activation, Lowering, Padding, Refused, Scope, Source, Tensor
from onnxsd.tensors import Dim, DType, Shape, ceil_div, product, shape_text
from onnxsd.weights.recipe import Fold, Recipe


class Ops:
    """One graph being authored in one target; the methods are the vocabulary.

    Each op has an ordered list of lowerings in `lowerings`, and the first that does not refuse is taken.
    """

    target: ClassVar[str]
    lowerings: ClassVar[Mapping[str, tuple[Lowering, ...]]]

    def __init__(self, name: str, dtype: DType) -> None:
        self.graph = Graph(name)
        self.dtype = dtype
        self._sources: dict[Tensor, Source] = {}
        self._chosen: defaultdict[str, Counter[str]] = defaultdict(Counter)

    # What a target defines besides its lowerings.

    def physical(self, shape: Shape, *, spatial: bool) -> Shape:
        """A logical shape as this target lays it out."""
        raise NotImplementedError

    def from_nchw(self, value: Value) -> Value:
        """A graph input in NCHW, brought to the target's layout."""
        raise NotImplementedError

    def to_nchw(self, value: Value) -> Value:
        """A value in the target's layout, brought to NCHW for a graph output."""
        raise NotImplementedError

    def to_nhwc(self, value: Value) -> Value:
        """A value in the target's layout, brought to NHWC."""
        raise NotImplementedError

    # Inputs and outputs.

    def input(self, name: str, shape: Shape, *, dtype: DType | None = None, spatial: bool = False) -> Tensor:
        """A graph input; a spatial one is (batch, channels, height, width) in the file, in every target."""
        value = self.graph.input(name, dtype or self.dtype, shape)
        return self._tensor(shape, value.dtype, self.from_nchw(value) if spatial else value, spatial=spatial)

    def tensor(self, value: Value) -> Tensor:
        """What was emitted outside the vocabulary, as one of its tensors."""
        return self._tensor(value.shape, value.dtype, value)

    def spatial(self, value: Value) -> Tensor:
        """What was emitted outside the vocabulary in (batch, channels, height, width), as a feature map."""
        if len(value.shape) != 4:
            raise refuse("a feature map has four axes", value)
        return self._tensor(value.shape, value.dtype, self.from_nchw(value), spatial=True)

    def nhwc(self, x: Tensor) -> Value:
        """A feature map's value in (batch, height, width, channels)."""
        self._spatial(x, Scope("nhwc"))
        return self.to_nhwc(self.value(x))

    def nchw(self, x: Tensor) -> Value:
        """A feature map's value in (batch, channels, height, width)."""
        self._spatial(x, Scope("nchw"))
        return self.to_nchw(self.value(x))

    def output(self, name: str, x: Tensor) -> None:
        """Make `x` a graph output."""
        value = self.value(x)
        self.graph.output(name, self.to_nchw(value) if x.spatial else value)

    def finish(self) -> AuthoredGraph:
        """The finished graph, with the count of each lowering that was chosen."""
        return self.graph.finish({op: dict(counts) for op, counts in self._chosen.items()})

    # Layers with weights.

    def conv(
        self,
        x: Tensor,
        at: Scope,
        *,
        out: int,
        kernel: int = 3,
        stride: int = 1,
        padding: Padding = SAME,
        weight_scale: float = 1.0,
        bias_scale: float = 1.0,
    ) -> Tensor:
        """2-D convolution with bias; `x` (B, C, H, W) → (B, out, H', W')."""
        batch, channels, height, width = self._spatial(x, at)
        grown_h, grown_w = (
            size + (sum(padding[i::2]) - kernel + 1) for i, size in enumerate((height, width))
        )
        shape = (batch, out, ceil_div(grown_h, stride), ceil_div(grown_w, stride))
        return self._lower(
            "conv", at, shape, True, x,
            channels=channels, out=out, kernel=kernel, stride=stride, padding=padding,
            weight_scale=weight_scale, bias_scale=bias_scale,
        )  # fmt: skip

    def linear(
        self,
        x: Tensor,
        at: Scope,
        *,
        out: int,
        bias: bool = True,
        weight_scale: float = 1.0,
        bias_scale: float = 1.0,
    ) -> Tensor:
        """x·Wᵀ + b over the last axis; `x` (…, K) → (…, out)."""
        *rows, inner = self._plain(x, at)
        return self._lower(
            "linear", at, (*rows, out), False, x,
            inner=inner, out=out, bias=bias, weight_scale=weight_scale, bias_scale=bias_scale,
        )  # fmt: skip

    def geglu(self, x: Tensor, at: Scope, *, out: int) -> Tensor:
        """Linear to twice `out`, then its left half times the gelu of its right half (Shazeer 2020)."""
        *rows, inner = self._plain(x, at)
        return self._lower("geglu", at, (*rows, out), False, x, inner=inner, out=out)

    def group_norm(self, x: Tensor, at: Scope, *, groups: int, eps: float, silu: bool = False) -> Tensor:
        """Group normalization over (C/groups, H, W), optionally followed by SiLU."""
        _, channels, _, _ = self._spatial(x, at)
        if not isinstance(channels, int) or channels % groups:
            raise ShapeError(f"{at}: {channels} channels do not divide into {groups} groups")
        return self._lower(
            "group_norm", at, x.shape, True, x, channels=channels, groups=groups, eps=eps, silu=silu
        )

    def layer_norm(self, x: Tensor, at: Scope, *, eps: float) -> Tensor:
        """Layer normalization over the last axis."""
        self._plain(x, at)
        return self._lower("layer_norm", at, x.shape, False, x, width=x.shape[-1], eps=eps)

    def embedding(self, ids: Tensor, at: Scope, *, rows: int, width: int) -> Tensor:
        """Rows of a table by index; int64 `ids` (…) → (…, width)."""
        return self._lower("embedding", at, (*ids.shape, width), False, ids, rows=rows, width=width)

    def positions(self, length: Dim, at: Scope, *, rows: int, width: int) -> Tensor:
        """The first `length` rows of a table: (1, length, width)."""
        if isinstance(length, int) and length > rows:
            raise ShapeError(f"{at}: {length} positions are asked for, the model has {rows}")
        return self._lower("positions", at, (1, length, width), False, length=length, rows=rows, width=width)

    # Layers without weights.

    def attention(
        self, query: Tensor, key: Tensor, value: Tensor, at: Scope, *, heads: int, upcast: bool = False,
        causal_up_to: int | None = None,
    ) -> Tensor:  # fmt: skip
        """Scaled dot-product attention; query (B, S, C), key and value (B, T, C) → (B, S, C).

        `upcast` asks for scores and softmax in float32. `causal_up_to` hides later positions (S = T) and is
        the longest sequence that the model takes.
        """
        batch, length, width = self._plain(query, at)
        if key.shape != value.shape or key.shape[0] != batch or key.shape[2] != width:
            raise ShapeError(f"{at}: query {query}, key {key} and value {value} do not fit")
        if not isinstance(width, int) or width % heads:
            raise ShapeError(f"{at}: width {width} does not divide into {heads} heads")
        if causal_up_to is not None and key.shape[1] != length:
            raise ShapeError(f"{at}: causal attention needs as many queries as keys: {query}, {key}")
        return self._lower(
            "attention", at, query.shape, False, query, key, value,
            heads=heads, upcast=upcast, causal_up_to=causal_up_to,
        )  # fmt: skip

    def activation(self, x: Tensor, kind: Activation) -> Tensor:
        """An activation function, elementwise."""
        return self._lower("activation", Scope(kind.value), x.shape, x.spatial, x, kind=kind)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """The sum of two tensors of one shape; `residual` is the stream that `x` is added to."""
        if x.shape != residual.shape or x.spatial is not residual.spatial:
            raise ShapeError(f"cannot add {x} and {residual}")
        return self._lower("add", Scope("add"), x.shape, x.spatial, x, residual)

    def add_channels(self, x: Tensor, rows: Tensor) -> Tensor:
        """`x` (B, C, H, W) plus one number a channel, `rows` (B, C)."""
        if not x.spatial or rows.shape != x.shape[:2]:
            raise ShapeError(f"cannot add channels {rows} to {x}")
        return self._lower("add_channels", Scope("add_channels"), x.shape, True, x, rows)

    def add_positions(self, x: Tensor, positions: Tensor) -> Tensor:
        """`x` (B, S, C) plus `positions` (1, S, C)."""
        if positions.shape != (1, *x.shape[1:]):
            raise ShapeError(f"cannot add positions {positions} to {x}")
        return self._lower("add_positions", Scope("add_positions"), x.shape, False, x, positions)

    def concat_channels(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, H, W) and (B, D, H, W) → (B, C + D, H, W)."""
        batch, channels, height, width = self._spatial(x, Scope("concat_channels"))
        if (skip.shape[0], *skip.shape[2:]) != (batch, height, width):
            raise ShapeError(f"cannot concatenate {x} with the skip connection {skip}")
        shape = (batch, channels + skip.shape[1], height, width)
        return self._lower("concat_channels", Scope("concat_channels"), shape, True, x, skip)

    def concat_features(self, left: Tensor, right: Tensor) -> Tensor:
        """(…, C) and (…, D) → (…, C + D)."""
        if left.shape[:-1] != right.shape[:-1]:
            raise ShapeError(f"cannot concatenate {left} and {right} along their last axis")
        shape = (*left.shape[:-1], left.shape[-1] + right.shape[-1])
        return self._lower("concat_features", Scope("concat_features"), shape, False, left, right)

    def upsample(self, x: Tensor, *, like: Tensor | None = None) -> Tensor:
        """Nearest-neighbour ×2; with `like`, cut to its height and width (odd sizes have an odd skip)."""
        batch, channels, height, width = self._spatial(x, Scope("upsample"))
        sizes = (height * 2, width * 2) if like is None else (like.shape[2], like.shape[3])
        if (ceil_div(sizes[0], 2), ceil_div(sizes[1], 2)) != (height, width):
            raise ShapeError(f"{x} cannot be upsampled to the size of {like}")
        return self._lower("upsample", Scope("upsample"), (batch, channels, *sizes), True, x, sizes=sizes)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H·W, C)."""
        batch, channels, height, width = self._spatial(x, Scope("tokens"))
        return self._lower("tokens", Scope("tokens"), (batch, height * width, channels), False, x)

    def feature_map(self, x: Tensor, *, like: Tensor) -> Tensor:
        """(B, H·W, C) → (B, C, H, W), with the height and width of `like`."""
        batch, length, channels = self._plain(x, Scope("feature_map"))
        if length != like.shape[2] * like.shape[3] or batch != like.shape[0]:
            raise ShapeError(f"tokens {x} do not fill a feature map like {like}")
        shape = (batch, channels, *like.shape[2:])
        return self._lower("feature_map", Scope("feature_map"), shape, True, x, sizes=like.shape[2:])

    def flatten_rows(self, x: Tensor) -> Tensor:
        """(B, …) → (B, product of the rest)."""
        shape = (x.shape[0], product(x.shape[1:]))
        return self._tensor(shape, x.dtype, self.graph.reshape(self.value(x), shape))

    # Composites that lower to the same few nodes everywhere.

    def sinusoid(self, x: Tensor, *, width: int, flip_sin_to_cos: bool, freq_shift: float) -> Tensor:
        """Sinusoidal embedding in float32, then cast: x (…) → (…, width).

        The frequencies are 10000^(−i / (width/2 − freq_shift)) for i from 0 to width/2 − 1.

        Vaswani et al. 2017, section 3.5, with diffusers' `flip_sin_to_cos` and `downscale_freq_shift`.
        """
        half = width // 2
        # In float32 and in this order, as diffusers does: times a timestep of 1000, each rounding shows.
        exponent = (
            np.float32(-np.log(10000.0)) * np.arange(half, dtype=np.float32) / np.float32(half - freq_shift)
        )
        frequencies = self.graph.constant(np.exp(exponent), "frequencies")
        column = self.graph.reshape(self.value(x), (*x.shape, 1))
        angles = self.graph.emit("Mul", column, frequencies)
        sine, cosine = self.graph.emit("Sin", angles), self.graph.emit("Cos", angles)
        first, second = (cosine, sine) if flip_sin_to_cos else (sine, cosine)
        value = self.graph.emit("Concat", first, second, axis=-1)
        return self._tensor((*x.shape, width), self.dtype, self.cast(value, self.dtype))

    def repeat_rows(self, x: Tensor, batch: Dim) -> Tensor:
        """(1, C) → (batch, C)."""
        shape = (batch, *x.shape[1:])
        return self._tensor(shape, x.dtype, self.graph.expand(self.value(x), shape))

    def split_rows(self, x: Tensor, count: Dim, batch: Dim) -> Tensor:
        """(count·batch, C) → (count, batch, C)."""
        shape = (count, batch, *x.shape[1:])
        return self._tensor(shape, x.dtype, self.graph.reshape(self.value(x), shape))

    def entry(self, table: Tensor, index: Tensor) -> Tensor:
        """The table's entry at an int64 index (1,): (N, …) → (…)."""
        row = self.graph.emit("Gather", self.value(table), self.value(index), axis=0)
        return self._tensor(table.shape[1:], table.dtype, self.graph.reshape(row, table.shape[1:]))

    def as_row(self, x: Tensor) -> Tensor:
        """A scalar () → (1,)."""
        return self._tensor((1,), x.dtype, self.graph.reshape(self.value(x), (1,)))

    def at_position(self, x: Tensor, position: Tensor) -> Tensor:
        """One row a batch entry: x (B, S, C), int64 position (B, 1) → (B, C)."""
        value = self.graph.emit("GatherND", self.value(x), self.value(position), batch_dims=1)
        return self._tensor((x.shape[0], x.shape[2]), x.dtype, value)

    def first_largest(self, ids: Tensor) -> Tensor:
        """Position of the first largest id: (B, S) → int64 (B, 1)."""
        # CUDA has ArgMax for floats only; float32 holds every id below 2^24 exactly.
        return self._argmax(ids, self.cast(self.value(ids), DType.FLOAT32))

    def first_equal(self, ids: Tensor, wanted: int) -> Tensor:
        """Position of the first id that equals `wanted` (0 where none does): (B, S) → int64 (B, 1)."""
        match = self.graph.emit(
            "Equal", self.value(ids), self.graph.constant(np.array([wanted], np.int64), "id")
        )
        return self._argmax(ids, self.cast(match, DType.FLOAT32))

    def _argmax(self, ids: Tensor, value: Value) -> Tensor:
        position = self.graph.emit("ArgMax", value, axis=-1, keepdims=1, select_last_index=0)
        return self._tensor((ids.shape[0], 1), DType.INT64, position)

    # What lowerings use.

    def softmax(self, x: Value) -> Value:
        """Softmax over the last axis."""
        return self.graph.emit("Softmax", x, axis=-1)

    def cast(self, value: Value, dtype: DType) -> Value:
        """`value` as `dtype`; the same value where it is that already."""
        return value if value.dtype is dtype else self.graph.emit("Cast", value, to=TO_IR[dtype])

    def value(self, x: Tensor) -> Value:
        """The emitted value of `x`; what was deferred is emitted now."""
        source = self._sources[x]
        if not isinstance(source, Value):
            scope = self.graph.scope
            source = source.settle()
            # What settled it was named after its own place; what asked for it goes on in another.
            self.graph.within(scope)
            self.settled(x, source)
        return source

    def source(self, x: Tensor) -> Source:
        """The value of `x`, or what is left to do to have it."""
        return self._sources[x]

    def settled(self, x: Tensor, value: Value) -> None:
        """Record that `x` is `value` now, after its layout and type were checked."""
        self._check(x, value)
        self._sources[x] = value

    def weight(
        self,
        at: Scope,
        source_shape: tuple[int, ...],
        *,
        permutation: tuple[int, ...] | None = None,
        shape: tuple[int, ...] | None = None,
        scale: float = 1.0,
        dtype: DType | None = None,
        fold: Fold | None = None,
    ) -> Value:
        """The initializer made of the checkpoint's tensor at `at`, which must have `source_shape`.

        What has something folded into it has a name of its own, beside the plain one.
        """
        permuted = source_shape if permutation is None else tuple(source_shape[axis] for axis in permutation)
        name = str(at)
        if fold is Fold.DOUBLING:
            name, shape = f"{at}.phases", _phases_shape(at, permuted)
        return self.graph.weight(
            Recipe(
                name=name,
                source=str(at),
                source_shape=source_shape,
                permutation=permutation,
                scale=scale,
                shape=shape or permuted,
                dtype=dtype or self.dtype,
                fold=fold,
            )
        )

    def _lower(
        self, op: str, at: Scope, shape: Shape, spatial: bool, *operands: Tensor, **details: object
    ) -> Tensor:
        """Lower an op by the first lowering that accepts it, and check the shape of what came out."""
        self.graph.within(str(at))
        refusals = []
        for lowering in self.lowerings[op]:
            try:
                source = lowering(self, at, *operands, **details)
            except Refused as refused:
                refusals.append(f"{lowering.__name__}: {refused}")
                continue
            self._chosen[op][lowering.__name__.strip("_")] += 1
            dtype = source.dtype if isinstance(source, Value) else self.dtype
            return self._tensor(shape, dtype, source, spatial=spatial)
        raise ShapeError(f"{at}: target {self.target} has no {op} for these operands: {'; '.join(refusals)}")

    def _tensor(self, shape: Shape, dtype: DType, source: Source, *, spatial: bool = False) -> Tensor:
        tensor = Tensor(shape=shape, dtype=dtype, spatial=spatial)
        if isinstance(source, Value):
            self._check(tensor, source)
        self._sources[tensor] = source
        return tensor

    def _check(self, x: Tensor, value: Value) -> None:
        expected = self.physical(x.shape, spatial=x.spatial)
        if value.shape != expected or value.dtype is not x.dtype:
            raise ShapeError(
                f"the lowering of {value.ir.name} gave {shape_text(value.shape)} {value.dtype.numpy_name},"
                f" the op means {shape_text(expected)} {x.dtype.numpy_name}"
            )

    def _spatial(self, x: Tensor, at: Scope) -> tuple[Dim, Dim, Dim, Dim]:
        if not x.spatial or len(x.shape) != 4:
            raise ShapeError(f"{at}: needs a feature map (batch, channels, height, width), found {x}")
        batch, channels, height, width = x.shape
        return batch, channels, height, width

    def _plain(self, x: Tensor, at: Scope) -> Shape:
        if x.spatial:
            raise ShapeError(f"{at}: needs a tensor whose last axis is features, found the feature map {x}")
        return x.shape


def _phases_shape(at: Scope, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A 3×3 convolution's weight (out, 3, 3, channels) for the four phases of a doubled map, 2×2 each."""
    if len(shape) != 4 or shape[1:3] != (3, 3):
        raise ShapeError(f"{at}: a doubling is folded into (out, 3, 3, channels), found {shape_text(shape)}")
    return (4 * shape[0], 2, 2, shape[3])
