"""Prove the doctor's recommendation against pip: for every machine of a grid both must name the same release.

Usage: python scripts/check_against_pip.py [--write] [--recorded]

pip is asked which releases of onnxruntime-gpu it would install for each Python and system (`pip index
versions` with `--platform`, which downloads nothing); of these the newest that the driver and the GPU allow
is what the recommendation has to name. What they allow is read from the facts of the wheels in
compat_matrix.yaml by the rules in `capped` below, not by the doctor's code. `--recorded` takes pip's answers
from tests/pip_answers.json; `--write` writes those answers and docs/check_against_pip.md. Exits with 1 where
the two differ.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.progress import track

from onnxsd import doctor, machine, matrix

ROOT = Path(__file__).parents[1]
ANSWERS = ROOT / "tests" / "pip_answers.json"
FACTS = ROOT / "compat_matrix.yaml"
PAGE = ROOT / "docs" / "check_against_pip.md"
PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t")
DRIVERS = (
    "450.80.02",
    "470.82.01",
    "525.60.13",
    "535.104.05",
    "550.54.15",
    "570.86.10",
    "580.65.06",
    "590.44.01",
)
GPUS = ("6.1", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1")
LEGACY_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 599, 571, 513

Facts = dict[str, Any]  # a row of compat_matrix.yaml as it stands in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A system: what the doctor is told of it, and every platform tag that pip takes there."""

    name: str
    platform: str
    settings: tuple[str, ...]
    tags: tuple[str, ...]


def linux(arch: str, minor: int) -> Place:
    """A Linux with glibc 2.minor; pip on it takes every older manylinux too."""
    oldest = 17 if arch == "aarch64" else 5
    minors = range(minor, oldest - 1, -1)
    named = (f"{LEGACY_NAMES[at]}_{arch}" for at in minors if at in LEGACY_NAMES)
    return Place(
        name=f"manylinux_2_{minor}_{arch}",
        platform=f"linux_{arch}",
        settings=("os=linux", f"arch={arch}", f"glibc=2.{minor}"),
        tags=(*(f"manylinux_2_{at}_{arch}" for at in minors), *named),
    )


PLACES = (
    *(linux("x86_64", minor) for minor in (17, 24, 26, 27, 28, 31, 34, 35, 36, 39)),
    Place(
        name="musllinux_1_2_x86_64",
        platform="linux_x86_64",
        settings=("os=linux", "arch=x86_64", "musl=1.2"),
        tags=("musllinux_1_2_x86_64", "musllinux_1_1_x86_64", "musllinux_1_0_x86_64"),
    ),
    Place(
        name="win_amd64",
        platform="windows_x86_64",
        settings=("os=windows", "arch=x86_64"),
        tags=("win_amd64",),
    ),
    *(linux("aarch64", minor) for minor in (28, 31, 34, 39)),
)
Answers = dict[tuple[str, str], tuple[str, ...]]  # by place and Python: releases, newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One machine of the grid, and what pip with the cap, and the doctor, say of it."""

    place: str
    python: str
    driver: str
    gpu: str
    pip: str | None
    doctor: str | None


def main() -> int:
    """Compare, say where the two differ, and write the page; 1 for any difference."""
    asked = _arguments()
    record = json.loads(ANSWERS.read_text(encoding="utf-8")) if asked.recorded else ask_all()
    facts = yaml.safe_load(FACTS.read_text(encoding="utf-8"))
    grid = list(itertools.product(PLACES, PYTHONS))
    base, known, answers = machine.snapshot(probe=False), matrix.load(), answers_of(record)
    rows = [
        row
        for place, python in track(grid, description="judging", disable=not sys.stderr.isatty())
        for row in compare(base, place, python, answers[place.name, python], facts, known)
    ]
    wrong = [row for row in rows if row.pip != row.doctor]
    for row in wrong:
        print(f"{row}", file=sys.stderr)
    print(f"{len(rows)} machines, {len(wrong)} differ")
    if asked.write:
        ANSWERS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page(rows, record), encoding="utf-8")
    return int(bool(wrong))


def ask_all() -> Facts:
    """pip's answer for every place and Python, equal lists of releases together."""
    version = subprocess.run([*_pip(), "--version"], capture_output=True, text=True, check=True).stdout
    pairs = list(itertools.product(PLACES, PYTHONS))
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        answers = pool.map(lambda pair: ask_pip(*pair), pairs)
        shown = track(answers, "asking pip", total=len(pairs), disable=not sys.stderr.isatty())
        found = dict(zip(pairs, shown, strict=True))
    groups: dict[tuple[str, ...], list[str]] = {}
    for (place, python), versions in found.items():
        groups.setdefault(versions, []).append(f"{place.name} {python}")
    return {
        "asked": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "pip": version.split()[1],
        "answers": [{"for": where, "releases": list(given)} for given, where in groups.items()],
    }


