"""Lines for a terminal: 80 columns, colour and signs only where they can be shown; commands never broken."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Any

import click

WIDTH = 80  # columns, in a pipe and on every terminal that has as many
_NARROWEST = 40
_SIGNS = {
    "error": ("✗", "x", "red"),
    "warning": ("!", "!", "yellow"),
    "unknown": ("?", "?", "magenta"),
    "info": ("·", "-", "cyan"),
    "good": ("✓", "+", "green"),
    "step": ("→", ">", "green"),
}


class Paper:
    """Writes to stdout, or to stderr."""

    def __init__(self, *, err: bool = False) -> None:
        self._err = err
        stream = sys.stderr if err else sys.stdout  # None where it was closed before Python started
        self._encoding = getattr(stream, "encoding", None) or "ascii"
        self.unicode = self._encoding.lower().replace("-", "").startswith("utf")
        # The terminal's columns (or $COLUMNS), 80 at most: long lines of prose read badly.
        self.width = max(_NARROWEST, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))

    def line(
        self, text: str = "", *, colour: str | None = None, bold: bool = False, dim: bool = False
    ) -> None:
        """One line, however long it is; click leaves its colours out where there is no terminal."""
        self._spans((text, {"fg": colour, "bold": bold or None, "dim": dim or None}))

    def prose(
        self, text: str, *, indent: int = 0, hang: int = 0, colour: str | None = None, bold: bool = False,
        dim: bool = False,
    ) -> None:  # fmt: skip
        """Text broken at blanks; `hang` moves all lines but the first further in."""
        for line in self._wrapped(text, indent, hang):
            self.line(line, colour=colour, bold=bold, dim=dim)

    def marked(self, mark: str, text: str, *, indent: int = 0, tag: str = "") -> None:
        """Prose behind a coloured sign: `error`, `warning`, `unknown`, `info`, `good` or `step`.

        `tag`, a word, stands dim at the end.
        """
        colour = _SIGNS[mark][2]
        bold = mark in ("error", "warning", "unknown", "good")
        lines = self._wrapped(f"{self.sign(mark)} {text}" + (f" {tag}" if tag else ""), indent, 2)
        for line in lines[:-1]:
            self.line(line, colour=colour, bold=bold)
        last = lines[-1].removesuffix(tag) if tag else lines[-1]
        self._spans((last, {"fg": colour, "bold": bold or None}), (tag, {"dim": True}))

    def sign(self, mark: str) -> str:
        """The mark's sign, in letters that the output can hold."""
        pretty, plain, _ = _SIGNS[mark]
        return pretty if self.unicode else plain

    def command(self, text: str, *, indent: int = 2) -> None:
        """A command on a line of its own, whole, to be copied."""
        self.line(f"{' ' * indent}$ {text}", colour="green")

    def _wrapped(self, text: str, indent: int, hang: int) -> list[str]:
        return textwrap.wrap(
            text,
            self.width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + hang),
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _spans(self, *spans: tuple[str, dict[str, Any]]) -> None:
        shown = ((text.encode(self._encoding, "replace").decode(self._encoding), how) for text, how in spans)
        click.echo("".join(click.style(text, **how) if text else "" for text, how in shown), err=self._err)
