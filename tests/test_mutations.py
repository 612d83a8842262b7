"""While a graph is authored, each lowering and each operator's rule refuses a shape that is off by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from authoring import author
from lowering_cases import CASES, SYMBOLIC, Case, Sizes

from onnxsd.errors import ShapeError
from onnxsd.ops import Ops, Scope, Target, Tensor
from onnxsd.ops.graph import Graph
from onnxsd.ops.operators import OPERATORS, TO_IR, Value
from onnxsd.ops.portable import Portable
from onnxsd.ops.terms import Refused
from onnxsd.tensors import Dim, DType, Shape, Size

# A table may be longer than what is taken of it: its length is held against the checkpoint, not the graph.
LEGAL_WEIGHTS = {("embedding", 0), ("positions", 0)}

# No size is another one, or another one and 8 more.
FIXED = Sizes(batch=2, height=5, width=7, sequence=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One axis of one operand or weight of one call in a case's graph."""

    case: Case
    target: Target
    op: str
    call: int
    operand: int
    axis: int

    def __str__(self) -> str:
        place = f"{self.op}[{self.call}] {self.operand} axis {self.axis}"
        return f"{self.target.value}: {self.case.name}: {place}"


def grown(shape: Shape, axis: int, by: int = 1) -> Shape:
    """The shape with one more along an axis."""
    return tuple(size + by if index == axis else size for index, size in enumerate(shape))


@dataclass(slots=True, kw_only=True)
class Watched:
    """An `Ops` whose calls are recorded, and one of whose operands or weights is mutated on its way."""

    ops: Ops
    operand: Mutation | None = None
    weight: Mutation | None = None
    # Whether a value that could be held back is settled at once.
    settle: bool = False
    # How much larger the mutated axis is.
    by: int = 1
    # Op and operands' shapes of each call; op and source shape of each weight.
    calls: list[tuple[str, tuple[Shape, ...]]] = field(default_factory=list)
    weights: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._plain_lower, self._plain_weight = self.ops._lower, self.ops.weight
        self.ops._lower = self.lower  # type: ignore[method-assign]
        self.ops.weight = self.make_weight  # type: ignore[method-assign]

    _plain_lower: Any = None
    _plain_weight: Any = None

    def lower(
        self, op: str, at: Scope, shape: Shape, spatial: bool, *operands: Tensor, **details: Any
    ) -> Tensor:
        mutation, place = self.operand, len(self.calls)
        self.calls.append((op, tuple(operand.shape for operand in operands)))
        if mutation is not None and mutation.call == place:
            operands = tuple(self.mutated(x, i) for i, x in enumerate(operands))
        result = self._plain_lower(op, at, shape, spatial, *operands, **details)
        if self.settle:
            self.ops.value(result)
        return result

    def mutated(self, x: Tensor, index: int) -> Tensor:
        assert self.operand is not None
        if index != self.operand.operand:
            return x
        return self.ops.input(
            "mutated", grown(x.shape, self.operand.axis, self.by), dtype=x.dtype, spatial=x.spatial
        )

    def make_weight(self, at: Scope, source_shape: tuple[int, ...], **details: Any) -> Value:
        mutation, place = self.weight, len(self.weights)
        self.weights.append((self.calls[-1][0], source_shape))
        if mutation is not None and mutation.call == place:
            source_shape = grown(source_shape, mutation.axis, self.by)  # type: ignore[assignment]
            if details.get("shape"):
                details["shape"] = grown(details["shape"], mutation.axis, self.by)
        return self._plain_weight(at, source_shape, **details)


def watch(case: Case, target: Target, **options: Any) -> Watched:
    """The case authored under watch; own operators are met in float16 and fixed sizes alone."""
    own = target is Target.OWN
    watched = Watched(ops=author(target, DType.FLOAT16 if own else DType.FLOAT32), **options)
    case.author(watched.ops, FIXED if own else SYMBOLIC)
    return watched


def off(mutation: Mutation) -> int:
    """By how much: what is no multiple of 8 no own operator sees."""
    return 8 if mutation.target is Target.OWN else 1


