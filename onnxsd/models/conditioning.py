"""What a denoiser's body takes of the timestep and of the text: computed in the call, or before the loop.

Of SDXL's 743 linears, 140 make keys and values of the text and 21 follow the timestep: none of them sees the
latent. A loop of steps computes them once, in a graph of their own, and each step takes them as inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from onnxsd.ops import Ops, Scope, Tensor
from onnxsd.tensors import Dim


class Conditioning(Protocol):
    """Where the body's residual blocks and cross-attentions get what does not depend on the latent."""

    def time_row(self, at: Scope, out: int) -> Tensor:
        """A residual block's projection of the time embedding by the weights at `at`: (B, out)."""

    def from_text(self, at: Scope, out: int) -> Tensor:
        """A cross-attention's projection of the text by the weights at `at`: (B, sequence, out)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """Everything from the call's own inputs."""

    ops: Ops
    # After SiLU, (B, width).
    time: Tensor
    # (B, sequence, width).
    context: Tensor

    def time_row(self, at: Scope, out: int) -> Tensor:
        return self.ops.linear(self.time, at, out=out)

    def from_text(self, at: Scope, out: int) -> Tensor:
        return self.ops.linear(self.context, at, out=out, bias=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """One linear that is computed before the loop: its place in the checkpoint, and its width."""

    at: Scope
    out: int

    @property
    def name(self) -> str:
        """What its result is called, as an output of the one graph and an input of the other."""
        return str(self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Projections:
    """Every linear that a body asked for, in the order of asking."""

    time: tuple[Projection, ...]
    text: tuple[Projection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything as inputs of the graph; it notes what was asked for, so that it can be computed before."""

    ops: Ops
    # int64 (1,): which call of the loop this is; the tables have `calls` entries.
    step: Tensor
    calls: Dim
    batch: Dim
    sequence: Dim
    _time: list[Projection] = field(default_factory=list)
    _text: list[Projection] = field(default_factory=list)

    def time_row(self, at: Scope, out: int) -> Tensor:
        self._time.append(Projection(at=at, out=out))
        table = self.ops.input(self._time[-1].name, (self.calls, self.batch, out))
        return self.ops.entry(table, self.step)

    def from_text(self, at: Scope, out: int) -> Tensor:
        self._text.append(Projection(at=at, out=out))
        return self.ops.input(self._text[-1].name, (self.batch, self.sequence, out))

    def asked(self) -> Projections:
        """What the body asked for."""
        return Projections(time=tuple(self._time), text=tuple(self._text))


def author_projections(
    ops: Ops, wanted: Projections, *, time: Tensor, context: Tensor, calls: Dim, batch: Dim
) -> None:
    """Outputs for everything that was asked for: time rows (calls, B, out), keys and values (B, S, out).

    Args:
        time: (calls·B, width) after SiLU, the rows of a call together.
        context: (B, sequence, width).
    """
    computed = Computed(ops=ops, time=time, context=context)
    for entry in wanted.time:
        row = computed.time_row(entry.at, entry.out)
        ops.output(entry.name, ops.split_rows(row, calls, batch))
    for entry in wanted.text:
        ops.output(entry.name, computed.from_text(entry.at, entry.out))


Project = Callable[[Scope, int], Tensor]
