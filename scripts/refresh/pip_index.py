"""The package index that pip is configured to use, asked of pip itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from onnxsd.errors import ResourceError

_TIMEOUT_S = 60
_WIDE = "1000"  # columns: pip's help must not break an address over two lines
_SECTIONS = (":env:", "install", "global")  # what pip lets win, first to last


@dataclass(frozen=True, slots=True, kw_only=True)
class PipIndex:
    """Where pip finds packages; the address stays out of reprs, since it may hold a password."""

    url: str = field(repr=False)
    certificate: Path | None


def configured() -> PipIndex:
    """The index of this interpreter's pip: from its variables and files, else the one it comes with."""
    settings = dict(_setting(line) for line in _pip("config", "list").splitlines() if "=" in line)
    url = _first(settings, "index-url") or _built_in()
    certificate = _first(settings, "cert")
    return PipIndex(url=url, certificate=Path(certificate) if certificate else None)


def _setting(line: str) -> tuple[str, str]:
    """`global.index-url='address'` as key and value."""
    key, _, value = line.partition("=")
    return key.strip(), value.strip().strip("'\"")


def _first(settings: dict[str, str], name: str) -> str | None:
    found = (settings.get(f"{section}.{name}") for section in _SECTIONS)
    return next((value for value in found if value), None)


def _built_in() -> str:
    found = re.search(r"--index-url.*?\(default:? ?(\S+?)\)", _pip("install", "--help"), re.DOTALL)
    if found is None:
        raise ResourceError(
            "asked pip for its package index, and its help names none",
            hint="set PIP_INDEX_URL to the index that is to be read",
        )
    return found.group(1)


def _pip(*words: str) -> str:
    command = [sys.executable, "-m", "pip", *words]
    environment = {**os.environ, "COLUMNS": _WIDE}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ResourceError(
            f"`python -m pip {' '.join(words)}` failed: {error}", hint="is pip installed beside this Python?"
        ) from error
    return done.stdout
