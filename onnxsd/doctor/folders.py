"""Where installed packages lie, as far as it decides which of two copies is imported."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from onnxsd.machine import Distribution, Machine, OperatingSystem

_USER_SITE = re.compile(
    r"/\.local/lib/python[^/]*/site-packages"  # Linux
    r"|/Library/Python/[^/]+/lib/python/site-packages"  # macOS
    r"|/AppData/Roaming/Python/Python[^/]*/site-packages"  # Windows
)


def by_folder(found: tuple[Distribution, ...]) -> dict[str | None, tuple[Distribution, ...]]:
    """Packages by the folder that they are installed in, in the order of the search path's packages."""
    folders = dict.fromkeys(one.location for one in found)
    return {folder: tuple(one for one in found if one.location == folder) for folder in folders}


def in_user_site(one: Distribution) -> bool:
    """Whether a package was installed with `pip install --user`."""
    return one.location is not None and _USER_SITE.search(one.location.replace("\\", "/")) is not None


def on_pythonpath(machine: Machine, path: str) -> str | None:
    """The entry of PYTHONPATH under which a file lies; None where it lies under none."""
    windows = machine.os is OperatingSystem.WINDOWS
    value = machine.variable("PYTHONPATH") or ""
    kind = PureWindowsPath if windows else PurePosixPath
    entries = [entry for entry in value.split(";" if windows else ":") if entry]
    return next((entry for entry in entries if kind(path).is_relative_to(kind(entry))), None)