def _mutations(*, of_weights: bool) -> Iterator[Mutation]:
    for case in CASES:
        for target in Target:
            watched = watch(case, target)
            weights = [(op, (shape,)) for op, shape in watched.weights]
            shapes = weights if of_weights else watched.calls
            for call, (op, operands) in enumerate(shapes):
                for operand, shape in enumerate(operands):
                    for axis in range(len(shape)):
                        yield Mutation(case=case, target=target, op=op, call=call, operand=operand, axis=axis)


OPERANDS = tuple(_mutations(of_weights=False))
WEIGHTS = tuple(_mutations(of_weights=True))
when_settled = pytest.mark.parametrize("settle", [True, False], ids=["settled at once", "held back"])


@when_settled
@pytest.mark.parametrize("mutation", OPERANDS, ids=str)
def test_an_operand_that_is_off_by_one_is_refused(mutation: Mutation, settle: bool) -> None:
    with pytest.raises(ShapeError):
        watch(mutation.case, mutation.target, operand=mutation, settle=settle, by=off(mutation))


@when_settled
@pytest.mark.parametrize("mutation", [m for m in WEIGHTS if (m.op, m.axis) not in LEGAL_WEIGHTS], ids=str)
def test_a_weight_that_is_off_by_one_is_refused(mutation: Mutation, settle: bool) -> None:
    with pytest.raises(ShapeError):
        watch(mutation.case, mutation.target, weight=mutation, settle=settle, by=off(mutation))


@when_settled
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_takes_the_place_of_an_operand_is_accepted_at_its_size(case: Case, settle: bool) -> None:
    for mutation in OPERANDS:
        if mutation.case is case and mutation.axis == 0:
            watch(case, mutation.target, operand=mutation, settle=settle, by=0)


@pytest.mark.parametrize("target", Target, ids=lambda target: target.value)
def test_every_op_has_an_operand_or_a_weight_mutated(target: Target) -> None:
    mutated = {mutation.op for mutation in (*OPERANDS, *WEIGHTS) if mutation.target is target}

    assert mutated == set(author(target).lowerings)


# The rules of operators.

