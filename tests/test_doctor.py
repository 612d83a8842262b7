"""The doctor: recorded machines and what it says of them, the matrix, the facts, the probe."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import doctor_rows_gpu
import doctor_rows_packages
import pytest
from doctor_cases import HEALTHY, MATRIX, differing_fields, findings_of, judge, load, recorded, settings
from packaging import tags
from packaging.version import Version

from onnxsd import doctor, machine, matrix
from onnxsd.doctor import CHECKS, Severity
from onnxsd.doctor.case import Check
from onnxsd.errors import BadInputError, UsageError
from onnxsd.machine import Machine, Outcome, Provider
from onnxsd.machine.file import text_of
from onnxsd.machine.probe import probe, run_child
from onnxsd.machine.tags import platform_tags_of
from onnxsd.matrix import Goal
from onnxsd.matrix.file import parse
from onnxsd.records import Dotted

ROOT = Path(__file__).parents[1]
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


def test_the_matrix_is_dumped_as_it_was_read() -> None:
    text = (ROOT / "compat_matrix.yaml").read_text(encoding="utf-8")

    assert matrix.dump(parse(text, source="the file")) == text


def test_every_row_of_the_matrix_has_a_source_and_a_date() -> None:
    assert len(MATRIX.releases) == 35
    for rows in (MATRIX.floors, MATRIX.drivers, MATRIX.branches, MATRIX.systems, MATRIX.releases):
        assert all(row.source and row.checked for row in rows)


def test_faults_of_a_matrix_are_reported_together() -> None:
    text = (ROOT / "compat_matrix.yaml").read_text(encoding="utf-8")
    text = text.replace('version: "1.31.1"', "version: 1.31", 1).replace(
        "cuda_major: 13", 'cuda_major: "13"', 1
    )
    text = text.replace('glibc: "2.17"', 'glibc: "two"').replace("extras_fault:", "extra_fault:")

    with pytest.raises(BadInputError) as caught:
        parse(text, source="matrix.yaml")

    for part in (
        "matrix.yaml",
        "releases[0].version: expected quoted text (Version), found 1.31",
        "floors[0].cuda_major: expected int, found '13'",
        "systems[0].glibc: expected a Dotted, found 'two'",
        "extra_fault: there is no such field",
    ):
        assert part in str(caught.value)


def test_the_matrix_asks_for_what_the_run_extra_asks_for() -> None:
    from configparser import ConfigParser

    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options.extras_require"]["run"].split()

    assert [f"{row.name}>={row.minimum}" for row in MATRIX.requirements] == wanted


def test_facts_survive_a_file(tmp_path: Path) -> None:
    seen = load("gpu_hidden")
    machine.save(seen, tmp_path / "facts.json")

    assert machine.load(tmp_path / "facts.json") == seen


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "is not JSON"),
        ("[]", "schema None"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 2, "os": "plan9"}', "os: expected one of linux, windows, macos, other, found 'plan9'"),
    ],
)
def test_facts_that_cannot_be_used_are_refused(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "facts.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(BadInputError, match=r"facts\.json") as caught:
        machine.load(path)
    assert part in str(caught.value)


def test_this_machine_is_read_and_its_facts_survive() -> None:
    seen = machine.snapshot(probe=False)

    assert seen.python.version == Version(".".join(map(str, sys.version_info[:3])))
    assert seen.python.abi == next(tags.cpython_tags()).abi
    assert seen.probes is None
    assert Machine.from_json(json.loads(text_of(seen)), source="here") == seen


@pytest.mark.skipif(sys.platform != "linux", reason="manylinux tags")
def test_tags_computed_from_facts_equal_packagings() -> None:
    seen = machine.snapshot(probe=False)

    computed = platform_tags_of(seen.os, seen.arch, glibc=seen.glibc, musl=seen.musl)
    assert sorted(computed) == sorted(seen.platform_tags)


def test_another_system_forgets_what_is_installed_here() -> None:
    changed = settings("glibc=2.26")

    assert changed.distributions == ()
    assert changed.probes is None
    assert changed.platform_tags[1] == "manylinux_2_26_x86_64"
    assert changed.gpus == load("healthy_cuda13").gpus


def test_a_driver_without_a_gpu_assumes_one_and_says_so() -> None:
    changed = machine.with_settings(load("laptop_without_gpu"), ["driver=535.104.05"])

    assert changed.gpus[0].compute_capability == (8, 0)
    assert "assumes" in changed.gpus[0].name
    assert changed.distributions == load("laptop_without_gpu").distributions


def test_packages_can_be_set_and_removed() -> None:
    changed = settings("package=onnxruntime==1.31.1", "package=nvidia-cudnn-cu13==none")

    assert {one.name for one in changed.owners_of("onnxruntime")} == {"onnxruntime", "onnxruntime-gpu"}
    assert changed.distribution("nvidia-cudnn-cu13") is None


@pytest.mark.parametrize(
    "change", ["glibc", "glibc=new", "colour=red", "gpu=A100", "os=plan9", "python=three", "free_threaded=1"]
)
def test_a_setting_that_means_nothing_is_refused(change: str) -> None:
    with pytest.raises(UsageError, match=change.partition("=")[0]):
        settings(change)


def test_a_crash_of_the_child_is_a_fact() -> None:
    killed = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    result = run_child(killed, Provider.CPU, timeout_s=60)

    assert result.outcome is Outcome.CRASHED
    assert result.message


def test_a_hang_of_the_child_is_a_fact() -> None:
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    result = run_child(sleeping, Provider.CUDA, timeout_s=0.5)

    assert result.outcome is Outcome.HUNG


def test_the_probe_runs_on_the_cpu() -> None:
    pytest.importorskip("onnxruntime")
    result = probe(Provider.CPU)

    assert result.outcome is Outcome.RAN, result
    assert result.session_providers == ("CPUExecutionProvider",)
    assert sum(result.outputs) == pytest.approx(1.0, abs=1e-5)  # one row of a softmax


def test_cuda_without_cuda_is_refused_and_never_falls_back() -> None:
    runtime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in runtime.get_available_providers():
        pytest.skip("this build knows CUDA")
    result = probe(Provider.CUDA)

    assert result.outcome in (Outcome.REFUSED, Outcome.FELL_BACK), result
    assert result.outputs == ()


@pytest.mark.gpu
def test_the_probe_runs_on_cuda() -> None:
    seen = machine.snapshot()

    assert seen.gpus
    on_cuda = seen.probe(Provider.CUDA)
    assert on_cuda is not None
    assert on_cuda.outcome is Outcome.RAN, on_cuda
    assert not findings_of(judge(seen), "cuda-does-not-run")


def test_the_shipped_probe_model_is_what_its_script_writes(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    written = tmp_path / "probe.onnx"
    script = ROOT / "scripts" / "make_probe_model.py"
    subprocess.run([sys.executable, str(script), str(written)], check=True)

    assert written.read_bytes() == (ROOT / "onnxsd" / "machine" / "probe.onnx").read_bytes()


def test_a_driver_keeps_its_spelling_and_compares_by_number() -> None:
    assert str(Dotted.parse("450.80.02")) == "450.80.02"
    assert Dotted.parse("535.104.05") > Dotted.parse("535.54.03")
    assert Dotted.parse("580") <= Dotted.parse("580.65.06")
