"""What an interpreter is, told by itself: run here, or as text by any Python from 3.8 on.

Uses the standard library alone, in the words of Python 3.8.
"""

from __future__ import annotations

import os
import platform
import re
import site
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_all(readers: Sequence[Any]) -> dict[str, Any]:
    """What these modules read, each given what the former did; what one of them fails at goes to `faults`."""
    known: dict[str, Any] = {"faults": []}
    for reader in readers:
        known.update(_read_one(reader, known))
    return known


def _read_one(reader: Any, known: dict[str, Any]) -> dict[str, Any]:
    try:
        told: dict[str, Any] = reader.facts(known)
        return told
    except Exception as error:
        if not hasattr(reader, "ABSENT"):
            raise  # without the interpreter itself there is nothing to read
        fault = [reader.FACT, f"{type(error).__name__}: {error}"]
        return {**reader.ABSENT, "faults": [*known["faults"], fault]}


def facts(known: dict[str, Any]) -> dict[str, Any]:
    """The interpreter, its C library and where it looks for modules, as plain values."""
    del known  # this is the first reader
    environment = _environment()
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"  # PEP 668
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return {
        "system": sys.platform,
        "processor": platform.machine(),
        "version": platform.python_version().rstrip("+"),
        "implementation": sys.implementation.name,
        "abi": _abi(free_threaded),
        "free_threaded": free_threaded,
        "environment": environment,
        "externally_managed": environment != "venv" and marker.exists(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "executable": sys.executable or "",
        "user_site": bool(site.ENABLE_USER_SITE),
        "user_site_folder": site.getusersitepackages() if site.ENABLE_USER_SITE else None,
        "prefixes": list(dict.fromkeys([sys.prefix, sys.base_prefix])),
        "libc": _libc(),
        "path": _path(),
        "current_folder": None if getattr(sys.flags, "safe_path", False) else _current_folder(),
    }


def _abi(free_threaded: bool) -> str:
    """As in a wheel's name: cp311, cp313t."""
    if sys.implementation.name != "cpython":
        return "none"
    debug = "d" if "d" in getattr(sys, "abiflags", "") else ""
    return "cp{}{}{}{}".format(*sys.version_info[:2], "t" if free_threaded else "", debug)


def _environment() -> str:
    if sys.prefix != sys.base_prefix:
        return "venv"
    return "conda" if (Path(sys.prefix) / "conda-meta").is_dir() else "system"


def _libc() -> list[str] | None:
    """The C library's name and version: `["glibc", "2.36"]`, `["musl", "1.2"]`; None outside Linux."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION")  # "glibc 2.36"; musl does not know the name
    except (ValueError, OSError):
        text = None
    return text.split()[:2] if text else _musl()


def _musl() -> list[str] | None:
    """musl's version, which only its loader tells."""
    for loader in sorted(Path("/lib").glob("ld-musl-*.so.1")):
        try:
            said = subprocess.run([str(loader)], stderr=subprocess.PIPE, timeout=5, check=False).stderr
        except (OSError, subprocess.TimeoutExpired):
            continue
        found = re.search(rb"Version (\d+)\.(\d+)", said)
        if found:
            return ["musl", f"{int(found.group(1))}.{int(found.group(2))}"]
    return None


def _path() -> list[str]:
    """The folders that modules are imported from, each once, without the current one's empty name."""
    return list(dict.fromkeys(str(entry) for entry in sys.path if entry))


def _current_folder() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:
        return None  # it was removed under this process
