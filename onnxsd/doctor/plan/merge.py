"""One plan from the remedies of all findings: no package is asked for twice, or in two versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from onnxsd.doctor.actions import DEFAULT_INDEX, Action, Index, NewVenv
from onnxsd.doctor.finding import Diagnosis, Severity
from onnxsd.doctor.remedy import ByHand, Pip
from onnxsd.errors import NotReadyError
from onnxsd.machine import OperatingSystem

_ACTED_ON = (Severity.ERROR, Severity.WARNING)
_OWN = "onnxsd"
_CPU = "cpu"  # the extra of onnxsd that brings a runtime of its own
_CPU_RUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to change, in order, and what only a person can do."""

    actions: tuple[Action, ...]
    by_hand: tuple[ByHand, ...]
    windows: bool = False  # whose folders a virtual environment has


def plan_of(diagnosis: Diagnosis) -> Plan:
    """What removes every error and warning that packages can remove; no actions where there are none.

    The recommendation's version of a package is taken over a check's: it was judged by the whole machine.

    Raises:
        NotReadyError: two remedies disagree about a package; it names them.
    """
    remedies = [
        one for finding in diagnosis.findings if finding.severity in _ACTED_ON for one in finding.remedies
    ]
    merged = _merged([one for one in remedies if isinstance(one, Pip)], _pins(diagnosis))
    actions = merged.actions
    fresh = any(isinstance(one, NewVenv) for one in diagnosis.preparations)
    if actions or not fresh:  # an old pip is a fault of its own, a Python of the system is none
        actions = (*diagnosis.preparations, *(_in_a_new_venv(merged) if fresh else merged).actions)
    by_hand = dict.fromkeys(one for one in remedies if isinstance(one, ByHand))
    windows = diagnosis.machine.os is OperatingSystem.WINDOWS
    return Plan(actions=actions, by_hand=tuple(by_hand), windows=windows)


def _in_a_new_venv(merged: Pip) -> Pip:
    """Nothing is there to be removed, and files that lie elsewhere are not written again."""
    return Pip(install=merged.install, from_index=merged.from_index, index=merged.index)


def _pins(diagnosis: Diagnosis) -> tuple[str, ...]:
    best = diagnosis.recommendation
    if best is None or not best.suffices:
        return ()
    return (*best.remedy.install, *best.remedy.from_index)


def _merged(remedies: list[Pip], pins: Iterable[str]) -> Pip:
    judged = {Requirement(text).name for text in pins if Requirement(text).specifier}
    chosen = {Requirement(text).name: text for text in pins}
    installs = [item for one in remedies for item in one.install]
    installs = list(
        dict.fromkeys(
            chosen[name] if (name := Requirement(item).name) in judged else item for item in installs
        )
    )
    wanted = _one_each(installs)
    feeds = _one_each([item for one in remedies for item in one.from_index])
    _refuse_two_runtimes((*wanted, *feeds))
    gone = _all_of(one.uninstall for one in remedies)
    over = (item for item in _all_of(one.overwrite for one in remedies))
    return Pip(
        uninstall=gone,
        install=tuple(item for item in wanted if Requirement(item).name not in _names(feeds)),
        from_index=feeds,
        index=_index_of(remedies),
        overwrite=tuple(item for item in over if _written_otherwise(item, gone, wanted) is None),
    )


def _written_otherwise(item: str, gone: tuple[str, ...], wanted: tuple[str, ...]) -> str | None:
    """Why a package need not be written again: it is removed first, or another version replaces it."""
    over = Requirement(item)
    if over.name in gone:
        return "removed"
    (version,) = (Version(one.version) for one in over.specifier)
    rows = (Requirement(text) for text in wanted)
    other = any(
        row.name == over.name and not row.specifier.contains(version, prereleases=True) for row in rows
    )
    return "replaced" if other else None


def _one_each(texts: list[str]) -> tuple[str, ...]:
    """Requirements with one of each name, its extras and limits together."""
    by_name: dict[str, list[Requirement]] = {}
    for text in texts:
        found = Requirement(text)
        by_name.setdefault(canonicalize_name(found.name), []).append(found)
    return tuple(_joined(rows) for rows in by_name.values())


def _joined(rows: list[Requirement]) -> str:
    extras = sorted({extra for row in rows for extra in row.extras})
    limits = {one for row in rows for one in row.specifier}
    tight = _tightest(limits)
    if not _can_be_met(limits):
        asked = " and ".join(dict.fromkeys(str(row) for row in rows))
        raise NotReadyError(
            f"two remedies disagree: {asked}", hint="look at one at a time with `onnxsd doctor --check ID`"
        )
    return rows[0].name + (f"[{','.join(extras)}]" if extras else "") + tight


def _tightest(limits: set[Specifier]) -> str:
    """`>=6.31,<7` for what asks for >=4.25, >=6.31 and <7; a pin stands alone."""
    pins = [one for one in limits if one.operator == "=="]
    if pins:
        return str(pins[0])
    lowest = sorted((one for one in limits if one.operator == ">="), key=_version_of)[-1:]
    highest = sorted((one for one in limits if one.operator == "<"), key=_version_of)[:1]
    others = sorted((one for one in limits if one.operator not in (">=", "<")), key=str)
    return ",".join(map(str, (*lowest, *others, *highest)))


def _can_be_met(limits: set[Specifier]) -> bool:
    """Whether a version exists that all limits allow: if one does, a bound does, or the next one after it."""
    if not limits:
        return True
    whole = SpecifierSet(",".join(map(str, limits)))
    bounds = [_version_of(one) for one in limits]
    tried = (*bounds, *(_just_above(one) for one in bounds), Version("0"))
    return any(whole.contains(one, prereleases=True) for one in tried)


def _just_above(version: Version) -> Version:
    return Version(f"{version.epoch}!{'.'.join(map(str, version.release))}.0.1")


def _version_of(limit: Specifier) -> Version:
    return Version(limit.version.removesuffix(".*"))


def _refuse_two_runtimes(wanted: tuple[str, ...]) -> None:
    """The CPU's runtime and another would overwrite each other: no plan may hold both."""
    rows = [Requirement(text) for text in wanted]
    runtimes = {row.name for row in rows if canonicalize_name(row.name).startswith(_CPU_RUNTIME)}
    if any(row.name == _OWN and _CPU in row.extras for row in rows):
        runtimes.add(_CPU_RUNTIME)
    if len(runtimes) > 1:
        raise NotReadyError(
            f"two remedies disagree about the runtime: {' and '.join(sorted(runtimes))}",
            hint="look at one at a time with `onnxsd doctor --check ID`",
        )


def _index_of(remedies: list[Pip]) -> Index:
    found = {one.index for one in remedies if one.from_index}
    if len(found) > 1:
        names = " and ".join(sorted(one.name for one in found))
        raise NotReadyError(f"two remedies disagree about the index: {names}", hint="use one of them by hand")
    return found.pop() if found else DEFAULT_INDEX


def _names(texts: tuple[str, ...]) -> set[str]:
    return {Requirement(text).name for text in texts}


def _all_of(groups: Iterator[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for group in groups for item in group))
