"""What to carry to a machine without network: the wheels, and the commands of both ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from onnxsd.doctor.actions import Action, Install, Installer, NewVenv, Remove, Step, Target, steps_of
from onnxsd.doctor.finding import Diagnosis
from onnxsd.doctor.fit import takes_cpu_wheels
from onnxsd.doctor.folders import removable
from onnxsd.doctor.recommend import Recommendation
from onnxsd.doctor.remedy import Pip
from onnxsd.doctor.shells import Shell, line
from onnxsd.errors import NotReadyError
from onnxsd.machine import Machine, OperatingSystem
from onnxsd.matrix import Matrix

FOLDER = "wheels"
# pip takes manylinux2014 for this and every older one; each newer manylinux_x_y has to be named.
_OLDEST_NAMED = (2, 17)
_OLDEST_LEGACY = "manylinux2014_"


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelList:
    """Requirements for one machine, and the commands of both ends."""

    requirements: tuple[str, ...]
    wheel: str | None  # file name of the GPU runtime's wheel; its neighbours' are the resolver's to choose
    wheel_bytes: int | None
    fetch: tuple[Step, ...]  # where there is a network
    install: tuple[Step, ...]  # on the machine, beside the folder

    def lines(self, shell: Shell) -> list[str]:
        """The list for people: requirements as comments, then the commands for a shell."""
        size = f" ({self.wheel_bytes / 1e6:.0f} MB)" if self.wheel_bytes else ""
        heads = [f"# {item}" for item in self.requirements]
        heads += [f"# of these {self.wheel}{size}"] if self.wheel else []
        steps = ((f"# {step.why}", line(step.argv, shell)) for step in (*self.fetch, *self.install))
        return [*heads, *(text for pair in steps for text in pair)]

    def to_json(self) -> dict[str, Any]:
        """The list as plain values."""
        return {
            "requirements": list(self.requirements),
            "wheel": self.wheel,
            "wheel_bytes": self.wheel_bytes,
            "fetch": [list(step.argv) for step in self.fetch],
            "install": [list(step.argv) for step in self.install],
        }


def wheel_list(diagnosis: Diagnosis, matrix: Matrix, installer: Installer = Installer.PIP) -> WheelList:
    """What the machine needs for its goal: the recommended runtime, or the CPU's where none suffices.

    onnxsd itself is not in it: it is there already, or its facts would not be.

    Raises:
        NotReadyError: no wheels can be named for the machine's system or its Python.
    """
    seen = diagnosis.machine
    _refuse_untagged(seen)
    best = diagnosis.recommendation
    if best is not None and not best.suffices:
        best = None
    if best is None and not takes_cpu_wheels(seen, matrix):
        raise NotReadyError(
            f"asked for wheels for Python {seen.python.version} ({seen.python.abi}) on {seen.platform}: "
            "no onnxruntime that serves has one",
            hint="use CPython 3.11 to 3.14: --set python=3.12 lists its wheels",
        )
    wanted = _wanted(best, diagnosis, matrix)
    there = Target(installer=installer, windows=seen.os is OperatingSystem.WINDOWS)
    carried = _on_the_machine(wanted, preparations=diagnosis.preparations)
    return WheelList(
        requirements=(*wanted.install, *wanted.from_index),
        wheel=_file_name(best, seen, matrix) if best else None,
        wheel_bytes=_bytes_of(best, seen, matrix) if best else None,
        fetch=tuple(_downloads(wanted, seen)),
        install=steps_of(carried, there),
    )


def _refuse_untagged(seen: Machine) -> None:
    """Without a tag `pip download` takes wheels for the machine that it runs on, and says nothing."""
    if next(_named_tags(seen), None) is None:
        raise NotReadyError(
            f"asked for wheels for {seen.platform}: the tags that its pip takes are not known here",
            hint="run `onnxsd doctor --save-facts FILE` there, and give `--wheel-list --facts FILE` here",
        )


def _wanted(best: Recommendation | None, diagnosis: Diagnosis, matrix: Matrix) -> Pip:
    own = tuple(f"{row.name}>={row.minimum}" for row in matrix.requirements)
    if best is not None:
        kept = tuple(item for item in best.remedy.install if not item.startswith("onnxsd["))
        return replace(best.remedy, install=(*own, *kept), overwrite=())
    floor = matrix.floor(diagnosis.goal, matrix.cpu_package)
    owners = removable(diagnosis.machine)
    others = owners if set(owners) - {matrix.cpu_package} else ()
    runtime = f"{matrix.cpu_package}>={floor.version}" if floor else matrix.cpu_package
    return Pip(uninstall=others, install=(*own, runtime))


def _downloads(wanted: Pip, machine: Machine) -> Iterator[Step]:
    """`pip download` takes wheels for another system, by that system's tags; uv has no such command."""
    python = machine.python
    release = f"{python.version.major}.{python.version.minor}"
    head = ("python", "-m", "pip", "download", "--dest", FOLDER, "--only-binary", ":all:")
    tags = ("--python-version", release, "--implementation", "cp", "--abi", python.abi)
    there = (*tags, *(word for tag in _named_tags(machine) for word in ("--platform", tag)))
    why = "on a machine with a network: wheels for the other's system and Python"
    yield Step(why=why, argv=(*head, *there, *wanted.install))
    if wanted.from_index and wanted.index.url is not None:
        why = f"only {wanted.index.name} holds it"
        index = ("--index-url", wanted.index.url, "--no-deps")
        yield Step(why=why, argv=(*head, *index, *there, *wanted.from_index))


def _named_tags(machine: Machine) -> Iterator[str]:
    for tag in machine.platform_tags:
        pieces = tag.split("_")
        newer = pieces[0] == "manylinux" and (int(pieces[1]), int(pieces[2])) >= _OLDEST_NAMED
        if newer or tag.startswith((_OLDEST_LEGACY, "musllinux_", "win", "macosx")):
            yield tag


def _on_the_machine(wanted: Pip, preparations: tuple[Action, ...]) -> tuple[Action, ...]:
    """pip cannot renew itself without a network, so a virtual environment is the only preparation left."""
    before = tuple(one for one in preparations if isinstance(one, NewVenv))
    gone = () if before or not wanted.uninstall else wanted.uninstall
    removal = (
        (Remove(packages=gone, why="removed first, so that none of its files stay behind"),) if gone else ()
    )
    why = "on the machine without one, beside the folder of wheels"
    needed = (*wanted.install, *wanted.from_index)
    return (*before, *removal, Install(requirements=needed, folder=FOLDER, why=why))


def _file_name(best: Recommendation, machine: Machine, matrix: Matrix) -> str | None:
    release = matrix.release(best.version)
    wheel = release.wheel_for(machine.platform) if release else None
    if release is None or wheel is None or best.index.url is not None:
        return None
    return wheel.file_name(matrix.package, release.version, machine.python.abi)


def _bytes_of(best: Recommendation, machine: Machine, matrix: Matrix) -> int | None:
    release = matrix.release(best.version)
    wheel = release.wheel_for(machine.platform) if release and best.index.url is None else None
    return wheel.size_bytes if wheel else None
