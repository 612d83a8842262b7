"""What to do about a finding, as values that a plan can merge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnxsd.doctor.actions import DEFAULT_INDEX, Action, Index, Install, Remove, Target, steps_of
from onnxsd.doctor.shells import Shell, line


@dataclass(frozen=True, slots=True, kw_only=True)
class Pip:
    """Packages to remove, requirements to install after that, and files to write again over damaged ones.

    `overwrite` are requirements whose files are there and wrong: a plain install would call them satisfied.
    `index` is where `from_index` come from; everything else comes from the default index.
    """

    uninstall: tuple[str, ...] = ()
    install: tuple[str, ...] = ()
    overwrite: tuple[str, ...] = ()
    from_index: tuple[str, ...] = ()
    index: Index = DEFAULT_INDEX

    @property
    def actions(self) -> tuple[Action, ...]:
        """The changes, in the order in which they have to happen."""
        found: list[Action] = []
        if self.uninstall:
            found.append(
                Remove(packages=self.uninstall, why="removed first, so that none of its files stay behind")
            )
        if self.install:
            found.append(Install(requirements=self.install, why="what is missing, or of another version"))
        if self.from_index:
            why = f"only {self.index.name} holds it; it does not hold its dependencies"
            found.append(
                Install(requirements=self.from_index, index=self.index, over=True, alone=True, why=why)
            )
        if self.overwrite:
            why = "its files are damaged, and its version is called installed"
            found.append(Install(requirements=self.overwrite, over=True, alone=True, why=why))
        return tuple(found)

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands to run, in order, for pip and bash."""
        return tuple(line(step.argv, Shell.BASH) for step in steps_of(self.actions, Target()))

    def to_json(self) -> dict[str, Any]:
        """The remedy as plain values."""
        return {"kind": "pip", "commands": list(self.commands)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """What only a person can do: a driver, an operating system, another Python."""

    steps: tuple[str, ...]
    commands: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The remedy as plain values."""
        return {"kind": "by-hand", "steps": list(self.steps), "commands": list(self.commands)}
