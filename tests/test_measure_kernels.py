"""Own calls meet stock ones that do the same, their bytes are counted, and made-up times become tables."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from authoring import relative_error, run
from bandwidth.stock import stock_model
from bandwidth.table import as_json, as_text, copy_rate, rows
from bandwidth.timing import AFTER, BEFORE, Measured, Stopwatch, Timing, between_marks, model_of
from bandwidth.work import OPERANDS, Work, works
from determinism.calls import Kind, shape_and_type
from determinism.numbers import numbers
from gpu_events import GpuEvent, events_in

from onnxsd.artifact.manifest import LatentRecord
from onnxsd.errors import BadInputError, VerificationError
from onnxsd.models import catalogue
from onnxsd.models.components import Blueprint, component
from onnxsd.models.twin import twin_of
from onnxsd.ops.operators import OPERATORS, OWN
from onnxsd.tensors import DType

LATENT = LatentRecord(
    denoiser="unet", prediction_type="epsilon", in_channels=4, channels=4, factor=8, scaling_factor=0.13
)
MIB = 1 << 20
SCRIPT = Path(__file__).parents[1] / "scripts" / "measure_kernels.py"


@functools.cache
def works_of(name: str, size: int, *, tiny: bool = False) -> tuple[Work, ...]:
    pipeline = twin_of(catalogue.load(name), depth=3) if tiny else catalogue.load(name)

    def blueprint(part: str) -> Blueprint:
        source = component(part)
        return Blueprint(component=source, config=pipeline.models[source.source], time_ids=pipeline.time_ids)

    return works(blueprint, LATENT, size)


def only(found: Sequence[Work], operator: str, shape: str) -> Work:
    (work,) = [work for work in found if (work.operator, str(work)) == (operator, shape)]
    return work


def tried_on_a_cpu(name: str, size: int) -> list[Work]:
    """The calls of a twin; only the VAE's real head is too wide for stock attention, and has a softmax."""
    softmax = [work for work in works_of(name, size) if work.operator == "RowSoftmax"]
    return [*works_of(name, size, tiny=True), *softmax]


# 72 pixels are 9 of the latent: what is upsampled is cut.
@pytest.mark.parametrize("name", ["sdxl-base-1.0", "sd-1.5"])
@pytest.mark.parametrize("size", [64, 72])
def test_stock_operators_do_the_same(name: str, size: int) -> None:
    for work in tried_on_a_cpu(name, size):
        draw = functools.partial(numbers, work.found.call)
        feeds = {
            f"x{index}": draw(index)
            for index, operand in work.operands.values()
            if operand.kind is Kind.ACTIVATION
        }
        own = run(model_of(work, own=True), feeds)
        stock = run(
            stock_model(work, draw, DType.FLOAT32),
            {place: array.astype(np.float32) for place, array in feeds.items()},
        )

        assert {f"y{index}" for role, (index, _) in work.outputs.items() if role != "scratch"} == set(stock)
        for output, expected in stock.items():
            assert relative_error(own[output].reshape(-1), expected.reshape(-1)) <= 2e-3, (str(work), output)


def test_every_own_operator_is_known_and_tried() -> None:
    """A new one needs its operands' roles here, and what stock operators do instead."""
    tried = {work.operator for size in (64, 72) for work in tried_on_a_cpu("sdxl-base-1.0", size)}

    assert {name for name, known in OPERATORS.items() if known.domain == OWN} == tried == set(OPERANDS)


