"""Where installed packages lie: which of two copies is imported, and which of them pip may remove."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from onnxsd.machine import Distribution, Machine, Module, OperatingSystem

_PACKAGES = ("site-packages", "dist-packages")  # the latter is Debian's
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
    value = machine.variable("PYTHONPATH") or ""
    kind = _paths_of(machine)
    entries = [entry for entry in value.split(";" if kind is PureWindowsPath else ":") if entry]
    return next((entry for entry in entries if kind(path).is_relative_to(kind(entry))), None)


def in_environment(machine: Machine, one: Distribution) -> bool:
    """Whether a package lies among the environment's or the user's own, where pip removes it.

    Not so one in a folder of PYTHONPATH or in the current one (`pip install --target`): pip says "outside
    environment" and leaves it, or, outside a virtual environment, changes a folder that is not ours.
    """
    if one.location is None:
        return True
    kind = _paths_of(machine)
    folder, prefix = kind(one.location), kind(machine.python.executable).parent.parent
    if folder.name not in _PACKAGES:
        return False
    own = len(prefix.parts) > 1 and folder.is_relative_to(prefix)
    return own or on_pythonpath(machine, one.location) is None


def imported_instead(machine: Machine) -> Module | None:
    """The copy of onnxruntime that is imported where a package in another folder is hidden by it."""
    found, owners = machine.module("onnxruntime"), machine.owners_of("onnxruntime")
    if found is None or not owners or (found.owner is not None and len(by_folder(owners)) < 2):
        return None
    return found


def of_conda_beside_pip(machine: Machine) -> tuple[Distribution, ...]:
    """The runtimes that conda installed where pip has installed another: only conda removes them cleanly."""
    owners = machine.owners_of("onnxruntime")
    found = tuple(one for one in owners if one.installer == "conda")
    return found if len(found) < len(owners) else ()


def removable(machine: Machine) -> tuple[str, ...]:
    """The packages that own the name `onnxruntime`, as far as pip may remove them."""
    kept = of_conda_beside_pip(machine)
    owners = (one for one in machine.owners_of("onnxruntime") if one not in kept)
    return tuple(dict.fromkeys(one.name for one in owners if in_environment(machine, one)))


def _paths_of(machine: Machine) -> type[PurePosixPath] | type[PureWindowsPath]:
    return PureWindowsPath if machine.os is OperatingSystem.WINDOWS else PurePosixPath
