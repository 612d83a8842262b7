"""What a check looks at, and the registry's `@check`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from onnxsd.doctor.finding import ByHand, Finding, Pip, Severity
from onnxsd.doctor.fit import takes_cpu_wheels
from onnxsd.doctor.folders import removable
from onnxsd.doctor.recommend import Recommendation
from onnxsd.machine import Distribution, Machine
from onnxsd.matrix import Goal, Matrix, Release

_ANOTHER_PYTHON = ByHand(
    steps=("no build of onnxruntime that serves has a wheel for this Python: use CPython 3.11 to 3.14",)
)
_NOT_PROBED = "no probe was made (--no-probe, or facts that were changed)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A machine, what is known, the goal, and the GPU release that would fit."""

    machine: Machine
    matrix: Matrix
    goal: Goal
    recommendation: Recommendation | None

    @property
    def runtimes(self) -> tuple[Distribution, ...]:
        """The packages that own the import name `onnxruntime`."""
        return self.machine.owners_of("onnxruntime")

    @property
    def gpu_runtime(self) -> Distribution | None:
        """The installed onnxruntime-gpu."""
        return self.machine.distribution(self.matrix.package)

    @property
    def gpu_release(self) -> Release | None:
        """What is known of the installed onnxruntime-gpu; None for none, or for one newer than the matrix."""
        return self.matrix.release(self.gpu_runtime.version) if self.gpu_runtime else None

    @property
    def stops_generate(self) -> Severity:
        """An error when images are the goal; a remark when the goal is an export, which a CPU does as
        well."""
        return Severity.ERROR if self.goal is Goal.GENERATE else Severity.INFO

    @property
    def takes_wheels(self) -> bool:
        """Whether there are wheels of the CPU's onnxruntime for this Python here."""
        return takes_cpu_wheels(self.machine, self.matrix)

    def reinstall(self, *, beside: bool = False) -> Pip | ByHand:
        """The remedy that leaves one runtime, the right one; `beside` keeps what is there.

        Where no build at all can be installed it is another Python, which only a person can bring.
        """
        best = self.recommendation
        owners = () if beside else removable(self.machine)
        if best is None or not best.suffices:
            if not self.takes_wheels:
                return _ANOTHER_PYTHON
            return Pip(uninstall=owners, install=("onnxsd[cpu]",))
        gone = dict.fromkeys((*owners, *(() if beside else best.remedy.uninstall)))
        return replace(best.remedy, uninstall=tuple(gone))

    def other_build(self) -> tuple[Pip | ByHand, ...]:
        """The remedy that installs a GPU build that serves; none where none does, which is told once."""
        serves = self.recommendation is not None and self.recommendation.suffices
        return (self.reinstall(),) if serves else ()

    def rewrite(self, one: Distribution) -> Pip:
        """The remedy that writes a package's files again, at the version that pip believes is there."""
        return Pip(overwrite=(f"{one.name}=={one.version}",))


def floors_text(case: Case, package: str) -> str:
    """The oldest releases of a package that serve the goal: `1.28 (CUDA 13) or 1.24 (CUDA 12)`."""
    rows = (row for row in case.matrix.floors if row.goal is case.goal and row.package == package)
    return " or ".join(
        f"{row.version}" + (f" (CUDA {row.cuda_major})" if row.cuda_major else "") for row in rows
    )


def names_of(found: tuple[Distribution, ...]) -> str:
    """Packages as pip lists them: `onnxruntime 1.31.1, onnxruntime-gpu 1.31.1`."""
    return ", ".join(f"{one.name} {one.version}" for one in found)


Finder = Callable[[Case], Iterator[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question about a machine; its docstring is its page."""

    id: str
    needs: tuple[str, ...]
    find: Finder

    @property
    def page(self) -> str:
        """What it means, why it matters, and where that is known from."""
        return inspect.cleandoc(self.find.__doc__ or "")

    @property
    def title(self) -> str:
        """The page's first line."""
        return self.page.partition("\n")[0]

    def run(self, case: Case) -> tuple[Finding, ...]:
        """The findings; one of its own when the check itself fails, or when a fact that it needs is
        missing."""
        reason = self._missing(case.machine)
        if reason is not None:
            return (self._unknown(reason),)
        try:
            return tuple(replace(finding, id=self.id) for finding in self.find(case))
        except Exception as error:  # noqa: BLE001  (one check of many may fail alone; it is reported)
            return (self._unknown(f"the check itself failed: {type(error).__name__}: {error}"),)

    def _missing(self, machine: Machine) -> str | None:
        if "probes" in self.needs and machine.probes is None:
            return machine.reason_unreadable("probes") or _NOT_PROBED
        reasons = (machine.reason_unreadable(fact) for fact in self.needs)
        return next((reason for reason in reasons if reason), None)

    def _unknown(self, reason: str) -> Finding:
        return Finding(
            id=self.id, severity=Severity.UNKNOWN, summary=f"could not check: {self.title}", because=reason
        )


def check(check_id: str, *, needs: tuple[str, ...] = ()) -> Callable[[Finder], Check]:
    """Make a function a check; `needs` are the fields of `Machine` without which it cannot answer."""
    return lambda find: Check(id=check_id, needs=needs, find=find)
