"""What tests of the doctor share: recorded machines, small changes to them, and the row of a check."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import Version

from onnxsd import doctor, machine, matrix
from onnxsd.doctor import Diagnosis, Finding
from onnxsd.doctor.case import Check
from onnxsd.machine import Distribution, Machine, Variable
from onnxsd.matrix import Goal

MACHINES = Path(__file__).parent / "machines"
MATRIX = matrix.load()
# Nothing at all is found on these.
HEALTHY = ("healthy_cuda13", "healthy_cuda12", "healthy_windows", "recorded_h200")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Where a check fires, and the smallest change to the first of these machines that silences it."""

    check: str
    machines: tuple[str, ...]  # every recorded machine on which it fires; the first is the check's own
    near_miss: Callable[[Machine], Machine]  # changes one field of the first


@functools.cache
def load(name: str) -> Machine:
    """A recorded machine."""
    return machine.load(MACHINES / f"{name}.json")


def recorded() -> tuple[str, ...]:
    """The names of all recorded machines."""
    return tuple(sorted(path.stem for path in MACHINES.glob("*.json")))


def judge(seen: Machine, goal: Goal = Goal.GENERATE, *, checks: tuple[Check, ...] | None = None) -> Diagnosis:
    """What the doctor says of a machine, by all checks or by some."""
    return doctor.diagnose(seen, MATRIX, goal, checks=checks or doctor.CHECKS)


def findings_of(diagnosis: Diagnosis, check_id: str) -> list[Finding]:
    """What one check found."""
    return [finding for finding in diagnosis.findings if finding.id == check_id]


def found_by(check_id: str, seen: Machine, goal: Goal = Goal.GENERATE) -> tuple[Finding, ...]:
    """What one check finds on a machine."""
    return judge(seen, goal, checks=(doctor.check_called(check_id),)).findings


def settings(*changes: str) -> Machine:
    """A clean machine that differs from the healthy one as `--set` says."""
    return machine.with_settings(load("healthy_cuda13"), changes)


def differing_fields(one: Machine, other: Machine) -> list[str]:
    """The fields of `Machine` in which two machines differ."""
    names = [field.name for field in dataclasses.fields(Machine)]
    return [name for name in names if getattr(one, name) != getattr(other, name)]


def with_fields(**changes: object) -> Callable[[Machine], Machine]:
    """A change of whole fields of `Machine`."""
    return lambda seen: replace(seen, **changes)  # type: ignore[arg-type]


def with_python(**changes: object) -> Callable[[Machine], Machine]:
    """A change of the interpreter."""
    return lambda seen: replace(seen, python=replace(seen.python, **changes))  # type: ignore[arg-type]


def without(*names: str) -> Callable[[Machine], Machine]:
    """Packages taken away."""
    return lambda seen: replace(
        seen, distributions=tuple(one for one in seen.distributions if one.name not in names)
    )


def with_version(name: str, version: str) -> Callable[[Machine], Machine]:
    """Another version of a package that is installed."""

    def change(seen: Machine) -> Machine:
        assert seen.distribution(name) is not None, f"{name} is not there to be changed"
        return replace(
            seen,
            distributions=tuple(
                replace(one, version=Version(version)) if one.name == name else one
                for one in seen.distributions
            ),
        )

    return change


def with_variable(name: str, value: str | None) -> Callable[[Machine], Machine]:
    """An environment variable set to another value, or taken away."""

    def change(seen: Machine) -> Machine:
        others = tuple(one for one in seen.variables if one.name != name)
        added = () if value is None else (Variable(name=name, value=value),)
        return replace(seen, variables=(*others, *added))

    return change


def adding(name: str, version: str, *, provides: tuple[str, ...] = ()) -> Callable[[Machine], Machine]:
    """One more package."""

    def change(seen: Machine) -> Machine:
        assert seen.distribution(name) is None, f"{name} is there already"
        added = Distribution(name=name, version=Version(version), provides=provides)
        return replace(seen, distributions=(*seen.distributions, added))

    return change


def as_on(name: str, field: str) -> Callable[[Machine], Machine]:
    """One field as another recorded machine has it."""
    return lambda seen: replace(seen, **{field: getattr(load(name), field)})


def undamaged(distribution: str) -> Callable[[Machine], Machine]:
    """A package's files as they were installed."""
    return lambda seen: replace(
        seen, damaged=tuple(file for file in seen.damaged if file.distribution != distribution)
    )


def adding_all(*packages: tuple[str, str]) -> Callable[[Machine], Machine]:
    """Packages that one requirement brings together, as an extra does."""

    def change(seen: Machine) -> Machine:
        for name, version in packages:
            seen = adding(name, version)(seen)
        return seen

    return change
