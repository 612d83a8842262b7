"""A report as a picture: a bar for each contender's median, a tick for its tail, a line for the floor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnxsd.bench import figures
from onnxsd.bench.report import OURS, Case, ModelReport, Report
from onnxsd.errors import BadInputError, NotReadyError, ResourceError

TITLES = {
    "unet": ("UNet step, ms", 1e3, "{:.1f}"),
    "vae": ("VAE decode, ms", 1e3, "{:.1f}"),
    "image": ("prompt to pixels, s", 1.0, "{:.2f}"),
}
OURS_COLOUR, OTHERS_COLOUR, FLOOR_COLOUR = "#d1495b", "#8d99ae", "#2b2d42"
PANEL_WIDTH_IN, BAR_HEIGHT_IN, MARGIN_IN, DPI = 4.0, 0.34, 0.95, 150


def require() -> None:
    """Refuse to draw where matplotlib is missing: before the measuring, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise NotReadyError(
            f"a chart needs matplotlib: {error}", hint="pip install 'onnxsd[bench]'"
        ) from error


def draw(report: Report, path: Path) -> None:
    """Write the chart; the ending of the name says the format.

    Raises:
        BadInputError: nothing was measured that could be drawn, or the format is not known.
        NotReadyError: matplotlib is not installed.
        ResourceError: the file cannot be written.
    """
    require()
    from matplotlib.figure import Figure

    panels = [(model, work.case) for model in report.models for work in model.workloads]
    heights = [BAR_HEIGHT_IN * len(_names(model, case)) + MARGIN_IN for model, case in panels]
    if not panels or not any(_names(model, case) for model, case in panels):
        raise BadInputError("no contender was measured, so there is nothing to draw")
    figure = Figure(figsize=(PANEL_WIDTH_IN * len(TITLES), sum(heights) + 0.4), layout="constrained")
    grid = figure.subplots(len(panels), len(TITLES), squeeze=False, gridspec_kw={"height_ratios": heights})
    for (model, case), row in zip(panels, grid, strict=True):
        for kind, axes in zip(TITLES, row, strict=True):
            _panel(axes, report, model, case, kind)
    figure.suptitle(_headline(report), fontsize=10)
    try:
        figure.savefig(path, dpi=DPI)
    except ValueError as error:
        raise BadInputError(f"cannot draw {path}: {error}") from error
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error


def _names(model: ModelReport, case: Case) -> list[str]:
    """The contenders that were measured in a case."""
    return [entry.name for entry in model.contenders if entry.case(case).unet_s]


def _panel(axes: Any, report: Report, model: ModelReport, case: Case, kind: str) -> None:
    title, unit, form = TITLES[kind]
    names = _names(model, case)
    samples = [figures.TIMES[kind](found.case(case)) for found in map(model.contender, names) if found]
    medians = [(figures.median(found) or 0.0) * unit for found in samples]
    tails = [(figures.p95(found) or 0.0) * unit for found in samples]
    colours = [OURS_COLOUR if name.startswith(OURS) else OTHERS_COLOUR for name in names]
    axes.barh(names, medians, color=colours)
    for at, value in enumerate(medians):
        beyond = (max(value, tails[at]), at)
        axes.annotate(form.format(value), beyond, (6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.plot(tails, names, "|", color=FLOOR_COLOUR, markersize=10)
    floor = figures.floor_s(kind, model, case, report.ceiling)
    if floor is not None:
        axes.axvline(floor * unit, color=FLOOR_COLOUR, linestyle="--", linewidth=1)
    axes.set_xlim(0, max([*tails, 1e-9]) * 1.18)
    axes.invert_yaxis()
    axes.set_title(f"{model.name}, {case}: {title}", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _headline(report: Report) -> str:
    machine = report.machine
    where = machine.gpu.name if machine.gpu else machine.processor
    return (
        f"{where}, {report.created[:10]}, onnxsd {report.onnxsd}"
        " — median; tick: 95 % within; dashed: floor of the arithmetic"
    )