def ask_pip(place: Place, python: str) -> tuple[str, ...]:
    """The releases of onnxruntime-gpu that pip would install there, newest first; none is an answer too."""
    options = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python.rstrip('t')}"]
    options += [f"--abi=cp{python.replace('.', '')}", *(f"--platform={tag}" for tag in place.tags)]
    command = [*_pip(), "index", "versions", "onnxruntime-gpu", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return tuple(json.loads(done.stdout)["versions"])
    if "No matching distribution found for onnxruntime-gpu" in done.stderr:
        return ()
    raise SystemExit(f"pip could not answer for {place.name} and Python {python}: {done.stderr.strip()}")


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip"]


def answers_of(record: Facts) -> Answers:
    """The recorded answers by place and Python."""
    pairs = ((where.split(), tuple(one["releases"])) for one in record["answers"] for where in one["for"])
    return {(place, python): releases for (place, python), releases in pairs}


def compare(
    base: machine.Machine,
    place: Place,
    python: str,
    answer: Sequence[str],
    facts: Facts,
    known: matrix.Matrix,
    *,
    drivers: Sequence[str] = DRIVERS,
    gpus: Sequence[str] = GPUS,
) -> Iterator[Row]:
    """Every driver and GPU in one place with one Python."""
    threads = f"free_threaded={str(python.endswith('t')).lower()}"
    there = machine.with_settings(
        base, [*place.settings, f"python={python.rstrip('t')}", threads, "pip=26.0"]
    )
    for driver, gpu in itertools.product(drivers, gpus):
        seen = machine.with_settings(there, [f"driver={driver}", f"gpu=A GPU:{gpu}"])
        best = doctor.recommend(seen, known, matrix.Goal.GENERATE, feeds=False, ways=False)
        yield Row(
            place=place.name,
            python=python,
            driver=driver,
            gpu=gpu,
            pip=capped(answer, place, driver, gpu, facts),
            doctor=str(best.version) if best else None,
        )


def capped(releases: Sequence[str], place: Place, driver: str, gpu: str, facts: Facts) -> str | None:
    """The newest of pip's releases that the driver runs and that has code for the GPU.

    A build for a CUDA major needs that major's oldest driver. `86` in `sass` is machine code for 8.6 and
    later minors of 8; `80` in `ptx` is compiled on anything later by a driver that is as new as the toolkit
    that made it; `90a` in either serves 9.0 alone. What nobody read (null) is no limit.
    """
    rows = {row["version"]: row for row in facts["releases"]}
    for version in releases:
        row = rows[version]
        (wheel,) = (one for one in row["wheels"] if one["platform"] == place.platform)
        major = next(one for one in facts["drivers"] if one["major"] == row["cuda_major"])
        oldest = major["windows" if place.platform.startswith("windows") else "linux"]
        if _numbers(driver) >= _numbers(oldest) and _has_code(wheel, row, driver, _numbers(gpu), facts):
            return version
    return None


def _has_code(wheel: Facts, row: Facts, driver: str, gpu: tuple[int, ...], facts: Facts) -> bool:
    if wheel["sass"] is None:
        return True
    for code in wheel["sass"]:
        made_for = _capability(code)
        if made_for == gpu or (code.isdecimal() and made_for[0] == gpu[0] and made_for[1] <= gpu[1]):
            return True
    compiled = any(_capability(code) <= gpu for code in wheel["ptx"] if code.isdecimal())
    branches = {_numbers(one["branch"])[0]: _numbers(one["cuda"]) for one in facts["branches"]}
    offered = max((cuda for branch, cuda in branches.items() if branch <= _numbers(driver)[0]), default=None)
    newer = row["cuda"] is None or offered is None or offered >= _numbers(row["cuda"])
    return compiled and newer


def _capability(code: str) -> tuple[int, ...]:
    digits = code.rstrip("a")
    return int(digits[:-1]), int(digits[-1])


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def page(rows: Sequence[Row], record: Facts) -> str:
    """The comparison as Markdown: what pip takes, then a table for each set of equal rows."""
    wrong = sum(row.pip != row.doctor for row in rows)
    lines = [
        "# The recommendation against pip",
        "",
        f"Written by `scripts/check_against_pip.py --write` on {record['asked']}, with pip {record['pip']}.",
        "",
        f"{len(rows)} machines: {len(PYTHONS)} Pythons, {len(PLACES)} systems, {len(DRIVERS)} drivers, "
        f"{len(GPUS)} GPUs. **{wrong} differ** between the doctor's recommendation (without feeds) and the "
        "newest release that pip takes for the Python and the system and that the driver and the GPU allow.",
        "",
        "## What pip takes",
        "",
        *_table(
            ("system", *PYTHONS),
            ((place.name, *_newest(record, place)) for place in PLACES),
        ),
        "",
        "## What the driver and the GPU leave of it",
        "",
        "Columns are compute capabilities, rows are drivers; a dash stands for no release.",
    ]
    for members, cells in _groups(rows).items():
        lines += ["", "; ".join(members), "", *_table(("driver", *GPUS), cells)]
    return "\n".join(lines) + "\n"


def _newest(record: Facts, place: Place) -> Iterator[str]:
    answers = answers_of(record)
    return ((answers[place.name, python] or ("–",))[0] for python in PYTHONS)


def _groups(rows: Sequence[Row]) -> Mapping[tuple[str, ...], list[tuple[str, ...]]]:
    """Tables of driver × GPU that are equal, with the systems and Pythons that they hold for."""
    tables: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for row in rows:
        said = row.doctor or "–"
        cell = said if row.pip == row.doctor else f"**{said} (pip: {row.pip or '–'})**"
        tables.setdefault((row.place, row.python), {})[row.driver, row.gpu] = cell
    members: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for (place, python), cells in tables.items():
        key = tuple(cells[driver, gpu] for driver, gpu in itertools.product(DRIVERS, GPUS))
        members.setdefault(key, {}).setdefault(place, []).append(python)
    width = len(GPUS)
    return {
        tuple(f"{place} with {', '.join(pythons)}" for place, pythons in where.items()): [
            (driver, *key[at * width : (at + 1) * width]) for at, driver in enumerate(DRIVERS)
        ]
        for key, where in members.items()
    }


def _table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write tests/pip_answers.json and the page")
    parser.add_argument("--recorded", action="store_true", help="take pip's recorded answers")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
