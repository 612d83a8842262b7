"""A sampler as a table, one linear map for each model call, and the loop that runs any such table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from onnxsd.errors import ConfigurationError, ShapeError, UsageError

Float64: TypeAlias = npt.NDArray[np.float64]
Float32: TypeAlias = npt.NDArray[np.float32]
Int64: TypeAlias = npt.NDArray[np.int64]

Denoise: TypeAlias = Callable[[Float32, float], npt.NDArray[np.floating]]
Noise: TypeAlias = Callable[[int], npt.NDArray[np.floating]]
OnStep: TypeAlias = Callable[[int, Float32], None]

# Columns of a step; the kept tensors are columns 1 to K, and row r writes what column r reads next time.
LATENT, OUTPUT, NOISE = 0, -2, -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Everything a sampler does to a latent, in float64, one row a model call.

    There can be more calls than inference steps: PNDM makes one or nine more.
    """

    timesteps: Float64
    """(N,): what the denoiser is told; Euler and Karras levels fall between the trained timesteps."""
    input_scale: Float64
    """(N,): the latent is multiplied by this before the denoiser sees it."""
    steps: Float64
    """(N, K+1, K+3): the new latent and K kept tensors out of [the old ones, model output, noise]."""
    initial_scale: float
    """Unit-variance noise times this is the first latent (diffusers' `init_noise_sigma`)."""

    def __post_init__(self) -> None:
        for name in ("timesteps", "input_scale", "steps"):
            own = np.array(getattr(self, name), dtype=np.float64)
            own.setflags(write=False)
            object.__setattr__(self, name, own)
        self._check_shapes()
        self._check_finite()

    def _check_shapes(self) -> None:
        calls = self.timesteps.shape[0] if self.timesteps.ndim == 1 else 0
        if calls == 0:
            raise ShapeError(
                f"timesteps of a table are (N,) with N of at least 1, not {self.timesteps.shape}"
            )
        if self.input_scale.shape != (calls,):
            raise ShapeError(f"{calls} timesteps need input_scale ({calls},), not {self.input_scale.shape}")
        rows = self.steps.shape[1] if self.steps.ndim == 3 else 0
        if rows == 0 or self.steps.shape != (calls, rows, rows + 2):
            raise ShapeError(f"{calls} timesteps need steps ({calls}, K+1, K+3), not {self.steps.shape}")

    def _check_finite(self) -> None:
        finite = (
            np.isfinite(self.timesteps) & np.isfinite(self.input_scale) & np.isfinite(self.steps).all((1, 2))
        )
        if not finite.all():
            raise ConfigurationError(
                f"model call {int(np.argmin(finite))} of {len(self)} has a coefficient that is not finite",
                hint="this noise schedule has no such step; take fewer steps or another timestep_spacing",
            )
        if not (np.isfinite(self.initial_scale) and self.initial_scale > 0):
            raise ConfigurationError(
                f"the initial scale must be positive and finite, not {self.initial_scale}"
            )

    def __len__(self) -> int:
        """Model calls, N."""
        return int(self.timesteps.shape[0])

    @property
    def kept(self) -> int:
        """Tensors that live from one call to the next beside the latent, K."""
        return int(self.steps.shape[1]) - 1

    @property
    def noise_rows(self) -> npt.NDArray[np.bool_]:
        """(N,): whether the call draws noise."""
        return np.asarray((self.steps[:, :, NOISE] != 0).any(axis=1))


def run(
    table: Table,
    denoise: Denoise,
    latents: npt.NDArray[np.floating],
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Float32:
    """The clean latent, float32.

    Args:
        denoise: (scaled latent, timestep) → model output of the latent's shape; guidance is inside it.
        latents: the initial noise, unit variance; the table's `initial_scale` is applied here.
        noise: call index → unit-variance noise of the latent's shape, asked only for calls that need it.
        on_step: told (call index, new latent) after each call.
    """
    if noise is None and table.noise_rows.any():
        raise UsageError(
            f"this sampler draws noise at {int(table.noise_rows.sum())} of {len(table)} calls and got none",
            hint="pass noise=, a function from the call's index to unit-variance noise",
        )
    first: Float32 = np.asarray(latents, dtype=np.float32) * np.float32(table.initial_scale)
    state = [first, *(np.zeros_like(first) for _ in range(table.kept))]
    for i, (step, draws) in enumerate(zip(table.steps, table.noise_rows, strict=True)):
        seen = state[LATENT] * np.float32(table.input_scale[i])
        output = _fitting(denoise(seen, float(table.timesteps[i])), first, "the denoiser's output", i)
        drawn = _fitting(noise(i), first, "the noise", i) if noise is not None and draws else None
        operands = [*state, output, drawn]
        state = [_combine(row, operands, first) for row in step]
        if on_step is not None:
            on_step(i, state[LATENT])
    return state[LATENT]


def _fitting(array: npt.NDArray[np.floating], latent: Float32, what: str, call: int) -> Float32:
    """The array in float32; a shape that would broadcast in silence is an error."""
    if array.shape != latent.shape:
        raise ShapeError(f"{what} at call {call} is {array.shape}; the latent is {latent.shape}")
    return np.asarray(array, dtype=np.float32)


def _combine(coefficients: Float64, operands: Sequence[Float32 | None], like: Float32) -> Float32:
    """Σ cᵢ·xᵢ over the coefficients that are not zero, so that an unused operand cannot spread its NaN."""
    total = np.zeros_like(like)
    for coefficient, operand in zip(coefficients, operands, strict=True):
        if coefficient != 0 and operand is not None:
            total += np.float32(coefficient) * operand
    return total
