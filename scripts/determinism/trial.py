"""Running one call many times, in two sessions, over poisoned outputs, and comparing every bit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from determinism.calls import Found, shape_and_type
from determinism.numbers import numbers
from onnxsd.errors import OnnxsdError
from onnxsd.session import Choice, DeviceArray, Session, SessionSettings, empty, to_device, to_host, update

Array = npt.NDArray[Any]
SESSIONS = 2
LARGE_BYTES = 64 << 20
# Numbers that are compared at a time, small enough to stay in a processor's cache.
CHUNK = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one call.

    difference is relative: the norm of the first two results' difference over that of the first, as far as
    they differ. unwritten says that poison was left in an output; failure why the call did not run.
    """

    found: Found
    between_runs: bool = False
    between_sessions: bool = False
    difference: float = 0.0
    unwritten: bool = False
    failure: str | None = None

    @property
    def sound(self) -> bool:
        """Whether it ran, wrote everything, and gave the same bits every time."""
        return not (self.between_runs or self.between_sessions or self.unwritten or self.failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How calls are tried: where, with which session settings, and how often in each session.

    Outputs above `LARGE_BYTES` have `large_runs`: to and from the host they take longer than all the rest.
    """

    choice: Choice
    settings: SessionSettings
    runs: int
    large_runs: int

    def of(self, found: Found) -> Outcome:
        """The call's outcome; that ONNX Runtime refuses it is one too."""
        try:
            return self._outcome(found)
        except OnnxsdError as error:
            return Outcome(found=found, failure=" ".join(str(error).split()))

    def _outcome(self, found: Found) -> Outcome:
        draw = functools.partial(numbers, found.call)
        first: dict[str, Array] = {}
        begun: dict[str, Array] = {}
        varied = {"run": False, "session": False}
        difference = 0.0
        for run, outputs in self._results(found.model(draw), draw):
            if not first:
                first = begun = _copies(outputs)
                continue
            against, kind = (begun, "run") if run else (first, "session")
            if not varied[kind] and not _same(outputs, against):
                varied[kind] = True
                difference = max(difference, _difference(outputs, against))
            if not run:
                begun = _copies(outputs)
        return Outcome(
            found=found,
            between_runs=varied["run"],
            between_sessions=varied["session"],
            difference=difference,
            unwritten=any(_poisoned(first[name]) for name in found.read),
        )

    def _results(
        self, model: ir.Model, draw: Callable[[int], Array]
    ) -> Iterator[tuple[int, dict[str, DeviceArray]]]:
        """Each run's number in its session, and the outputs where they lie until the next run."""
        place = (self.choice.provider, self.choice.device_id)
        names = [value.name or "" for value in model.graph.inputs]
        inputs = {name: to_device(draw(int(name.removeprefix("x"))), *place) for name in names}
        poison = {value.name or "": _poison(value) for value in model.graph.outputs}
        outputs = {name: empty(array.shape, array.dtype, *place) for name, array in poison.items()}
        large = sum(array.nbytes for array in poison.values()) > LARGE_BYTES
        content = bytes(ir.to_proto(model).SerializeToString())
        for _ in range(SESSIONS):
            session = Session.create(
                content,
                provider=self.choice.provider,
                device_id=self.choice.device_id,
                options=self.settings,
                label=model.graph.name,
            )
            binding = session.binding()
            binding.bind(inputs, outputs)
            for run in range(min(self.runs, self.large_runs) if large else self.runs):
                for name, array in poison.items():
                    update(outputs[name], array)
                binding.run()
                yield run, outputs


def _poison(value: ir.Value) -> Array:
    """An array whose bytes are all 255: NaN where it holds fractions."""
    shape, dtype = shape_and_type(value)
    kind = np.dtype(dtype.numpy_name)
    return np.full((*shape, kind.itemsize), 255, np.uint8).view(kind).reshape(shape)


def _poisoned(output: Array) -> bool:
    """Whether a result still holds poison; integers may hold those bytes themselves."""
    if output.dtype.kind != "f":
        return False
    words = output.reshape(-1).view(f"u{output.dtype.itemsize}")
    return bool((words == np.iinfo(words.dtype).max).any())


def _copies(outputs: Mapping[str, DeviceArray]) -> dict[str, Array]:
    return {name: to_host(output) for name, output in outputs.items()}


def _same(outputs: Mapping[str, DeviceArray], expected: Mapping[str, Array]) -> bool:
    return all(_same_bits(output.value.numpy(), expected[name]) for name, output in outputs.items())


def _same_bits(left: Array, right: Array) -> bool:
    words = np.uint64 if right.nbytes % 8 == 0 else np.uint8
    return np.array_equal(
        left.reshape(-1).view(np.uint8).view(words), right.reshape(-1).view(np.uint8).view(words)
    )


def _difference(outputs: Mapping[str, DeviceArray], expected: Mapping[str, Array]) -> float:
    """The largest relative difference of an output, by the Frobenius norm."""
    return max(_relative(to_host(output), expected[name]) for name, output in outputs.items())


def _relative(found: Array, expected: Array) -> float:
    apart = size = 0.0
    left, right = found.reshape(-1), expected.reshape(-1)
    for start in range(0, len(right), CHUNK):
        there = right[start : start + CHUNK].astype(np.float64)
        gap = left[start : start + CHUNK].astype(np.float64) - there
        apart, size = apart + float(gap @ gap), size + float(there @ there)
    return float(np.sqrt(apart / size)) if size else float(apart > 0)
