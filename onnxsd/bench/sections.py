"""A report as sections of words and tables, which a terminal and a document both show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onnxsd.bench import figures
from onnxsd.bench.report import OURS, Case, CaseReport, ContenderReport, ModelReport, Report
from onnxsd.bench.runner import EFFORTS
from onnxsd.session import Provider

NONE = "–"
GIGA, MIB, TERA = 1e9, 2**20, 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One case of one model: a table with a row a figure and a column a contender, and words around it."""

    title: str
    words: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A row that each contender has one value of."""

    title: str
    of: Callable[[ContenderReport, CaseReport, Case], float | None]
    unit: float = 1.0
    digits: str = ".2f"


def sections(report: Report) -> tuple[Section, ...]:
    """Every case of every model, in the order in which they were asked for."""
    return tuple(
        Section(
            title=f"{model.name}, {work.case}",
            words=(_model_words(model),) if work is model.workloads[0] else (),
            columns=("", "floor", *(entry.name for entry in model.contenders)),
            rows=tuple(_rows(report, model, work.case)),
            notes=(*_noise(model, work.case), *_failures(model, work.case)),
        )
        for model in report.models
        for work in model.workloads
    )


def preamble(report: Report) -> tuple[str, ...]:
    """Machine, versions, how it was measured: a paragraph each."""
    machine, gpu = report.machine, report.machine.gpu
    host = f"{machine.processor}, {machine.cores} cores, {machine.system}, Python {machine.python}"
    where = (
        f"{report.created[:10]}. {_gpu_words(report)}{host}." if gpu else f"{report.created[:10]}. {host}."
    )
    lines = [where, _versions(report), _kernels(report), _method(report)]
    if report.interrupted:
        lines.append("Interrupted: what follows is what was measured until then.")
    return tuple(line for line in (*lines, *report.notes) if line)


def _gpu_words(report: Report) -> str:
    gpu = report.machine.gpu
    assert gpu is not None
    words = [gpu.name, f"driver {gpu.driver}"]
    if gpu.cuda is not None:
        words.append(f"CUDA {gpu.cuda}")
    if gpu.power_limit_w is not None:
        words.append(f"power limit {gpu.power_limit_w:.0f} W")
    if gpu.sm_clock_mhz:
        low, middle, high = gpu.sm_clock_mhz
        words.append(f"{middle} MHz while busy ({low}–{high}, at most {gpu.sm_clock_max_mhz})")
    return ", ".join(words) + "; "


def _versions(report: Report) -> str:
    """Each contender's packages; a contender that has the same as the one before is left out."""
    told: dict[str, str] = {}
    for model in report.models:
        for entry in model.contenders:
            text = ", ".join(f"{package.name} {package.version}" for package in entry.versions)
            if text and text not in told.values():
                told.setdefault(entry.name, text)
    return "; ".join(f"{name}: {text}" for name, text in told.items()) + "." if told else ""


def _kernels(report: Report) -> str:
    """On whose kernels each process of onnxsd ran; nothing where there was no choice."""
    entries = [entry for model in report.models for entry in model.contenders]
    told = {entry.name: entry.kernels for entry in entries if entry.kernels is not None}
    return f"Kernels: {'; '.join(f'{name}: {text}' for name, text in told.items())}." if told else ""


def _method(report: Report) -> str:
    rate = figures.rate(report.ceiling)
    order = (
        "one contender after another"
        if any(model.in_turn for model in report.models)
        else "each contender in a process of its own, all of them in turn in each round"
    )
    words = f"{_rounds(report)}, {order}; the whole run took {report.seconds:.0f} s."
    if rate is not None and report.ceiling is not None:
        side, dtype = report.ceiling.rows, report.ceiling.dtype
        words += (
            f" The floor is the arithmetic over {rate / TERA:.3g} TFLOP/s, the rate of {side}³ {dtype}"
            " matrix products through ONNX Runtime in this run."
        )
    return words