B, H, W, S = (Size.symbol(name) for name in "bhws")
CONV = {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCase:
    """Operands that an operator's rule accepts, and each (operand, axis) that may grow alone, with why."""

    shapes: tuple[Shape, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dtypes: tuple[DType, ...] = ()
    free: Mapping[tuple[int, int], str] = field(default_factory=dict)
    # Operands whose type may differ from the first's, or be any.
    free_types: Mapping[int, str] = field(default_factory=dict)


def free(why: str, *places: tuple[int, int]) -> dict[tuple[int, int], str]:
    """Axes that may grow without another operand having to."""
    return dict.fromkeys(places, why)


ELEMENTWISE = RuleCase(shapes=((B, S, 8), (B, S, 8)))
UNARY = RuleCase(
    shapes=((B, S, 8),),
    free=free("an elementwise operator takes any shape", (0, 0), (0, 1), (0, 2)),
    free_types={0: "the output has the input's type"},
)
PIXELS = "one output pixel or picture more, which the op's own check sees"
ROWS = "rows are independent"
RULES: Mapping[str, RuleCase] = {
    **dict.fromkeys(("Add", "Mul", "Sub", "Div", "Equal"), ELEMENTWISE),
    **dict.fromkeys(
        ("Sigmoid", "Erf", "Sin", "Cos", "Softmax", "RowSoftmax", "Round", "Gelu", "QuickGelu"), UNARY
    ),
    "Clip": RuleCase(
        shapes=((B, S, 8), (), ()), free=free("Clip takes any shape", (0, 0), (0, 1), (0, 2))
    ),
    "ReduceSum": RuleCase(
        shapes=((B, S, 8),), attributes={"keepdims": 0},
        free=free("everything is summed", (0, 0), (0, 1), (0, 2)),
        free_types={0: "the output has it too"},
    ),
    "Cast": RuleCase(
        shapes=((B, S),), attributes={"to": TO_IR[DType.FLOAT16]},
        free=free("Cast takes any shape", (0, 0), (0, 1)), free_types={0: "that is what Cast is for"},
    ),
    "MatMul": RuleCase(
        shapes=((B, S, 8), (B, 8, 6)), free=free("the result grows with it", (0, 1), (1, 2))
    ),
    "Conv": RuleCase(
        shapes=((B, 6, H, W), (4, 6, 3, 3), (4,)), attributes=CONV, free=free(PIXELS, (0, 0), (0, 2), (0, 3))
    ),
    "NhwcConv": RuleCase(
        shapes=((B, H, W, 6), (4, 3, 3, 6), (4,)), attributes=CONV, free=free(PIXELS, (0, 0), (0, 1), (0, 2))
    ),
    "InstanceNormalization": RuleCase(
        shapes=((B, 8, S), (8,), (8,)), free=free("what is normalized over may have any size", (0, 0), (0, 2))
    ),
    "LayerNormalization": RuleCase(shapes=((B, S, 8), (8,), (8,)), free=free(ROWS, (0, 0), (0, 1))),
    "SkipLayerNormalization": RuleCase(shapes=((B, S, 8), (B, S, 8), (8,), (8,), (8,))),
    "GroupNorm": RuleCase(
        shapes=((B, H, W, 8), (8,), (8,)), attributes={"groups": 4},
        dtypes=(DType.FLOAT16, DType.FLOAT32, DType.FLOAT32),
        free=free("what is normalized over may have any size", (0, 0), (0, 1), (0, 2)),
        free_types={0: "gamma and beta are float32 whatever the input is"},
    ),
    "SkipGroupNorm": RuleCase(
        shapes=((B, H, W, 8), (8,), (8,), (B, H, W, 8), (8,)), attributes={"groups": 4},
        dtypes=(DType.FLOAT16, DType.FLOAT32, DType.FLOAT32, DType.FLOAT16, DType.FLOAT16),
    ),
    "MultiHeadAttention": RuleCase(
        shapes=((B, S, 8), (B, H, 8), (B, H, 8)), attributes={"num_heads": 2},
        free=free("a query more is a row more", (0, 1)),
    ),
    "BiasSplitGelu": RuleCase(shapes=((B, S, 8), (8,)), free=free(ROWS, (0, 0), (0, 1))),
    "BiasAdd": RuleCase(shapes=((B, S, 8), (8,), (B, S, 8))),
    "FusedGroupNorm": RuleCase(
        shapes=((B, H, W, 8), (8,), (8,), (B, H, W, 8), (8,)),
        attributes={"groups": 4, "slab": 8, "parts": 3},
        dtypes=(DType.FLOAT16, DType.FLOAT32, DType.FLOAT32, DType.FLOAT16, DType.FLOAT16),
    ),
    "FusedLayerNorm": RuleCase(shapes=((B, S, 8), (8,), (8,), (B, S, 8), (8,))),
    "GEGLU": RuleCase(shapes=((B, S, 8), (8,)), free=free(ROWS, (0, 0), (0, 1))),
    "UpsampleNearest": RuleCase(
        shapes=((B, 3, 2, 8), (B, 3, 2, 8), (8,)), attributes={"height": 5, "width": 4}
    ),
    "Interleave": RuleCase(
        shapes=((B, 4, 3, 32), (8,)),
        free=free("an image, a row or a column more is one or two of the output", (0, 0), (0, 1), (0, 2)),
    ),
    "FusedAdd": RuleCase(shapes=((B, H, W, 8), (B, H, W, 8), (8,))),
    "FusedConcat": RuleCase(
        shapes=((B, H, W, 8), (B, H, W, 6), (B, H, W, 8), (8,)),
        free=free("channels are put beside each other", (1, 3)),
    ),
    "Transpose": RuleCase(
        shapes=((B, S, 8),), attributes={"perm": (0, 2, 1)},
        free=free("axes only change places", (0, 0), (0, 1), (0, 2)), free_types={0: "the output has it too"},
    ),
    "Concat": RuleCase(
        shapes=((B, S, 8), (B, S, 6)), attributes={"axis": -1}, free=free("it is summed", (0, 2), (1, 2))
    ),
    "Split": RuleCase(
        shapes=((B, S, 8),), attributes={"axis": -1}, free=free(ROWS, (0, 0), (0, 1)),
        free_types={0: "the outputs have it too"},
    ),
    "Gather": RuleCase(
        shapes=((20, 8), (B, S)), dtypes=(DType.FLOAT16, DType.INT64),
        free=free("a table and what is taken of it have any size", (0, 0), (0, 1), (1, 0), (1, 1)),
        free_types={0: "the output has the table's", 1: "the graph's inputs are int64"},
    ),
    "GatherND": RuleCase(
        shapes=((B, S, 8), (B, 1)), attributes={"batch_dims": 1}, dtypes=(DType.FLOAT16, DType.INT64),
        free=free("what is taken from has any size", (0, 1), (0, 2)),
        free_types={0: "the output has the data's", 1: "positions come from ArgMax, which gives int64"},
    ),
    "ArgMax": RuleCase(
        shapes=((B, S),), attributes={"axis": -1, "keepdims": 1},
        free=free("any row has a largest element", (0, 0), (0, 1)), free_types={0: "the output is int64"},
    ),
}  # fmt: skip


def _emit(operator: str, rule: RuleCase, shapes: tuple[Shape, ...], dtypes: tuple[DType, ...]) -> None:
    graph = Graph("rule")
    operands = [
        graph.input(f"x{index}", dtype, shape)
        for index, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    ]
    graph.emit(operator, *operands, **rule.attributes)


def _dtypes(rule: RuleCase) -> tuple[DType, ...]:
    return rule.dtypes or (DType.FLOAT32,) * len(rule.shapes)


def _places(rule: RuleCase) -> list[tuple[int, int]]:
    return [(index, axis) for index, shape in enumerate(rule.shapes) for axis in range(len(shape))]


SHAPES = [(name, place) for name, rule in RULES.items() for place in _places(rule)]
TYPES = [(name, index) for name, rule in RULES.items() for index in range(len(rule.shapes))]


def test_every_operator_has_its_rule_tested() -> None:
    assert RULES.keys() == OPERATORS.keys()


@pytest.mark.parametrize("operator", RULES)
def test_a_rule_accepts_what_fits(operator: str) -> None:
    rule = RULES[operator]

    _emit(operator, rule, rule.shapes, _dtypes(rule))


@pytest.mark.parametrize(("operator", "place"), SHAPES, ids=str)
def test_a_rule_refuses_one_axis_off_by_one(operator: str, place: tuple[int, int]) -> None:
    rule, (index, axis) = RULES[operator], place
    shapes = tuple(grown(shape, axis) if i == index else shape for i, shape in enumerate(rule.shapes))

    if place in rule.free:
        _emit(operator, rule, shapes, _dtypes(rule))
    else:
        with pytest.raises(ShapeError, match=operator):
            _emit(operator, rule, shapes, _dtypes(rule))


@pytest.mark.parametrize(("operator", "index"), TYPES, ids=str)
def test_a_rule_refuses_operands_of_different_types(operator: str, index: int) -> None:
    rule = RULES[operator]
    other = {DType.FLOAT32: DType.FLOAT16, DType.FLOAT16: DType.FLOAT32, DType.INT64: DType.INT32}
    dtypes = tuple(other[dtype] if i == index else dtype for i, dtype in enumerate(_dtypes(rule)))
    alone = len(rule.shapes) == 1

    if alone or index in rule.free_types:
        _emit(operator, rule, rule.shapes, dtypes)
    else:
        with pytest.raises(ShapeError, match=operator):
            _emit(operator, rule, rule.shapes, dtypes)


@pytest.mark.parametrize(
    "skip", [(B, 9), (B + 1, 8), (8,), (B, 1, W, 8)], ids=["channels", "batch", "rank", "broadcast"]
)
@pytest.mark.parametrize("operator", ["SkipGroupNorm", "FusedGroupNorm", "FusedAdd"])
def test_a_skip_of_rows_must_have_the_batch_and_the_channels(operator: str, skip: Shape) -> None:
    rule = RULES[operator]
    *first, _, last = rule.shapes
    _emit(operator, rule, (*first, (B, 8), last), _dtypes(rule))

    with pytest.raises(ShapeError):
        _emit(operator, rule, (*first, skip, last), _dtypes(rule))


@pytest.mark.parametrize(
    ("operator", "shapes", "attributes"),
    [
        ("Clip", ((B, S, 8), (1,), ()), {}),
        ("Clip", ((B, S, 8), (), (8,)), {}),
        ("ReduceSum", ((B, S, 8),), {"keepdims": 1}),
        ("ReduceSum", ((B, S, 8), (1,)), {"keepdims": 0}),
    ],
    ids=[
        "a lower bound that is a row",
        "an upper bound that is a row",
        "axes that are kept",
        "some axes only",
    ],
)
def test_a_rule_refuses_what_it_has_no_shape_for(
    operator: str, shapes: tuple[Shape, ...], attributes: Mapping[str, Any]
) -> None:
    rule = RuleCase(shapes=shapes, attributes=attributes)

    with pytest.raises(ShapeError, match=operator):
        _emit(operator, rule, shapes, _dtypes(rule))


# What the caller of the vocabulary gets wrong.


def _spatial(ops: Ops, channels: int, height: Dim, width: Dim, name: str = "x") -> Tensor:
    return ops.input(name, (B, channels, height, width), spatial=True)


def _tokens(ops: Ops, length: Dim, width: int, name: str = "x") -> Tensor:
    return ops.input(name, (B, length, width))


AT = Scope("layer")
MISUSES = {
    "a convolution of tokens": lambda ops: ops.conv(_tokens(ops, S, 8), AT, out=8),
    "a linear over a feature map": lambda ops: ops.linear(_spatial(ops, 8, H, W), AT, out=8),
    "a layer norm of a feature map": lambda ops: ops.layer_norm(_spatial(ops, 8, H, W), AT, eps=0.1),
    "groups that do not divide": lambda ops: ops.group_norm(_spatial(ops, 8, H, W), AT, groups=3, eps=0.1),
    "heads that do not divide": lambda ops: ops.attention(*[_tokens(ops, S, 8)] * 3, AT, heads=3),
    "keys of another batch": lambda ops: ops.attention(
        _tokens(ops, S, 8), *[ops.input("k", (B + 1, S, 8))] * 2, AT, heads=2
    ),
    "keys without values": lambda ops: ops.attention(
        _tokens(ops, S, 8), _tokens(ops, 5, 8, "k"), _tokens(ops, 6, 8, "v"), AT, heads=2
    ),
    "causal over other keys": lambda ops: ops.attention(
        _tokens(ops, S, 8), *[_tokens(ops, 5, 8, "k")] * 2, AT, heads=2, causal_up_to=9
    ),
    "more positions than there are": lambda ops: ops.positions(78, AT, rows=77, width=8),
    "a sum of other shapes": lambda ops: ops.add(_tokens(ops, S, 8), _tokens(ops, S + 1, 8, "r")),
    "a sum of tokens and a feature map": lambda ops: ops.add(
        ops.input("x", (B, 8, H, W)), _spatial(ops, 8, H, W, "r")
    ),
    "channels of another number": lambda ops: ops.add_channels(
        _spatial(ops, 8, H, W), ops.input("r", (B, 9))
    ),
    "positions of another length": lambda ops: ops.add_positions(
        _tokens(ops, S, 8), ops.input("p", (1, S + 1, 8))
    ),
    "a skip of another height": lambda ops: ops.concat_channels(
        _spatial(ops, 8, H, W), _spatial(ops, 8, H + 1, W, "r")
    ),
    "features of other rows": lambda ops: ops.concat_features(
        _tokens(ops, S, 8), _tokens(ops, S + 1, 8, "r")
    ),
    "an upsampling to more than twice": lambda ops: ops.upsample(
        _spatial(ops, 8, H, W), like=_spatial(ops, 8, H * 2 + 1, W * 2, "r")
    ),
    "an upsampling to two less than twice": lambda ops: ops.upsample(
        _spatial(ops, 8, H, W), like=_spatial(ops, 8, H * 2, W * 2 + -2, "r")
    ),
    "tokens that do not fill a feature map": lambda ops: ops.feature_map(
        _tokens(ops, H * W + 1, 8), like=_spatial(ops, 8, H, W, "r")
    ),
    "rows that do not split": lambda ops: ops.split_rows(ops.input("x", (B * 3 + 1, 8)), 3, B),
    "rows split into other batches": lambda ops: ops.split_rows(ops.input("x", (B * 3, 8)), 3, B + 1),
    "two entries of a table": lambda ops: ops.entry(
        _tokens(ops, S, 8), ops.input("index", (2,), dtype=DType.INT64)
    ),
    "tokens in NCHW": lambda ops: ops.nchw(_tokens(ops, S, 8)),
    "tokens in NHWC": lambda ops: ops.nhwc(_tokens(ops, S, 8)),
    "tokens as a feature map": lambda ops: ops.spatial(ops.value(_tokens(ops, S, 8))),
    "one value as two outputs": lambda ops: [ops.output(name, _once(ops)) for name in "ab"],
    "one weight of two shapes": lambda ops: [
        ops.linear(_tokens(ops, S, width, str(width)), AT, out=8) for width in (4, 6)
    ],
}


def _once(ops: Ops, known: dict[int, Tensor] | None = None) -> Tensor:
    """The same tensor each time for one graph."""
    return ops.__dict__.setdefault("once", ops.linear(_tokens(ops, S, 8), AT, out=8))


@pytest.mark.parametrize("target", Target, ids=lambda target: target.value)
@pytest.mark.parametrize("misuse", MISUSES)
def test_the_vocabulary_refuses(misuse: str, target: Target) -> None:
    with pytest.raises(ShapeError):
        MISUSES[misuse](author(target))


def test_a_refusal_of_every_lowering_is_an_error_with_each_reason() -> None:
    def small(ops: Ops, at: Scope, x: Tensor) -> Value:
        raise Refused("too small")

    def large(ops: Ops, at: Scope, x: Tensor) -> Value:
        raise Refused("too large")

    class Picky(Portable):
        lowerings = {"tokens": (small, large)}  # noqa: RUF012

    ops = Picky("test", DType.FLOAT32)

    with pytest.raises(ShapeError, match=r"small: too small; large: too large"):
        ops.tokens(_spatial(ops, 8, H, W))


# Nodes whose output shape is an operand's content.


@pytest.mark.parametrize(
    ("method", "shape", "arguments"),
    [
        ("reshape", (B, S * 8 + 1), {}),
        ("reshape", (B, S, 9), {}),
        ("expand", (B, S, 9), {}),
        ("expand", (B, S, 8, 1), {}),
        ("crop", (B, S, 9), {"along": (2,)}),
        ("crop", (B, S, 7), {"along": (1,)}),
        ("crop", (B, S), {"along": (2,)}),
    ],
)
def test_a_shape_that_cannot_be_had_is_refused(method: str, shape: Shape, arguments: dict[str, Any]) -> None:
    graph = Graph("test")
    x = graph.input("x", DType.FLOAT32, (B, S, 8))

    with pytest.raises(ShapeError):
        getattr(graph, method)(x, shape, **arguments)


def test_a_size_that_no_value_has_cannot_be_computed() -> None:
    graph = Graph("test")
    graph.input("x", DType.FLOAT32, (B, 8))

    with pytest.raises(ShapeError, match="no value has an axis of size h"):
        graph.shape_vector((B, H))
