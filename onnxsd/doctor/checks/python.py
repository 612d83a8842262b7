"""Checks of the interpreter, its installer and the system under them."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import ByHand, Finding, Severity
from onnxsd.machine import Environment, OperatingSystem

_CPYTHON = "cpython"
_BITS = 64
_INDEX_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_INDEX_URL", "UV_DEFAULT_INDEX")


@check("python-32-bit")
def python_32_bit(case: Case) -> Iterator[Finding]:
    """This Python is a 32-bit program.

    No release of onnxruntime has a wheel for one, whatever the system: pip says that no matching
    distribution was found. On Windows the python.org installer called "32-bit" is often the one that is
    there.

    Sources: tags of all onnxruntime-gpu wheels; microsoft/onnxruntime#15389, #24511.
    """
    python = case.machine.python
    if python.bits < _BITS:
        yield Finding(
            severity=Severity.ERROR,
            summary=f"{python.executable} is a {python.bits}-bit Python",
            because="there are wheels of onnxruntime for 64-bit Pythons alone",
            remedies=(ByHand(steps=(f"install a 64-bit Python {_line(case)} and make a venv with it",)),),
        )


@check("python-not-cpython")
def python_not_cpython(case: Case) -> Iterator[Finding]:
    """This Python is not CPython.

    onnxruntime's wheels are compiled against CPython's own interface; there is none for PyPy or GraalPy.

    Source: ABI tags of all onnxruntime-gpu wheels.
    """
    python = case.machine.python
    if python.implementation != _CPYTHON:
        yield Finding(
            severity=Severity.ERROR,
            summary=f"this Python is {python.implementation}, not CPython",
            because="every wheel of onnxruntime is compiled for CPython",
            remedies=(ByHand(steps=(f"use CPython {_line(case)}",)),),
        )


@check("python-free-threaded")
def python_free_threaded(case: Case) -> Iterator[Finding]:
    """This is a free-threaded Python, for which the newest wheels of this system are not made.

    Free-threaded builds (3.13t, 3.14t) take wheels of their own ABI alone. onnxruntime-gpu has them for
    Linux from 1.20.0 on, and none for Windows.

    Source: ABI tags of all onnxruntime-gpu wheels; microsoft/onnxruntime#26413.
    """
    python = case.machine.python
    newest = case.matrix.releases[0].wheel_for(case.machine.platform)
    if not python.free_threaded or (newest is not None and python.abi in newest.abis):
        return
    here = f"it has {', '.join(newest.abis)}" if newest else "it has none"
    yield Finding(
        severity=Severity.ERROR,
        summary=f"onnxruntime-gpu has no wheel for the free-threaded Python {python.abi} on this system",
        because=f"{case.matrix.releases[0].version} for {case.machine.platform}: {here}",
        remedies=(
            ByHand(steps=(f"use the Python without the t: {python.version.major}.{python.version.minor}",)),
        ),
    )


@check("python-externally-managed")
def python_externally_managed(case: Case) -> Iterator[Finding]:
    """This Python belongs to the operating system, and pip refuses to install into it.

    Distributions mark their Python so (PEP 668), because packages of pip and of the system would overwrite
    each other; pip from 23.0 on answers externally-managed-environment. A virtual environment is free of
    it. `--break-system-packages` does what its name says.

    Sources: PEP 668; pypa/pip#11381, #11780.
    """
    python = case.machine.python
    if not python.externally_managed or python.environment is not Environment.SYSTEM:
        return
    yield Finding(
        severity=Severity.INFO if case.runtimes else Severity.WARNING,
        summary=f"{python.executable} belongs to the operating system: pip installs nothing into it",
        because="it is marked as externally managed",
        remedies=(
            ByHand(
                steps=("make a virtual environment, and install there",),
                commands=("python3 -m venv .venv", _activation(case)),
            ),
        ),
    )


@check("musl-no-wheel")
def musl_without_wheel(case: Case) -> Iterator[Finding]:
    """This system's C library is musl, for which onnxruntime has no wheel.

    Alpine and other small container images use musl. There is no musllinux wheel in any release; pip finds
    no matching distribution, and a wheel for glibc that is forced in fails: error loading shared library
    ld-linux-x86-64.so.2.

    Sources: tags of all onnxruntime-gpu wheels; microsoft/onnxruntime#2909, #12439, #23047.
    """
    if case.machine.musl is None:
        return
    yield Finding(
        severity=Severity.ERROR,
        summary=f"this system has musl {case.machine.musl}, and onnxruntime has wheels for glibc alone",
        because="no release has a musllinux wheel, for the GPU or for the CPU",
        remedies=(ByHand(steps=("use an image with glibc, such as one of Debian or Ubuntu",)),),
    )


@check("odd-system", needs=("distro",))
def odd_system(case: Case) -> Iterator[Finding]:
    """Wheels do not load on this system as they are.

    Some systems keep their libraries elsewhere than wheels expect: on NixOS libstdc++.so.6 is not found by
    any program that was not built there.

    Sources: rows `odd_systems` of compat_matrix.yaml; NixOS/nixpkgs#94443.
    """
    distro = case.machine.distro
    row = next((row for row in case.matrix.odd_systems if distro and row.id == distro.id), None)
    if row is None or case.machine.musl is not None:  # `musl-no-wheel` says so
        return
    yield Finding(
        severity=Severity.WARNING,
        summary=f"this is {row.name}, where wheels may not load as they are",
        because=row.because,
        remedies=(ByHand(steps=(row.instead,)),),
    )


@check("pip-other-index", needs=("pip_index", "distributions"))
def other_index(case: Case) -> Iterator[Finding]:
    """pip is told to use another package index, and the runtime here is not the one to expect.

    With `--extra-index-url`, pip takes the highest version of all indexes, so the one from the default
    index may win over the feed's build for another CUDA; with `--index-url`, the feed does not hold what the
    wheel depends on; feeds also get releases later, or not at all. From 1.19 on no feed is needed for CUDA
    12, nor from 1.27 on for CUDA 13.

    Sources: microsoft/onnxruntime#20745, #19356, #20409; infiniflow/ragflow#905.
    """
    set_here = tuple(name for name in _INDEX_VARIABLES if case.machine.variable(name))
    found, best = case.gpu_runtime, case.recommendation
    if case.machine.pip_index != "configured" and not set_here:
        return
    if found is None or best is None or found.version == best.version:
        return
    yield Finding(
        severity=Severity.INFO,
        summary=f"pip uses another index than the default one, and onnxruntime-gpu {found.version} is "
        f"installed where {best.version} would fit",
        because="an index may hold other builds under the same version, and lag behind",
        evidence=tuple(f"{name} is set" for name in set_here) or ("pip's configuration names an index",),
        remedies=(ByHand(steps=("see `pip config list`, and take the feed out of it",)),),
    )


def _line(case: Case) -> str:
    """`3.11 to 3.14`: the Pythons that the newest release has wheels for."""
    abis = {abi.rstrip("t") for wheel in case.matrix.releases[0].wheels for abi in wheel.abis}
    minors = sorted(int(abi.removeprefix("cp3")) for abi in abis)
    return f"3.{minors[0]} to 3.{minors[-1]}"


def _activation(case: Case) -> str:
    windows = case.machine.os is OperatingSystem.WINDOWS
    return ".venv\\Scripts\\Activate.ps1" if windows else ". .venv/bin/activate"


CHECKS = (
    python_32_bit,
    python_not_cpython,
    python_free_threaded,
    python_externally_managed,
    musl_without_wheel,
    odd_system,
    other_index,
)