@pytest.mark.parametrize(
    ("graph", "operator", "shape", "count", "moved"),
    [
        # Half of it is written; the bias has 10,240 numbers.
        ("step", "GEGLU", "2×1024×10240 + bias", 60, 60 * MIB + 20480),
        # One is read and two are written; γ, β and the bias are float16.
        ("step", "FusedLayerNorm", "2×1024×1280 + bias → y, sum", 6, 15 * MIB + 3 * 2560),
        # Map and rows are read twice. γ and β are float32; rows and bias float16. The scratch is not counted.
        ("step", "FusedGroupNorm", "2×64×64×640 + rows + bias", 5, 30 * MIB + 3 * 2560 + 3 * 1280),
        ("step", "FusedConcat", "2×128×128×640 | 320", 1, 120 * MIB),
        ("decode", "Interleave", "1×513×513×1024 + bias", 1, 512 * MIB + 513 * 513 * 2048 + 512),
    ],
)
def test_bytes_and_counts_at_real_sizes(
    graph: str, operator: str, shape: str, count: int, moved: int
) -> None:
    work = only([work for work in works_of("sdxl-base-1.0", 1024) if work.graph == graph], operator, shape)

    assert work.count == count
    assert work.moved_bytes == moved


def test_buffers_have_room_for_either_side() -> None:
    for work in works_of("sdxl-base-1.0", 256):
        draw = functools.partial(numbers, work.found.call)
        for model in (model_of(work, own=True), stock_model(work, draw)):
            inputs, outputs = (
                sum(np.prod(shape) * dtype.size_bytes for shape, dtype in map(shape_and_type, values))
                for values in (model.graph.inputs, model.graph.outputs)
            )
            assert inputs <= work.buffers_bytes[0]
            assert outputs <= work.buffers_bytes[1]


def test_stock_models_end_without_a_view() -> None:
    """ONNX Runtime would copy a view that is a graph's output, which no whole graph has to."""
    for work in works_of("sdxl-base-1.0", 256):
        model = stock_model(work, functools.partial(numbers, work.found.call))
        made = [output.producer() for output in model.graph.outputs]

        assert all(node is not None and node.op_type != "Reshape" for node in made)
        assert all(node.outputs[0].uses() or node.outputs[0].is_graph_output() for node in model.graph)


def test_a_large_convolution_adds_its_bias_itself() -> None:
    large = only(works_of("sdxl-base-1.0", 1024), "FusedGroupNorm", "1×1024×1024×128 + bias")
    small = only(works_of("sdxl-base-1.0", 1024), "FusedGroupNorm", "1×128×128×512 + bias")

    held = [
        [node.op_type for node in model_of(work, own=False).graph if node.op_type != "Reshape"]
        for work in (large, small)
    ]
    assert held == [["GroupNorm"], ["SkipGroupNorm"]]


def event(name: str, start_us: float, us: float = 1.0) -> GpuEvent:
    return GpuEvent(name=name, start_us=start_us, us=us)


def test_events_of_a_trace_are_those_of_the_gpu_in_order() -> None:
    kinds = [
        ("kernel", "b", 5.25),
        ("cuda_runtime", "launch", 1),
        ("gpu_memset", "a", 2),
        ("gpu_memcpy", "c", 9),
    ]
    entries = [{"ph": "X", "cat": kind, "name": name, "ts": ts, "dur": 0.5} for kind, name, ts in kinds]
    trace = json.dumps({"traceEvents": [*entries, {"ph": "M", "name": "process_name", "ts": 0}]})

    assert events_in(trace) == (event("a", 2, 0.5), event("b", 5.25, 0.5), event("c", 9, 0.5))


class Gpu:
    """What a GPU would record of calls, the time going on by 10 with each event."""

    def __init__(self) -> None:
        self.events: list[GpuEvent] = []

    def does(self, name: str, us: float = 1.0) -> None:
        self.events.append(event(name, 10.0 * len(self.events), us))


def test_runs_are_told_apart_by_marks() -> None:
    gpu = Gpu()
    watch = Stopwatch(mark=lambda: gpu.does("mark"), flush=lambda: gpu.does("read"), runs=3)
    lengths = iter([90.0, 90.0, 90.0, 7.0, 3.0, 5.0])

    def two_kernels() -> None:
        gpu.does("sums", next(lengths))
        gpu.does("norm", 2.0)

    gpu.does("mark")
    watch.run((0, "own"), two_kernels, cold=True)
    watch.run((0, "stock"), lambda: gpu.does("slow", 50.0), cold=False)
    watch.run((1, "own"), lambda: None, cold=False)
    gpu.does("something after it")

    # The first three runs warm up. Reading other memory is nobody's time. What launches nothing has none.
    assert watch.timings(gpu.events) == {
        (0, "own"): Timing(us=7.0, kernels=("sums", "norm")),
        (0, "stock"): Timing(us=50.0, kernels=("slow",)),
    }
    assert sum(each.name == "read" for each in gpu.events) == 3


