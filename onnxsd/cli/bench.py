"""`onnxsd bench`: this machine's times, beside those of others on the same GPU."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

# Options that a saved report goes with; the others say how to measure.
SHOWING = frozenset({"saved", "output", "chart", "docs", "as_json", "debug"})


def _numbers(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Positive whole numbers with commas between them."""
    parts = [part.strip() for part in (value or "").split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{value!r} is no list of numbers, as 512,1024")
    return tuple(dict.fromkeys(map(int, parts)))


def _names(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


def _pythons(
    _ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """CONTENDER=EXE as pairs."""
    pairs = [value.partition("=") for value in values]
    if not all(name and equals and exe for name, equals, exe in pairs):
        raise click.BadParameter("it is CONTENDER=EXE, as optimum=/opt/optimum/bin/python")
    return tuple((name, exe) for name, _, exe in pairs)


def _measuring(context: click.Context) -> tuple[str, ...]:
    """The options in a command line that say how to measure."""
    return tuple(
        option.opts[0]
        for option in context.command.params
        if option.name
        and option.name not in SHOWING
        and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    )


@click.command("bench")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="An alias, a Hub id or a folder in diffusers' layout; repeatable.",
)
@click.option(
    "--random",
    "randoms",
    multiple=True,
    metavar="NAME",
    help="An architecture (sdxl, sd15, …) with seeded random weights; repeatable.",
)
@click.option(
    "--export",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="An export of the one model, in place of a new one.",
)
@click.option("--provider", type=click.Choice(["cuda", "cpu", "auto"]), default="auto", show_default=True)
@click.option("--device", type=click.IntRange(min=0), default=0, show_default=True, help="Which GPU.")
@click.option(
    "--size", "sizes", callback=_numbers, metavar="N,…", help="Pixels a side; by default the model's own."
)
@click.option(
    "--batch",
    "batches",
    callback=_numbers,
    default="1",
    show_default=True,
    metavar="N,…",
    help="Images at once.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Denoising steps; by default the model's own.")
@click.option("--guidance-scale", type=float, help="By default the model's own; 1 is off.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--contenders", callback=_names, metavar="A,B,…", help="Who takes part beside onnxsd.")
@click.option(
    "--long", is_flag=True, help="With torch.compile's max-autotune too, which compiles for minutes."
)
@click.option(
    "--python",
    "pythons",
    callback=_pythons,
    multiple=True,
    metavar="NAME=EXE",
    help="The interpreter of a contender, where it needs an environment of its own; repeatable.",
)
@click.option("--in-turn", is_flag=True, help="One contender after another, where they do not fit together.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="Seconds that one command to a contender may take.",
)
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for checkpoints, exports and logs, kept; by default a temporary one.",
)
@click.option(
    "--from",
    "saved",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Show a saved report instead of measuring; repeatable.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JSON."
)
@click.option("--chart", type=click.Path(dir_okay=False, path_type=Path), help="Draw it into FILE.png.")
@click.option(
    "--write-docs",
    "docs",
    is_flag=False,
    flag_value="docs/performance.md",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="[FILE]",
    help="Write the tables between the markers of a document, by default docs/performance.md.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def command(
    models: tuple[str, ...],
    randoms: tuple[str, ...],
    export: Path | None,
    provider: str,
    device: int,
    sizes: tuple[int, ...],
    batches: tuple[int, ...],
    steps: int | None,
    guidance_scale: float | None,
    rounds: int,
    contenders: tuple[str, ...],
    long: bool,
    pythons: tuple[tuple[str, str], ...],
    in_turn: bool,
    timeout: float,
    work: Path | None,
    saved: tuple[Path, ...],
    output: Path | None,
    chart: Path | None,
    docs: Path | None,
    as_json: bool,
) -> None:
    """Measure this machine, beside other ways to run the same model.

    Each contender runs in a process of its own on the same device, in interleaved rounds; everything is
    compared with the floor that the arithmetic sets, and every output with float32.
    """
    from onnxsd.bench import chart as charts
    from onnxsd.bench import documents
    from onnxsd.bench.report import load, save
    from onnxsd.cli import benching
    from onnxsd.errors import UsageError

    if chart is not None:
        charts.require()
    if saved and (given := _measuring(click.get_current_context())):
        raise UsageError("--from shows what was measured", hint=f"leave {', '.join(given)} out")
    if len(saved) > 1 and (as_json or output or chart):
        raise UsageError("--json, -o and --chart are of one report", hint="give --from once")
    if saved:
        reports = tuple(load(path) for path in saved)
        if output is not None:
            save(reports[0], output)
    else:
        asked = benching.Asked(
            models=models,
            randoms=randoms,
            export=export,
            provider=provider,
            device=device,
            sizes=sizes,
            batches=batches,
            steps=steps,
            guidance_scale=guidance_scale,
            rounds=rounds,
            contenders=contenders,
            long=long,
            pythons=dict(pythons),
            in_turn=in_turn,
            timeout_s=timeout,
            work=work,
            output=output,
        )
        reports = (benching.measure(asked),)
    benching.show(reports, as_json=as_json)
    if chart is not None:
        charts.draw(reports[0], chart)
    if docs is not None:
        documents.write(docs, reports)
    raise SystemExit(benching.exit_code(reports, measured=not saved))
