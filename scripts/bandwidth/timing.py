"""How long calls take on the GPU, by its own clock: one record of all of them, taken apart by marks."""

from __future__ import annotations

import functools
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from determinism.numbers import numbers
from gpu_events import GpuEvent, record

from bandwidth.stock import stock_model
from bandwidth.work import Work
from onnxsd.engine.gpu import session_settings
from onnxsd.errors import OnnxsdError, VerificationError
from onnxsd.session import Binding, CustomOperators, DeviceArray, Provider, Session, update, view
from onnxsd.session.block import Block
from onnxsd.session.driver import driver
from onnxsd.tensors import DType, aligned

WARM_UP = 3
# The copies whose best rate is the card's. On an H200 the largest is not the fastest.
COPIES_BYTES = (64 << 20, 256 << 20, 1 << 30)
# So many times the cache is read to have it hold nothing else, and nothing that is still to be written.
FLUSH = 4
CHUNK = 32 << 20
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Microseconds of a call: the median over its runs of the sum of its kernels; and their names."""

    us: float
    kernels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was timed, by (what, which): a work's place and "own" or "stock", a copy's bytes and when."""

    gpu: str
    cache_bytes: int
    timings: dict[tuple[int, str], Timing]

    @property
    def copy_rates(self) -> dict[tuple[int, str], float]:
        """TB/s of copies, each byte read and written."""
        copies = {key: timing for key, timing in self.timings.items() if key[1] in (BEFORE, AFTER)}
        return {(size, when): 2 * size / timing.us / 1e6 for (size, when), timing in copies.items()}


@dataclass(slots=True, kw_only=True)
class Stopwatch:
    """Runs calls between pairs of marks, and remembers what lies between which."""

    mark: Callable[[], None]
    flush: Callable[[], None]
    runs: int
    keys: list[tuple[int, str]] = field(default_factory=list)

    def run(self, key: tuple[int, str], call: Callable[[], None], *, cold: bool) -> None:
        """Run a call that waits for its end; `cold` finds nothing of its operands in the cache."""
        for _ in range(WARM_UP):
            call()
        for _ in range(self.runs):
            if cold:
                self.flush()
            self.mark()
            call()
            self.mark()
        self.keys.append(key)

    def timings(self, events: Sequence[GpuEvent]) -> dict[tuple[int, str], Timing]:
        """What each call took; the record begins with a mark, by whose name the others are known.

        A call of which nothing was recorded is left out.
        """
        runs = between_marks(events, events[0].name if events else "")
        if len(runs) != len(self.keys) * self.runs:
            raise VerificationError(
                f"{len(self.keys) * self.runs} runs were made and {len(runs)} are in the profiler's record",
                hint="run it again; the profiler drops records where too many come at once",
            )
        parts = (runs[start : start + self.runs] for start in range(0, len(runs), self.runs))
        return {key: _timing(part) for key, part in zip(self.keys, parts, strict=True) if all(part)}


def between_marks(events: Sequence[GpuEvent], mark: str) -> list[list[GpuEvent]]:
    """What lies between the second and the third mark, between the fourth and the fifth, and so on."""
    runs: list[list[GpuEvent]] = []
    marks, inside = 0, False
    for event in events:
        if event.name == mark:
            marks += 1
            inside = marks % 2 == 0
            if inside:
                runs.append([])
        elif inside:
            runs[-1].append(event)
    return runs


def _timing(runs: Sequence[Sequence[GpuEvent]]) -> Timing:
    us = statistics.median(sum(event.us for event in run) for run in runs)
    return Timing(us=us, kernels=tuple(event.name for event in runs[-1]))


