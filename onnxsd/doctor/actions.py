"""Changes to a Python environment as data, and the command of each for pip and for uv."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Installer(enum.Enum):
    """The program that installs packages."""

    PIP = "pip"
    UV = "uv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Where packages come from; without an address, the default index, or the one that is configured."""

    name: str = "pypi"
    url: str | None = None


DEFAULT_INDEX = Index()
_BARE = "python"  # what an environment that is active calls its interpreter


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command to run, and the reason for it."""

    why: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The environment that is changed: its interpreter, and the installer that changes it."""

    installer: Installer = Installer.PIP
    python: str = _BARE
    windows: bool = False

    def inside(self, folder: str) -> Target:
        """The same for a virtual environment in `folder`."""
        python = f"{folder}\\Scripts\\python.exe" if self.windows else f"{folder}/bin/python"
        return Target(installer=self.installer, python=python, windows=self.windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVenv:
    """Make a virtual environment; every later action happens inside it."""

    folder: str
    why: str

    def argv(self, target: Target) -> tuple[str, ...]:
        """The command; a system that owns its Python mostly calls it python3 alone."""
        bare = target.python == _BARE and not target.windows
        python = "python3" if bare else target.python
        if target.installer is Installer.UV:
            return ("uv", "venv", "--python", python, self.folder)
        return (python, "-m", "venv", self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradePip:
    """Let pip replace itself by its newest release; uv needs none of it."""

    why: str

    def argv(self, target: Target) -> tuple[str, ...]:
        """The command; empty where there is nothing to do."""
        if target.installer is Installer.UV:
            return ()
        return (target.python, "-m", "pip", "install", "--upgrade", "pip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Uninstall packages."""

    packages: tuple[str, ...]
    why: str

    def argv(self, target: Target) -> tuple[str, ...]:
        """The command."""
        if target.installer is Installer.UV:
            return ("uv", "pip", "uninstall", "--python", target.python, *self.packages)
        return (target.python, "-m", "pip", "uninstall", "-y", *self.packages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """Install requirements; `over` writes the files again even where the version is there already.

    `alone` leaves their dependencies as they are: a feed does not hold them, and to write those again too
    would be a download of gigabytes for nothing. `folder` holds wheels that are taken instead of an index's.
    """

    requirements: tuple[str, ...]
    why: str
    index: Index = DEFAULT_INDEX
    over: bool = False
    alone: bool = False
    folder: str | None = None

    def argv(self, target: Target) -> tuple[str, ...]:
        """The command."""
        uv = target.installer is Installer.UV
        head = ("uv", "pip", "install", "--python", target.python) if uv else _pip_install(target.python)
        options = []
        if self.over:
            options.append("--reinstall" if uv else "--force-reinstall")
        if self.alone:
            options.append("--no-deps")
        if self.index.url is not None:
            options += ["--default-index" if uv else "--index-url", self.index.url]
        if self.folder is not None:
            options += ["--no-index", "--find-links", self.folder]
        return (*head, *options, *self.requirements)


Action = NewVenv | UpgradePip | Remove | Install


def steps_of(actions: tuple[Action, ...], target: Target) -> tuple[Step, ...]:
    """The command of each action in order; after `NewVenv` they run in the new environment."""
    steps = []
    for action in actions:
        argv = action.argv(target)
        if argv:
            steps.append(Step(why=action.why, argv=argv))
        if isinstance(action, NewVenv):
            target = target.inside(action.folder)
    return tuple(steps)


def _pip_install(python: str) -> tuple[str, ...]:
    return (python, "-m", "pip", "install")
