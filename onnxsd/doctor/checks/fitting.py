"""Checks of what could be installed here, whatever is installed now."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.case import Case, check, floors_text
from onnxsd.doctor.finding import ByHand, Finding, Severity
from onnxsd.doctor.fit import Kind, of_a_kind_with_wheels
from onnxsd.doctor.proof import runs_on_cuda
from onnxsd.doctor.recommend import in_the_way_of_all, serving, too_old_for
from onnxsd.doctor.ways import Way, container_for, ways_out


@check("no-wheel-serves", needs=("platform_tags",))
def no_wheel_serves(case: Case) -> Iterator[Finding]:
    """No release of onnxruntime-gpu that serves the goal fits this machine.

    What fits is computed from each wheel's tags and Python ABIs, the CUDA major that it was built for
    against the driver, and the GPUs that its code covers. The recommendation lists, for every newer
    release, why it does not fit. What would help is found by judging the machine as it would be with another
    system, Python or driver, or in each of the known container images.

    Sources: rows `releases`, `drivers` and `floors` of compat_matrix.yaml.
    """
    best = case.recommendation
    if not case.machine.gpus or (best is not None and best.suffices):
        return
    fits = f"{best.version} is the newest that fits" if best else "none fits"
    wanted = floors_text(case, case.matrix.package)
    # The floors are releases themselves, so there are some; the nearest says what to do.
    rows = serving(case.machine, case.matrix, case.goal)
    nearest = min(rows, key=lambda row: len(row.obstacles))
    ways = best.ways if best else _ways_out(case)
    helps = tuple(f"{way.change} gives {way.version}" for way in ways if way.suffices)
    cpu = ("or use the CPU: onnxsd[cpu]",) if case.takes_wheels else ()
    yield Finding(
        severity=case.stops_generate,
        summary=f"no onnxruntime-gpu that can {case.goal.value} fits this machine: {fits}, "
        f"it needs {wanted} or newer",
        because=f"{nearest.version}: " + "; ".join(one.reason for one in nearest.obstacles),
        remedies=(ByHand(steps=(*(helps or (one.would_need for one in nearest.obstacles)), *cpu)),),
    )


@check("python-without-wheel")
def python_without_wheel(case: Case) -> Iterator[Finding]:
    """No release of onnxruntime-gpu that serves the goal has a wheel for this Python.

    Releases that serve have wheels for CPython 3.11 to 3.14; for 3.10 the newest is 1.23.2. Wheels for a new
    Python follow months after it. (What is not CPython, a 32-bit one and a free-threaded one have checks of
    their own.)

    Source: tags and Requires-Python of the wheels.
    """
    if of_a_kind_with_wheels(case.machine) and not case.machine.python.free_threaded:
        yield from _obstacle(case, Kind.PYTHON, "has a wheel for this Python")


@check("glibc-too-old", needs=("platform_tags",))
def glibc_too_old(case: Case) -> Iterator[Finding]:
    """The system's C library is older than every wheel that serves the goal asks for.

    The newest wheels are manylinux_2_28, the oldest that serve manylinux_2_27; on an older system pip
    quietly takes a release of 2023. A container with a newer system runs on the same kernel and driver.

    Sources: tags of the wheels; pypa's pep600_compliance for systems; microsoft/onnxruntime#21877.
    """
    if case.machine.glibc is not None:
        yield from _obstacle(case, Kind.LIBC, "installs on this system")


@check("pip-too-old")
def pip_too_old(case: Case) -> Iterator[Finding]:
    """This pip does not know the tags of today's wheels.

    pip reads `manylinux_2_28` from 20.3 on; an older one passes these wheels over and takes an old release
    that has a name which it knows.

    Sources: PEP 600; rows `pip_tags` of compat_matrix.yaml.
    """
    wanted = too_old_for(case.machine, case.matrix)
    if wanted is not None:
        yield Finding(
            # Nothing has to be installed where a session runs.
            severity=Severity.WARNING if runs_on_cuda(case) else Severity.ERROR,
            summary=f"pip {case.machine.pip} is older than {wanted}",
            because="it passes over today's wheels without a word and takes old releases",
            remedies=(
                ByHand(steps=("upgrade pip first",), commands=("python -m pip install --upgrade pip",)),
            ),
        )


@check("pip-missing", needs=("pip", "uv"))
def pip_missing(case: Case) -> Iterator[Finding]:
    """There is neither pip in this environment nor uv.

    Environments that uv makes have no pip of their own, and some distributions ship Python without it; then
    every command that the doctor proposes fails: No module named pip. Python brings a pip that it can
    install.

    Sources: docs.python.org, ensurepip; docs.astral.sh/uv, "Python environments".
    """
    if case.machine.pip is None and case.machine.uv is None:
        yield Finding(
            severity=Severity.WARNING,
            summary=f"there is no pip for {case.machine.python.executable}, and no uv",
            because="nothing can be installed here",
            remedies=(
                ByHand(
                    steps=("let Python install its own pip",),
                    commands=("python -m ensurepip --upgrade",),
                ),
            ),
        )


def _ways_out(case: Case) -> tuple[Way, ...]:
    inside = container_for(case.machine, case.matrix, case.goal)
    return ways_out(case.machine, case.matrix, case.goal, inside)


def _obstacle(case: Case, kind: Kind, does: str) -> Iterator[Finding]:
    if not case.machine.gpus:
        return
    found = in_the_way_of_all(case.machine, case.matrix, case.goal, kind)
    if found is not None:
        yield Finding(
            severity=case.stops_generate,
            summary=f"no onnxruntime-gpu that can {case.goal.value} {does}",
            because=found.reason,
            remedies=(ByHand(steps=(found.would_need,)),),
        )


CHECKS = (no_wheel_serves, python_without_wheel, glibc_too_old, pip_too_old, pip_missing)
