"""What would install packages here: uv's version, and whether pip asks another index than its default."""

from __future__ import annotations

import configparser
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from packaging.version import Version

from onnxsd.machine import processes

_TIMEOUT_S = 3.0
_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX")
_OPTIONS = ("index-url", "extra-index-url", "find-links", "no-index")
_SECTIONS = ("global", "install")


def uv_version(environ: Mapping[str, str]) -> Version | None:
    """The version of the uv on PATH; None where there is none.

    Parts of PATH that are not absolute are passed over: they would start what lies in the current folder.
    """
    parts = [part for part in environ.get("PATH", "").split(os.pathsep) if Path(part).is_absolute()]
    found = shutil.which("uv", path=os.pathsep.join(parts)) if parts else None
    if found is None:
        return None
    done = processes.run([found, "--version"], timeout_s=_TIMEOUT_S)
    if done.code is None:
        raise TimeoutError(f"{found} --version gives no answer within {_TIMEOUT_S:g} s")
    said = done.stdout.decode("utf-8", errors="replace")
    version = re.match(r"uv (\d[\w.]*)", said)
    if version is None:
        raise ValueError(f"{found} --version says {said[:80]!r}")
    return Version(version.group(1))


def pip_index(environ: Mapping[str, str], prefixes: Iterable[str], home: Path, root: Path = Path("/")) -> str:
    """`configured` where a variable or a file names another index than pip's own, else `default`."""
    if any(environ.get(name) for name in _VARIABLES):
        return "configured"
    files = _configuration_files(environ, prefixes, home, root)
    return "configured" if any(_names_an_index(file) for file in files) else "default"


def _configuration_files(
    environ: Mapping[str, str], prefixes: Iterable[str], home: Path, root: Path
) -> Iterator[Path]:
    """Every file that pip may read; a name that another system uses simply is not there."""
    if environ.get("PIP_CONFIG_FILE"):
        yield Path(environ["PIP_CONFIG_FILE"])
    for prefix in prefixes:
        yield from (Path(prefix) / name for name in ("pip.conf", "pip.ini"))
    settings = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    yield from (settings / "pip/pip.conf", home / ".pip/pip.conf", home / "pip/pip.ini")
    yield home / "Library/Application Support/pip/pip.conf"
    if environ.get("APPDATA"):
        yield Path(environ["APPDATA"]) / "pip/pip.ini"
    yield from (root / "etc/pip.conf", root / "etc/xdg/pip/pip.conf")


def _names_an_index(file: Path) -> bool:
    if not file.is_file():
        return False
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(file.read_text(encoding="utf-8"), source=str(file))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: {str(error).splitlines()[0]}") from error
    return any(parser.get(section, name, fallback="") for section in _SECTIONS for name in _OPTIONS)