def test_a_record_with_gaps_is_refused() -> None:
    gpu = Gpu()
    watch = Stopwatch(mark=lambda: gpu.does("mark"), flush=lambda: None, runs=4)
    gpu.does("mark")
    watch.run((0, "own"), lambda: gpu.does("norm"), cold=False)

    assert len(between_marks(gpu.events, "mark")) == 4
    with pytest.raises(VerificationError, match="4 runs were made and 3 are in"):
        watch.timings(gpu.events[:-3])
    with pytest.raises(VerificationError, match="4 runs were made and 0 are in"):
        watch.timings([])


def measured(found: Sequence[Work], *, without: int | None = None) -> Measured:
    """Each call at 3.2 TB/s, stock at half of it; copies at 4."""
    timings = {
        (place, which): Timing(us=factor * work.moved_bytes / 3.2e6, kernels=("one",))
        for place, work in enumerate(found)
        for which, factor in (("own", 1), ("stock", 2))
        if (place, which) != (without, "stock")
    }
    for when, rate in ((BEFORE, 4.0), (AFTER, 3.9)):
        timings[64 * MIB, when] = Timing(us=2 * 64 * MIB / rate / 1e6, kernels=("copy",))
    return Measured(gpu="a GPU", cache_bytes=50 * MIB, timings=timings)


def test_made_up_times_become_shares_and_ratios() -> None:
    found = works_of("sdxl-base-1.0", 1024)
    timed = measured(found)
    text = as_text(rows(found, timed), timed, markdown=True)
    (geglu,) = [line for line in text.splitlines() if "2×1024×10240" in line]
    (norm,) = [line for line in text.splitlines() if "2×32×32×1280 + rows" in line]

    assert copy_rate(timed) == pytest.approx(4.0)
    assert "64 MiB before 4.00, 64 MiB after 3.90" in text
    # 60 MiB in 19.67 µs, 60 times.
    assert geglu == "| GEGLU | 2×1024×10240 + bias | 60 | 19.7 | 3.20 | 80% | 39.3 | 2.00 | 1.180 |"
    # Three times 5 MiB lie in the cache.
    assert "| 3.20 | (80%) |" in norm
    calls = as_json(rows(found, timed), timed)["calls"]
    assert len(calls) == len(found)
    assert {call["exceeds_cache"] for call in calls} == {True, False}
    assert json.loads(json.dumps(calls))[0]["share"] == pytest.approx(0.8)


@pytest.mark.parametrize("markdown", [True, False])
@pytest.mark.parametrize(("name", "size"), [("sdxl-base-1.0", 1024), ("sd-1.5", 512)])
def test_tables_fit_a_screen_and_leave_no_time_out(name: str, size: int, markdown: bool) -> None:
    found = works_of(name, size)
    timed = measured(found)
    lines = as_text(rows(found, timed), timed, markdown=markdown).splitlines()
    moved = sum(work.count * work.moved_bytes for work in found if work.graph == "step")
    (whole,) = [
        line.replace("|", " ").split()
        for line in lines
        if line.replace("|", " ").split()[:2] == ["step", "all"]
    ]

    assert len(lines) <= 60
    assert max(map(len, lines)) <= 140
    assert float(whole[3]) == pytest.approx(moved / 3.2e9, abs=1e-3)


def test_what_did_not_run_is_a_dash() -> None:
    found = works_of("sdxl-base-1.0", 64, tiny=True)[:1]
    timed = measured(found, without=0)
    text = as_text(rows(found, timed), timed, markdown=True)

    assert "| – | – |" in text
    assert as_json(rows(found, timed), timed)["calls"][0]["stock_us"] is None


def test_what_is_no_export_is_an_error_of_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, timeout=120
    )

    assert done.returncode == BadInputError.exit_code
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
