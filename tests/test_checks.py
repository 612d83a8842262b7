"""Each check: its machine, the smallest change that silences it, its page; and what a diagnosis is."""

from __future__ import annotations

import functools
from dataclasses import replace

import doctor_rows_gpu
import doctor_rows_packages
import pytest
from doctor_cases import HEALTHY, MATRIX, differing_fields, findings_of, judge, load, recorded

from onnxsd import doctor
from onnxsd.doctor import CHECKS, Severity
from onnxsd.doctor.case import Check
from onnxsd.matrix import Goal

ROWS = {row.check: row for row in (*doctor_rows_packages.ROWS, *doctor_rows_gpu.ROWS)}
# On these nothing fires: the last has facts that could not be read.
SILENT = {*HEALTHY, "nvml_broken"}


@functools.cache
def fired_on(name: str) -> frozenset[str]:
    """The checks that find something on a machine, other than that they could not look."""
    found = judge(load(name)).findings
    return frozenset(finding.id for finding in found if finding.severity is not Severity.UNKNOWN)


def test_every_check_has_a_row_and_every_row_a_check() -> None:
    rows = [row.check for row in (*doctor_rows_packages.ROWS, *doctor_rows_gpu.ROWS)]

    assert sorted(rows) == sorted(check.id for check in CHECKS)


def test_every_recorded_machine_is_named_in_a_row() -> None:
    named = {name for row in ROWS.values() for name in row.machines}

    assert set(recorded()) == named | SILENT


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_fires_on_its_machines_and_on_no_other(check: Check) -> None:
    fired = {name for name in recorded() if check.id in fired_on(name)}

    assert fired == set(ROWS[check.id].machines)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_is_silent_on_its_near_miss(check: Check) -> None:
    row = ROWS[check.id]
    sick = load(row.machines[0])
    near = row.near_miss(sick)

    assert len(differing_fields(sick, near)) == 1
    assert judge(near, checks=(check,)).findings == ()


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("goal", Goal)
def test_a_healthy_machine_is_ready_without_a_word(name: str, goal: Goal) -> None:
    diagnosis = judge(load(name), goal)

    assert diagnosis.findings == ()
    assert diagnosis.exit_code(strict=True) == 0
    assert diagnosis.recommendation is not None
    assert diagnosis.recommendation.suffices


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_has_a_page_that_names_its_sources(check: Check) -> None:
    assert check.title.endswith(".")
    assert "Source" in check.page
    assert len(check.page.splitlines()) > 3


def test_a_check_that_fails_is_reported_and_the_others_run() -> None:
    def broken(case: object) -> None:
        raise KeyError("nothing of that name")

    first = replace(CHECKS[0], find=broken)
    diagnosis = doctor.diagnose(load("gpu_hidden"), MATRIX, Goal.GENERATE, checks=(first, *CHECKS[1:]))

    assert findings_of(diagnosis, first.id)[0].severity is Severity.UNKNOWN
    assert "nothing of that name" in findings_of(diagnosis, first.id)[0].because
    assert findings_of(diagnosis, "gpu-hidden")


def test_an_unreadable_fact_is_unknown_and_never_a_pass() -> None:
    diagnosis = judge(load("nvml_broken"))
    unknown = [finding for finding in diagnosis.findings if finding.severity is Severity.UNKNOWN]

    assert {"cuda-does-not-run", "no-gpu", "gpu-not-in-wheel"} <= {finding.id for finding in unknown}
    assert all("NVML/RM version mismatch" in finding.because for finding in unknown)


def test_the_native_reason_is_shown() -> None:
    (finding,) = findings_of(judge(load("cublas_missing")), "cuda-does-not-run")

    assert "libcublasLt.so.13: cannot open shared object file" in " ".join(finding.evidence)


def test_no_gpu_is_no_obstacle_to_the_goal_when_the_cpu_runs() -> None:
    diagnosis = judge(load("laptop_without_gpu"))

    assert diagnosis.recommendation is None
    assert diagnosis.exit_code() == 0
    assert diagnosis.exit_code(strict=True) == 1
    (finding,) = diagnosis.findings
    assert finding.id == "no-gpu"
    assert "onnxruntime" in finding.summary


def test_without_any_runtime_nothing_is_ready() -> None:
    fresh = replace(load("nothing_installed"), gpus=(), driver=None)
    diagnosis = judge(fresh)

    assert diagnosis.exit_code() == 1
    (finding,) = findings_of(diagnosis, "ort-missing")
    assert finding.remedies[0].commands == ("python -m pip install 'onnxsd[cpu]'",)


def test_two_wheels_are_both_removed_before_one_is_installed() -> None:
    diagnosis = judge(load("both_runtime_wheels"))
    commands = (
        "python -m pip uninstall -y onnxruntime onnxruntime-gpu",
        "python -m pip install 'onnxsd[run]' 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    )

    assert findings_of(diagnosis, "ort-two-wheels")[0].remedies[0].commands == commands
    assert diagnosis.recommendation is not None
    assert diagnosis.recommendation.commands == commands
