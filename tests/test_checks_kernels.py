"""Own kernels: what is said of each thing that they need, and when nothing is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from doctor_cases import MATRIX, found_by, judge, load, with_fields, with_version
from packaging.version import Version

from onnxsd import machine
from onnxsd.doctor import CHECKS, ByHand, Severity
from onnxsd.doctor.checks import kernels
from onnxsd.machine import (
    Gpu,
    Library,
    Machine,
    OperatingSystem,
    Origin,
    Outcome,
    OwnKernels,
    Provider,
    Unreadable,
)
from onnxsd.matrix import Goal
from onnxsd.records import Dotted

OWN = tuple(check.id for check in kernels.CHECKS)
# The machine on which each fires.
MACHINES = {
    "own-kernels-not-built": "own_kernels_not_built",
    "own-kernels-outdated": "own_kernels_outdated",
    "own-kernels-gpu": "volta_with_cuda12",
    "own-kernels-nvrtc": "nvrtc_missing",
    "own-kernels-nvrtc-too-old": "nvrtc_older_than_gpu",
    "own-kernels-cache": "home_read_only",
}
NATIVE = Path(__file__).parents[1] / "native"


def refused_by_cuda(seen: Machine) -> Machine:
    """A machine whose session was not made on the GPU."""
    probes = (
        replace(one, outcome=Outcome.REFUSED) if one.provider is Provider.CUDA else one
        for one in seen.probes or ()
    )
    return replace(seen, probes=tuple(probes))


def nvrtc(version: str, *, origin: Origin = Origin.PIP, owner: str | None = None) -> Library:
    """One copy of NVRTC on Linux."""
    major = version.partition(".")[0]
    return Library(
        component="nvrtc",
        soname=f"libnvrtc.so.{major}",
        path=f"/some/lib/libnvrtc.so.{major}",
        version=Dotted.parse(version),
        origin=origin,
        owner=owner,
    )


def having(seen: Machine, *copies: Library) -> Machine:
    """A machine with these copies of NVRTC and no others."""
    others = tuple(one for one in seen.libraries if one.component != "nvrtc")
    return replace(seen, libraries=(*others, *copies))


def test_each_has_its_machine() -> None:
    assert set(MACHINES) == set(OWN) <= {check.id for check in CHECKS}


@pytest.mark.parametrize("check_id", OWN)
@pytest.mark.parametrize(
    "change",
    [
        with_fields(gpus=()),
        refused_by_cuda,
        with_version("onnxruntime-gpu", "1.23.2"),  # below the floor, which is an error of its own
    ],
)
def test_nothing_is_said_where_the_gpu_makes_no_pictures(
    check_id: str, change: Callable[[Machine], Machine]
) -> None:
    sick = load(MACHINES[check_id])

    assert found_by(check_id, sick)
    assert found_by(check_id, change(sick)) == ()
    assert found_by(check_id, sick, Goal.EXPORT) == ()


def test_no_machine_that_was_ready_is_less_so_without_own_kernels() -> None:
    for name in MACHINES.values():
        diagnosis = judge(load(name))

        assert diagnosis.exit_code() == 0, name
        assert all(one.severity is not Severity.ERROR for one in diagnosis.findings), name


def test_every_release_that_makes_pictures_has_the_api_of_the_library() -> None:
    (found,) = re.findall(r"kApiVersion = (\d+);", (NATIVE / "ort_abi.hpp").read_text(encoding="utf-8"))
    rows = [row for row in MATRIX.floors if row.goal is Goal.GENERATE and row.package == MATRIX.package]

    assert rows
    assert all(row.version >= Version(f"1.{found}") for row in rows)


def test_an_installation_without_the_library_is_told_how_to_build_it() -> None:
    (finding,) = found_by("own-kernels-not-built", load("own_kernels_not_built"))

    assert finding.severity is Severity.WARNING
    (remedy,) = finding.remedies
    assert isinstance(remedy, ByHand)
    assert "C++ compiler" in remedy.steps[0]
    assert "--no-cache-dir" in remedy.commands[0]  # pip would take the wheel again that it built without one


def test_it_is_told_before_any_runtime_is_installed() -> None:
    sick = replace(load("nothing_installed"), own_kernels=load("own_kernels_not_built").own_kernels)

    assert found_by("own-kernels-not-built", sick)
    assert found_by("own-kernels-nvrtc", sick) == ()  # it comes with the runtime


@pytest.mark.parametrize("check_id", ["own-kernels-not-built", "own-kernels-cache"])
def test_what_could_not_be_read_is_unknown(check_id: str) -> None:
    reason = Unreadable(fact="own_kernels", reason="PermissionError: /opt/onnxsd")
    (finding,) = found_by(check_id, replace(load("healthy_cuda13"), own_kernels=None, unreadable=(reason,)))

    assert finding.severity is Severity.UNKNOWN
    assert finding.because == reason.reason


@pytest.mark.parametrize("check_id", ["own-kernels-not-built", "own-kernels-cache"])
def test_facts_of_before_say_nothing(check_id: str) -> None:
    assert found_by(check_id, replace(load("healthy_cuda13"), own_kernels=None)) == ()


@pytest.mark.parametrize(
    ("system", "variable"),
    [(OperatingSystem.LINUX, "XDG_CACHE_HOME"), (OperatingSystem.WINDOWS, "LOCALAPPDATA")],
)
def test_a_cache_that_takes_nothing_is_a_remark_with_its_variable(
    system: OperatingSystem, variable: str
) -> None:
    (finding,) = found_by("own-kernels-cache", replace(load("home_read_only"), os=system))

    assert finding.severity is Severity.INFO
    assert "/home/user/.cache/onnxsd/kernels" in finding.summary
    assert finding.evidence == ("/home/user may not be written to",)
    assert isinstance(finding.remedies[0], ByHand)
    assert variable in finding.remedies[0].steps[0]


def test_one_cause_is_told_once() -> None:
    unbuilt = OwnKernels(library=False, cache_folder="/c", cache_fault="/c may not be written to")
    sick = replace(load("home_read_only"), own_kernels=unbuilt)

    assert found_by("own-kernels-cache", sick) == ()
    assert found_by("own-kernels-nvrtc", replace(load("volta_with_cuda12"), libraries=())) == ()


def test_the_newer_of_two_gpus_is_named() -> None:
    both = load("gpus_of_two_kinds")
    older = Gpu(name="Tesla V100-SXM2-16GB", memory_bytes=None, compute_capability=(7, 0))
    (finding,) = found_by("own-kernels-gpu", replace(both, gpus=(older, both.gpus[1])))

    assert finding.severity is Severity.INFO
    assert "Tesla V100" in finding.summary
    assert "compute capability 7.5" in finding.because
    assert isinstance(finding.remedies[0], ByHand)
    assert both.gpus[1].name in finding.remedies[0].steps[0]
    assert found_by("own-kernels-gpu", both) == ()
    assert found_by("own-kernels-gpu", load("volta_with_cuda12"))[0].remedies == ()


@pytest.mark.parametrize(
    ("name", "requirement"),
    [
        ("healthy_cuda13", "'nvidia-cuda-nvrtc~=13.0'"),
        ("healthy_cuda12", "'nvidia-cuda-nvrtc-cu12~=12.0'"),
        ("healthy_windows", "'nvidia-cuda-nvrtc~=13.0'"),
        ("nightly_runtime", "'nvidia-cuda-nvrtc~=13.0'"),
    ],
)
def test_nvrtc_of_the_runtimes_cuda_is_installed(name: str, requirement: str) -> None:
    (finding,) = found_by("own-kernels-nvrtc", having(load(name)))

    assert finding.severity is Severity.WARNING
    assert finding.remedies[0].commands == (f"python -m pip install {requirement}",)


@pytest.mark.parametrize(
    ("name", "copy", "serves"),
    [
        ("healthy_cuda13", nvrtc("13.0.88"), True),
        ("healthy_cuda13", nvrtc("13"), True),
        ("healthy_cuda13", nvrtc("12.9.86"), True),
        ("healthy_cuda12", nvrtc("13.0.88"), False),  # driver 535 runs CUDA 12
        ("healthy_cuda13", nvrtc("11.2"), False),
        ("healthy_cuda13", nvrtc("13.0.88", origin=Origin.LD_CACHE), True),
        ("healthy_cuda13", nvrtc("13.0.88", origin=Origin.LD_LIBRARY_PATH), True),
        ("healthy_cuda13", nvrtc("13.0.88", origin=Origin.CONDA), True),
        ("healthy_cuda13", nvrtc("13.0.88", origin=Origin.TOOLKIT), False),
        ("healthy_cuda13", nvrtc("13.0.88", origin=Origin.BUNDLED), False),
    ],
)
def test_which_nvrtc_serves(name: str, copy: Library, serves: bool) -> None:
    found = found_by("own-kernels-nvrtc", having(load(name), copy))

    assert (found == ()) is serves
    assert all(copy.path in line for finding in found for line in finding.evidence)


def test_nvrtc_is_left_to_what_brings_the_other_libraries() -> None:
    unproved = replace(load("nvrtc_missing"), probes=None)
    bare = replace(unproved, libraries=())

    assert found_by("own-kernels-nvrtc", unproved)
    assert found_by("own-kernels-nvrtc", bare) == ()
    assert found_by("library-missing", bare)


@pytest.mark.parametrize(
    ("copies", "fires"),
    [
        ((nvrtc("12.6.85"),), True),
        ((nvrtc("12.7"),), True),
        ((nvrtc("12.8.93"),), False),
        ((nvrtc("12.10"),), False),
        ((nvrtc("12"),), False),  # which 12 is not known
        ((nvrtc("12.6.85"), nvrtc("12.9.86")), False),
        ((nvrtc("12.6.85"), nvrtc("13.0.88")), True),  # that of the runtime's own CUDA is taken
        ((nvrtc("13.0.88"),), False),
        ((), False),
    ],
)
def test_an_nvrtc_of_before_the_gpu(copies: tuple[Library, ...], fires: bool) -> None:
    assert bool(found_by("own-kernels-nvrtc-too-old", having(load("nvrtc_older_than_gpu"), *copies))) is fires


def test_a_newer_nvrtc_is_installed_and_the_gpu_named() -> None:
    (finding,) = found_by("own-kernels-nvrtc-too-old", load("nvrtc_older_than_gpu"))

    assert finding.severity is Severity.WARNING
    assert "NVRTC 12.6.85" in finding.summary
    assert "compute capability 10.0" in finding.summary
    assert finding.remedies[0].commands == ("python -m pip install 'nvidia-cuda-nvrtc-cu12~=12.8'",)


def test_a_dlls_name_does_not_say_which_12_it_is() -> None:
    sick = replace(load("nvrtc_older_than_gpu"), os=OperatingSystem.WINDOWS)
    dll = replace(nvrtc("12.0", origin=Origin.SYSTEM), soname="nvrtc64_120_0.dll")

    assert found_by("own-kernels-nvrtc-too-old", having(sick, dll)) == ()
    packaged = replace(dll, owner="nvidia-cuda-nvrtc-cu12", version=Dotted.parse("12.6.85"))
    assert found_by("own-kernels-nvrtc-too-old", having(sick, packaged))


def test_a_what_if_with_the_package_mends_it() -> None:
    sick = machine.with_settings(load("nvrtc_missing"), ["pip=26.0"])
    mended = machine.with_settings(sick, ["package=nvidia-cuda-nvrtc==13.0.88"])

    assert found_by("own-kernels-nvrtc", sick)
    assert found_by("own-kernels-nvrtc", mended) == ()
