"""The system and its room: distribution, WSL, memory and disks."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from onnxsd.machine.facts import Distro


def distro() -> Distro | None:
    """The Linux distribution; None on other systems, and where no os-release names one."""
    if sys.platform != "linux":
        return None
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return None
    return Distro(
        id=release["ID"],
        version=release.get("VERSION_ID", ""),  # rolling ones have none
        name=release.get("PRETTY_NAME", release["NAME"]),
    )


def is_wsl(environ: Mapping[str, str], kernel: str) -> bool:
    """Whether this Linux runs inside Windows; its kernel's release says so."""
    return "microsoft" in kernel.lower() or "WSL_DISTRO_NAME" in environ


def memory_bytes() -> int | None:
    """The machine's memory; None where Python has no question for it."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def free_bytes(folder: Path) -> int:
    """The room on the disk that holds a folder, or would hold it."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free


def temporary_folder() -> Path:
    """Where pip unpacks wheels and builds."""
    return Path(tempfile.gettempdir())


def pip_cache(environ: Mapping[str, str], home: Path) -> Path:
    """Where pip keeps what it downloaded."""
    if environ.get("PIP_CACHE_DIR"):
        return Path(environ["PIP_CACHE_DIR"])
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData/Local") / "pip/cache"
    if sys.platform == "darwin":
        return home / "Library/Caches/pip"
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "pip"
