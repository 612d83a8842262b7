"""`onnxsd doctor --list-checks` and `--explain ID`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnxsd.cli.doctor_json import print_json
from onnxsd.cli.doctor_paper import Paper

if TYPE_CHECKING:
    from onnxsd.doctor.case import Check


def print_checks(checks: Sequence[Check], *, as_json: bool) -> None:
    """Print each check's id and first line."""
    if as_json:
        print_json({"schema": 1, "checks": [{"id": check.id, "title": check.title} for check in checks]})
        return
    width = max(len(check.id) for check in checks)
    paper = Paper()
    for check in checks:
        paper.line(f"{check.id.ljust(width)}  {check.title}")  # one line each: for grep


def print_page(check: Check, *, as_json: bool) -> None:
    """Print what a check means."""
    if as_json:
        print_json({"schema": 1, "id": check.id, "title": check.title, "page": check.page})
        return
    paper = Paper()
    paper.line(check.id, bold=True)
    for paragraph in re.split(r"\n\s*\n", check.page):
        paper.line()
        paper.prose(" ".join(paragraph.split()))
