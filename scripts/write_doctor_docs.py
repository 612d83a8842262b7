"""Write docs/doctor.md from the checks, the symptoms and the options themselves, and the README's picture.

Usage: python scripts/write_doctor_docs.py            writes docs/doctor.md and docs/images/doctor.svg
       python scripts/write_doctor_docs.py --check    writes nothing; exits with 1 where one of them is stale
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from doctor_picture import picture_of

from onnxsd.cli.doctor import command
from onnxsd.doctor import CHECKS
from onnxsd.doctor.symptoms import Symptom, catalogue

ROOT = Path(__file__).parents[1]
MACHINE = ROOT / "tests" / "machines" / "old_driver_550.json"  # the picture's
INTRODUCTION = Path(__file__).parent / "doctor_introduction.md"
# `microsoft/onnxruntime#123`, and the `, #456` after it, which are of the same repository.
_REFERENCE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)#(?P<first>\d+)(?P<more>(?:, (?:and )?#\d+)*)")


def page() -> str:
    """The whole of docs/doctor.md."""
    parts = (
        INTRODUCTION.read_text(encoding="utf-8").rstrip(),
        "## Options",
        "\n".join(_options()),
        f"## The {len(CHECKS)} checks",
        "`onnxsd doctor --explain ID` prints the same page. They stand in the order in which findings are "
        "shown.",
        *_checks(),
        f"## The {len(catalogue())} symptoms",
        "What `onnxsd doctor --symptom` knows. *Known from*: reproduced here, reported in the thread that is "
        "named, or a standard text of the program that writes it.",
        "\n".join(_symptoms()),
    )
    return "\n\n".join(parts) + "\n"


def _options() -> Iterator[str]:
    yield "| option | meaning |"
    yield "|---|---|"
    for option in command.params:
        # Running a command adds `--debug` to it, which all commands have.
        if isinstance(option, click.Option) and option.name != "debug":
            value = option.metavar or (
                "|".join(option.type.choices) if isinstance(option.type, click.Choice) else ""
            )
            value = value or ("" if option.is_flag else option.type.name.upper())
            names = " ".join(filter(None, (", ".join(option.opts), value.replace("|", "\\|"))))
            yield f"| `{names}` | {_cell(option.help or '')} |"


def _checks() -> Iterator[str]:
    subject = None
    for check in CHECKS:
        if check.find.__module__ != subject:
            subject = check.find.__module__
            yield "### " + _subject(subject)
        yield f"#### {check.id}"
        yield _linked(check.page)


def _subject(module: str) -> str:
    """A file of checks in words: the first line of its docstring, without `Checks of`."""
    title = (importlib.import_module(module).__doc__ or module).strip().splitlines()[0].rstrip(".")
    words = title.removeprefix("Checks of ").partition(":")[0].strip()
    return words[:1].upper() + words[1:]


def _symptoms() -> Iterator[str]:
    yield "| symptom | words | cause | check | source | known from |"
    yield "|---|---|---|---|---|---|"
    for symptom in catalogue():
        check = f"[{symptom.check}](#{symptom.check})" if symptom.check else ""
        cells = (
            symptom.id,
            _words(symptom),
            symptom.cause,
            check,
            _linked(symptom.source),
            symptom.evidence.value.replace("-", " "),
        )
        yield "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _words(symptom: Symptom) -> str:
    return " … ".join(f"`{phrase.replace('*', '…')}`" for phrase in symptom.patterns[0])


def _linked(text: str) -> str:
    """The text with each named thread as a link; GitHub leads from an issue's address to a pull request's."""

    def links(found: re.Match[str]) -> str:
        repository = found["repository"]
        first = _link(f"{repository}#{found['first']}", repository, found["first"])
        return first + re.sub(r"#(\d+)", lambda one: _link(one[0], repository, one[1]), found["more"])

    return _REFERENCE.sub(links, text)


def _link(label: str, repository: str, number: str) -> str:
    return f"[{label}](https://github.com/{repository}/issues/{number})"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def outputs() -> dict[Path, str]:
    """Each file that this script writes, with what belongs into it."""
    return {
        ROOT / "docs" / "doctor.md": page(),
        ROOT / "docs" / "images" / "doctor.svg": picture_of(MACHINE),
    }


def main() -> int:
    """Write the files, or say which are stale."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where a file is stale"
    )
    only_check = parser.parse_args().check
    wanted = outputs()
    stale = [path for path in wanted if not path.exists() or path.read_text("utf-8") != wanted[path]]
    for path in stale:
        name = path.relative_to(ROOT).as_posix()
        if only_check:
            print(f"{name} is stale: run python scripts/write_doctor_docs.py", file=sys.stderr)
        else:
            path.write_text(wanted[path], encoding="utf-8", newline="\n")
            print(f"wrote {name}")
    return int(only_check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
