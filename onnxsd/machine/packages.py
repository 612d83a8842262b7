"""Packages, modules and damaged files as facts, from what the interpreter read of its folders."""

from __future__ import annotations

from typing import Any

from packaging.version import InvalidVersion, Version

from onnxsd.machine.facts import DamagedFile, Distribution, Module, Place, Problem
from onnxsd.machine.reader import Reader, readable


def distributions(told: dict[str, Any], reader: Reader) -> tuple[Distribution, ...]:
    """The packages that matter here, by name; one with broken metadata goes on record instead."""
    found = []
    for one in told["distributions"]:
        try:
            version = Version(one["version"])
        except InvalidVersion:
            reader.note("distribution", f"{one['name']} says that its version is {one['version']!r}")
            continue
        found.append(
            Distribution(
                name=one["name"],
                version=version,
                provides=tuple(one["provides"]),
                installer=one["installer"],
                location=readable(one["location"]),
            )
        )
    return tuple(found)


def tool_version(told: dict[str, Any], name: str) -> Version | None:
    """The version of an installer that is a package of this environment."""
    version = told["tools"].get(name)
    return Version(version) if version is not None else None


def modules(told: dict[str, Any]) -> tuple[Module, ...]:
    """Where each import name that matters is found."""
    return tuple(
        Module(name=one["name"], path=readable(one["path"]), owner=one["owner"], place=Place(one["place"]))
        for one in told["modules"]
    )


def damaged(told: dict[str, Any]) -> tuple[DamagedFile, ...]:
    """The files that are not what their package installed."""
    return tuple(
        DamagedFile(
            distribution=one["distribution"], path=readable(one["path"]), problem=Problem(one["problem"])
        )
        for one in told["damaged"]
    )


def note_faults(told: dict[str, Any], reader: Reader) -> None:
    """Put on record what the interpreter could not read of its packages."""
    for fact, reason in told["faults"]:
        reader.note(fact, reason)
