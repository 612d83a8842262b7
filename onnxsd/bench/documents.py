"""Reports as Markdown, and the part of a document that they replace."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from onnxsd.bench.report import Report
from onnxsd.bench.sections import Section, preamble, sections
from onnxsd.errors import BadInputError, ResourceError

BEGIN = "<!-- onnxsd bench --write-docs: begin -->"
WIDTH = 120
END = "<!-- onnxsd bench --write-docs: end -->"


def markdown(reports: Sequence[Report]) -> str:
    """Every report: its command and machine, then a table for each case."""
    return "\n".join(line for report in reports for line in _lines(report))


def write(path: Path, reports: Sequence[Report]) -> None:
    """Replace what stands between the two markers of a document.

    Raises:
        BadInputError: it has not the two markers, each once and in order.
        ResourceError: it cannot be written.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from error
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise BadInputError(
            f"{path} does not say where the figures go",
            hint=f"put the lines {BEGIN} and {END} there, in order",
        )
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    try:
        path.write_text(f"{before}{BEGIN}\n\n{markdown(reports)}\n{END}{after}", encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error


def _lines(report: Report) -> Iterator[str]:
    yield from ("```console", report.command, "```", "")
    for paragraph in preamble(report):
        yield from (_filled(paragraph), "")
    for section in sections(report):
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    yield from (f"### {section.title}", "")
    for paragraph in section.words:
        yield from (_filled(paragraph), "")
    yield _row(section.columns)
    yield _row(("---", *("---:" for _ in section.columns[1:])))
    for name, *cells in section.rows:
        yield _row((name.replace("  ", "… ") if name.startswith("  ") else name, *cells))
    yield ""
    for note in section.notes:
        yield from (_filled(note), "")


def _filled(paragraph: str) -> str:
    return textwrap.fill(_escaped(paragraph), WIDTH, break_long_words=False, break_on_hyphens=False)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
