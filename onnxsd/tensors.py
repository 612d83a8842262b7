"""Data types and symbolic sizes: what the shape of a tensor is made of before any size is known."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from math import gcd
from typing import TypeAlias

# Rows of 256 bytes are what GPUs copy best; CUDA's and ONNX Runtime's allocators round requests up to it.
ALIGNMENT_BYTES = 256


class DType(enum.Enum):
    """Element type of a tensor; the value is safetensors' and the manifest's name for it."""

    FLOAT32 = "F32"
    FLOAT16 = "F16"
    BFLOAT16 = "BF16"
    INT64 = "I64"
    INT32 = "I32"
    UINT8 = "U8"
    BOOL = "BOOL"

    @property
    def size_bytes(self) -> int:
        """Bytes of one element."""
        return {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}[self.value]

    @property
    def numpy_name(self) -> str:
        """numpy's name of the type (numpy itself has no `bfloat16`)."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class CeilDiv:
    """⌈numerator / divisor⌉: what a strided convolution leaves of a size. ⌊n / d⌋ is ⌈(n − d + 1) / d⌉."""

    numerator: Size
    divisor: int

    def __str__(self) -> str:
        text = str(self.numerator + (self.divisor - 1))
        return f"{text if ' ' not in text else f'({text})'} // {self.divisor}"


Atom: TypeAlias = str | CeilDiv
Monomial: TypeAlias = "tuple[Atom, ...]"


@dataclass(frozen=True, slots=True)
class Size:
    """A symbolic size: a polynomial with integer coefficients over symbols and ceiling divisions.

    Kept in canonical order, so two sizes are equal exactly when their formulas are: `⌈⌈h/2⌉/2⌉` is `⌈h/4⌉`.
    """

    terms: tuple[tuple[Monomial, int], ...]

    @staticmethod
    def symbol(name: str) -> Size:
        """The size called `name`, any positive integer."""
        return Size((((name,), 1),))

    def __add__(self, other: Dim) -> Dim:
        return _from_terms((*self.terms, *_terms(other)))

    def __mul__(self, other: Dim) -> Dim:
        return _from_terms(
            (tuple(sorted((*left, *right), key=str)), a * b)
            for left, a in self.terms
            for right, b in _terms(other)
        )

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        return " + ".join(_term_text(atoms, factor) for atoms, factor in self.terms)

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The number that this size is when the symbols have `values`."""
        return sum(
            factor * reduce(lambda product, atom: product * _atom_value(atom, values), atoms, 1)
            for atoms, factor in self.terms
        )


Dim: TypeAlias = int | Size
Shape: TypeAlias = "tuple[Dim, ...]"


def ceil_div(size: Dim, divisor: int) -> Dim:
    """⌈size / divisor⌉ in canonical form, so that equal formulas compare equal.

    Terms that are multiples of the divisor come out of the ceiling, what the others share with it is divided
    out, and ⌈(⌈a/m⌉ + c) / n⌉ becomes ⌈(a + c·m) / (m·n)⌉.
    """
    if divisor == 1:
        return size
    if isinstance(size, int):
        return -(-size // divisor)
    # What stays inside: terms that do not divide, and a constant from 1 − divisor to 0.
    inside = {atoms: factor if factor % divisor else 0 for atoms, factor in size.terms}
    inside[()] = -(-dict(size.terms).get((), 0) % divisor)
    outside = _from_terms((atoms, (factor - inside[atoms]) // divisor) for atoms, factor in size.terms)
    constant = inside.pop(())
    rest = {atoms: factor for atoms, factor in inside.items() if factor}
    if not rest:
        return outside
    return outside + _ceiling(rest, constant, divisor)


def _ceiling(rest: Mapping[Monomial, int], constant: int, divisor: int) -> Dim:
    """⌈(rest + constant) / divisor⌉ where nothing more comes out of the ceiling."""
    shared = gcd(divisor, *rest.values())
    if shared > 1:
        terms = [(atoms, factor // shared) for atoms, factor in rest.items()]
        return ceil_div(_from_terms([*terms, ((), -(-constant // shared))]), divisor // shared)
    numerator = _from_terms([*rest.items(), ((), constant)])
    match list(rest.items()):
        case [((CeilDiv() as inner,), 1)]:
            return ceil_div(inner.numerator + constant * inner.divisor, inner.divisor * divisor)
    assert isinstance(numerator, Size)  # it has a term that is not a constant
    return Size((((CeilDiv(numerator, divisor),), 1),))


def product(sizes: Iterable[Dim]) -> Dim:
    """The product of sizes; 1 for none."""
    result: Dim = 1
    for size in sizes:
        result = result * size
    return result


def evaluate(shape: Shape, values: Mapping[str, int]) -> tuple[int, ...]:
    """The concrete shape when the symbols have `values`."""
    return tuple(size if isinstance(size, int) else size.evaluate(values) for size in shape)


def shape_text(shape: Shape) -> str:
    """A shape as people read it: `[batch, 4, height, width]`."""
    return f"[{', '.join(str(size) for size in shape)}]"


def aligned(size_bytes: int) -> int:
    """The size, up to the next multiple of the alignment."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _terms(size: Dim) -> tuple[tuple[Monomial, int], ...]:
    return (((), size),) if isinstance(size, int) else size.terms


def _from_terms(terms: Iterable[tuple[Monomial, int]]) -> Dim:
    sums: dict[Monomial, int] = {}
    for atoms, factor in terms:
        sums[atoms] = sums.get(atoms, 0) + factor
    left = {atoms: factor for atoms, factor in sums.items() if factor}
    if not left or set(left) == {()}:
        return left.get((), 0)
    return Size(tuple(sorted(left.items(), key=lambda item: (-len(item[0]), str(item[0])))))


def _term_text(atoms: Monomial, factor: int) -> str:
    if not atoms:
        return str(factor)
    alone = len(atoms) == 1 and factor == 1
    names = [str(atom) if alone or isinstance(atom, str) else f"({atom})" for atom in atoms]
    return " * ".join(names if factor == 1 else [*names, str(factor)])


def _atom_value(atom: Atom, values: Mapping[str, int]) -> int:
    if isinstance(atom, CeilDiv):
        return -(-atom.numerator.evaluate(values) // atom.divisor)
    return values[atom]