def _rounds(report: Report) -> str:
    """How many were asked for, and how many were finished where those are fewer."""
    asked = report.settings.rounds
    images = EFFORTS[Provider(report.settings.provider)].images
    cases = [case for model in report.models for entry in model.contenders for case in entry.cases]
    done = max((len(case.image_s) // images for case in cases), default=0)
    of = f"{done} of {asked}" if done < asked else str(asked)
    return f"{of} round{'s' if asked > 1 else ''}"


def _model_words(model: ModelReport) -> str:
    words = f"Weights: {model.weights}. {model.steps} steps, guidance {model.guidance_scale:g}."
    if model.checkpoint_s is not None:
        words += f" The checkpoint was written in {model.checkpoint_s:.0f} s."
    if model.export_s is not None:
        words += f" The export took {model.export_s:.1f} s"
        if model.export_peak_bytes is not None:
            words += f" and {model.export_peak_bytes / MIB:,.0f} MiB at its peak"
        words += "."
    return words


def _rows(report: Report, model: ModelReport, case: Case) -> Iterator[tuple[str, ...]]:
    batch = f"a batch of {case.batch}, " if case.batch > 1 else ""
    yield from _time_rows(report, model, case, "unet", "UNet step, ms", 1e3, ".2f")
    yield from _time_rows(report, model, case, "vae", "VAE decode, ms", 1e3, ".2f")
    title = f"{batch}{model.steps} steps, prompt to pixels, s"
    yield from _time_rows(report, model, case, "image", title, 1.0, ".3f")
    for figure in _FIGURES:
        values = [figure.of(entry, entry.case(case), case) for entry in model.contenders]
        if any(value is not None for value in values):
            cells = (_cell(value, figure.unit, figure.digits) for value in values)
            yield (figure.title, "", *cells)


def _time_rows(
    report: Report, model: ModelReport, case: Case, kind: str, title: str, unit: float, digits: str
) -> Iterator[tuple[str, ...]]:
    """Median, tail, ratio to the floor, and how much faster onnxsd is."""
    floor = figures.floor_s(kind, model, case, report.ceiling)
    samples = [figures.TIMES[kind](entry.case(case)) for entry in model.contenders]
    medians = [figures.median(found) for found in samples]
    faster = [figures.faster(model, case, kind, entry.name) for entry in model.contenders]
    yield (title, _cell(floor, unit, digits), *(_cell(found, unit, digits) for found in medians))
    yield ("  95 % within", "", *(_cell(figures.p95(found), unit, digits) for found in samples))
    if floor is not None:
        yield ("  times the floor", "1", *(_cell(figures.times_floor(m, floor)) for m in medians))
    shown = (
        NONE if entry.name == OURS else _cell(ratio, 1.0, ".3f")
        for entry, ratio in zip(model.contenders, faster, strict=True)
    )
    yield ("  onnxsd is faster, times", "", *shown)


def _cell(value: float | None, unit: float = 1.0, digits: str = ".2f") -> str:
    return NONE if value is None else format(value * unit, digits)


def _beyond_steady(_: ContenderReport, case: CaseReport, __: Case) -> float | None:
    steady = figures.median(case.image_s)
    return None if steady is None or case.first_image_s is None else case.first_image_s - steady


def _cold_start(entry: ContenderReport, case: CaseReport, _: Case) -> float | None:
    first = entry.cases[0].case if entry.cases else None
    return entry.cold_start_s if case.case == first else None


def _joules(_: ContenderReport, found: CaseReport, case: Case) -> float | None:
    joules = figures.median(found.image_joules)
    return None if joules is None else joules / case.batch


_FIGURES = (
    Figure(title="process start to first image, s", of=_cold_start),
    Figure(title="first image of this size, beyond a steady one, s", of=_beyond_steady),
    Figure(
        title="peak GPU memory, GB",
        of=lambda _, found, __: found.peak_gpu_bytes,
        unit=1 / GIGA,
    ),
    Figure(
        title="peak host memory, MiB",
        of=lambda _, found, __: found.peak_host_bytes,
        unit=1 / MIB,
        digits=",.0f",
    ),
    Figure(title="energy, J an image", of=_joules, digits=".0f"),
    Figure(title="UNet, relative error to float32", of=lambda _, f, __: f.unet_error, digits=".2e"),
    Figure(title="  two runs differ by", of=lambda _, f, __: f.unet_repeat, digits=".2e"),
    Figure(title="VAE, relative error to float32", of=lambda _, f, __: f.vae_error, digits=".2e"),
    Figure(title="  two runs differ by", of=lambda _, f, __: f.vae_repeat, digits=".2e"),
)


def _noise(model: ModelReport, case: Case) -> Iterator[str]:
    """How far two processes of onnxsd lie apart in this very case."""
    apart = {kind: figures.noise(model, case, kind) for kind in figures.TIMES}
    known = [f"{kind} {100 * share:.1f} %" for kind, share in apart.items() if share is not None]
    if known:
        yield f"Noise, by how much two processes of onnxsd differ: {', '.join(known)}."


def _failures(model: ModelReport, case: Case) -> Iterator[str]:
    """Who is missing in a case; one that failed altogether is named with the first."""
    is_first = case == model.workloads[0].case
    for entry in model.contenders:
        failure = entry.case(case).failure or (entry.failure if is_first else None)
        if failure is not None:
            yield f"{entry.name}: {failure}"