def measure(works: Sequence[Work], operators: CustomOperators, device_id: int, runs: int) -> Measured:
    """Times of every call by own and by stock operators, and of copies before and after; on this thread."""
    import torch

    device = f"cuda:{device_id}"
    properties = torch.cuda.get_device_properties(device_id)
    cache_bytes = int(properties.L2_cache_size)
    marked = torch.zeros(1, device=device)
    lake = torch.zeros(FLUSH * cache_bytes // 4, device=device)
    source = torch.randint(256, (max(COPIES_BYTES),), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)

    def mark() -> None:
        marked.fill_(1.0)
        torch.cuda.synchronize(device_id)

    watch = Stopwatch(mark=mark, flush=lake.sum, runs=runs)
    buffers = Buffers.for_works(works, device_id)

    def copies(when: str) -> None:
        for size in COPIES_BYTES:
            copy = functools.partial(_copy, torch, target[:size], source[:size])
            watch.run((size, when), copy, cold=True)

    def everything() -> None:
        mark()
        copies(BEFORE)
        for place, work in enumerate(works):
            for which, settled in (("own", operators), ("stock", None)):
                _run(watch, buffers, (place, which), work, settled, cold=work.moved_bytes > cache_bytes)
        copies(AFTER)

    mark()
    events = record(everything)
    return Measured(gpu=properties.name, cache_bytes=cache_bytes, timings=watch.timings(events))


def _copy(torch: Any, target: Any, source: Any) -> None:
    target.copy_(source)
    torch.cuda.synchronize(target.device)


def _run(
    watch: Stopwatch, buffers: Buffers, key: tuple[int, str], work: Work,
    operators: CustomOperators | None, *, cold: bool,
) -> None:  # fmt: skip
    """One that does not run is told, and has no timing: the others still count."""
    try:
        binding = buffers.bind(
            session_of(model_of(work, own=operators is not None), operators, buffers.device_id)
        )
        watch.run(key, binding.run, cold=cold)
    except OnnxsdError as error:
        print(f"{key[1]} {work.operator} {work}: {error}", file=sys.stderr)


def model_of(work: Work, *, own: bool) -> ir.Model:
    """A model of the own operator, or of stock ones, with weights in it."""
    draw = functools.partial(numbers, work.found.call)
    return work.found.model(draw) if own else stock_model(work, draw)


def session_of(model: ir.Model, operators: CustomOperators | None, device_id: int) -> Session:
    """A session as the engine makes them, but without a captured graph, which changes no kernel's time."""
    return Session.create(
        bytes(ir.to_proto(model).SerializeToString()),
        provider=Provider.CUDA,
        device_id=device_id,
        options=session_settings("unet", DType.FLOAT16, cuda_graph=False, operators=operators),
        label=model.graph.name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """Memory that all calls use in turn: random numbers to read, and room to write."""

    inputs: Block
    outputs: Block
    device_id: int

    @classmethod
    def for_works(cls, works: Sequence[Work], device_id: int) -> Buffers:
        """As much as the largest call needs."""
        reads, writes = zip(*(work.buffers_bytes for work in works), strict=True)
        inputs, outputs = (Block(driver(device_id), aligned(max(sizes))) for sizes in (reads, writes))
        drawn = np.random.default_rng(0).standard_normal(CHUNK // 2, np.float32).astype(np.float16)
        for offset in range(0, inputs.size_bytes, CHUNK):
            count = min(CHUNK, inputs.size_bytes - offset) // 2
            update(view(inputs, offset, (count,), drawn.dtype, device_id), drawn[:count])
        return cls(inputs=inputs, outputs=outputs, device_id=device_id)

    def bind(self, session: Session) -> Binding:
        """A session's inputs and outputs, one after another in this memory."""
        binding = session.binding()
        binding.bind(self._laid(session.inputs, self.inputs), self._laid(session.outputs, self.outputs))
        return binding

    def _laid(self, specs: Sequence[Any], block: Block) -> dict[str, DeviceArray]:
        laid: dict[str, DeviceArray] = {}
        offset = 0
        for spec in specs:
            laid[spec.name] = view(block, offset, spec.shape, spec.dtype, self.device_id)
            offset += aligned(laid[spec.name].size_bytes)
        return laid
