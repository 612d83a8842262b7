"""What `bench` does between its options and its output: settle what is asked, measure, show."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from onnxsd.bench.helpers import resolve_provider
from onnxsd.bench.prepare import Say, Wanted
from onnxsd.bench.report import Report, Settings, save, text_of
from onnxsd.bench.roster import chosen, entry
from onnxsd.bench.run import Bench
from onnxsd.bench.sections import Section, preamble, sections
from onnxsd.cli.errors import INTERRUPTED
from onnxsd.errors import ResourceError, UsageError
from onnxsd.session import Provider

PROMPT, SEED = "a red circle on a white background", 7
BUILTIN = "shapes"
# What else runs in a process of its own and may need another interpreter.
HELPERS = ("reference", "weights")
# A table has its own width: in a pipe it is not broken.
WIDTH_IN_A_PIPE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for."""

    models: tuple[str, ...]
    randoms: tuple[str, ...]
    export: Path | None
    provider: str
    device: int
    sizes: tuple[int, ...]
    batches: tuple[int, ...]
    steps: int | None
    guidance_scale: float | None
    rounds: int
    contenders: tuple[str, ...]
    long: bool
    pythons: Mapping[str, str]
    in_turn: bool
    timeout_s: float
    work: Path | None
    output: Path | None

    @property
    def command(self) -> str:
        """The command that measures the same again, without what only says where files go."""
        options: dict[str, object] = {
            "--provider": self.provider,
            "--size": _listed(self.sizes),
            "--batch": _listed(self.batches),
            "--steps": self.steps,
            "--guidance-scale": self.guidance_scale,
            "--rounds": self.rounds,
            "--contenders": _listed(self.contenders),
        }
        words = ["onnxsd", "bench"]
        # A folder's place is this machine's alone.
        words += [
            word
            for name in self.models
            for word in ("--model", Path(name).name if Path(name).is_dir() else name)
        ]
        words += [word for name in self.randoms for word in ("--random", name)]
        given = ((name, value) for name, value in options.items() if value not in (None, ""))
        words += [word for name, value in given for word in (name, str(value))]
        words += [name for name, on in (("--long", self.long), ("--in-turn", self.in_turn)) if on]
        return shlex.join(words)


def _listed(values: Sequence[object]) -> str:
    return ",".join(map(str, values))


def measure(asked: Asked) -> Report:
    """The report of what was asked; it is written to `output` as it grows, so that Ctrl-C keeps it."""
    say = _clocked()
    wanted = _wanted(asked, say)
    for name in asked.contenders:
        entry(name)  # a wrong name is said before anything is started
    with _work_folder(asked.work) as work:
        provider, reason = resolve_provider(asked.provider, asked.device, work, asked.timeout_s)
        say(f"measuring on {provider}: {reason}")
        taking_part = chosen(asked.contenders, Provider(provider), long=asked.long)
        _check_pythons(asked, (*(one.name for one in taking_part), *HELPERS))
        settings = Settings(
            provider=provider,
            device_id=asked.device,
            sizes_px=asked.sizes,
            batches=asked.batches or (1,),
            steps=asked.steps,
            guidance_scale=asked.guidance_scale,
            rounds=asked.rounds,
            contenders=tuple(one.name for one in taking_part),
            in_turn=asked.in_turn,
            timeout_s=asked.timeout_s,
            prompt=PROMPT,
            seed=SEED,
        )
        bench = Bench(
            settings,
            command=asked.command,
            work=work,
            pythons=asked.pythons,
            say=say,
            keep=lambda report: save(report, asked.output) if asked.output is not None else None,
        )
        return bench.run(wanted)


def _wanted(asked: Asked, say: Say) -> tuple[Wanted, ...]:
    wanted = (
        *(Wanted(name=name, export=asked.export) for name in asked.models),
        *(Wanted(name=name, random=True, export=asked.export) for name in asked.randoms),
    )
    if asked.export is not None and len(wanted) != 1:
        raise UsageError(f"--export is of one model, and {len(wanted)} were named")
    if not wanted:
        say(f"no model is named: taking the built-in {BUILTIN}; --random sdxl is of full size")
        return (Wanted(name=BUILTIN),)
    return wanted


def _check_pythons(asked: Asked, names: tuple[str, ...]) -> None:
    unknown = sorted(set(asked.pythons) - set(names))
    if unknown:
        raise UsageError(
            f"--python names {unknown[0]}, which does not take part", hint=f"taking part: {', '.join(names)}"
        )


@contextlib.contextmanager
def _work_folder(asked: Path | None) -> Iterator[Path]:
    if asked is None:
        with tempfile.TemporaryDirectory(prefix="onnxsd-bench-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    try:
        asked.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make {asked}: {error.strerror or error}") from error
    yield asked.resolve()


def _clocked() -> Say:
    started = time.perf_counter()
    return lambda line: click.echo(f"[{time.perf_counter() - started:6.1f} s] {line}", err=True)


def show(reports: Sequence[Report], *, as_json: bool) -> None:
    """The tables on stdout, or the JSON object that they are rendered from."""
    if as_json:
        click.echo(text_of(reports[0]), nl=False)
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_IN_A_PIPE)
    for report in reports:
        for line in preamble(report):
            console.print(line, highlight=False, markup=False)
        for section in sections(report):
            _print(console, section)


def _print(console: Console, section: Section) -> None:
    table = Table(title=section.title, title_justify="left")
    for at, column in enumerate(section.columns):
        table.add_column(column, justify="right" if at else "left", no_wrap=True)
    for row in section.rows:
        table.add_row(*row)
    console.print()
    console.print(table)
    for line in (*section.words, *section.notes):
        console.print(line, highlight=False, markup=False)


def exit_code(reports: Sequence[Report], *, measured: bool) -> int:
    """1 where onnxsd itself failed, 130 after Ctrl-C; showing what was saved is always 0."""
    if not measured:
        return 0
    if any(report.interrupted for report in reports):
        return INTERRUPTED
    return int(any(report.failed for report in reports))
