"""`--apply` for real: a virtual environment, tiny wheels made here, no network; and how it can end."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from onnxsd import machine, matrix
from onnxsd.doctor import Diagnosis, Finding, Severity, diagnose
from onnxsd.doctor.actions import Step
from onnxsd.doctor.apply import Applied, Ending, compare, refuse_where_the_system_owns, run
from onnxsd.errors import NotReadyError
from onnxsd.matrix import Goal

MACHINES = Path(__file__).parent / "machines"


def step(code: str) -> Step:
    """A command that runs some Python."""
    return Step(why="to see what happens", argv=(sys.executable, "-c", code))


def diagnosis_of(name: str) -> Diagnosis:
    """What the doctor says of a recorded machine."""
    return diagnose(machine.load(MACHINES / f"{name}.json"), matrix.load(), Goal.GENERATE)


def run_all(*steps: Step) -> Applied:
    """Run steps without telling anybody."""
    return run(steps, announce=lambda at, step: None)


def test_commands_run_in_order_and_each_is_announced_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    steps = [step(f"open({str(log)!r}, 'a').write('{name}')") for name in "ab"]
    told = []
    applied = run(steps, announce=lambda at, one: told.append((at, one, log.exists())))

    assert log.read_text() == "ab"
    assert told == [(0, steps[0], False), (1, steps[1], True)]
    assert applied == Applied(ending=Ending.DONE, done=tuple(steps))


def test_output_goes_to_stderr_as_it_comes(capfd: pytest.CaptureFixture[str]) -> None:
    run_all(step("import sys; print('out'); print('err', file=sys.stderr)"))

    captured = capfd.readouterr()
    assert captured.out == ""
    assert sorted(captured.err.split()) == ["err", "out"]


def test_a_failure_ends_it_and_keeps_what_was_said() -> None:
    good, bad, never = step("pass"), step("import sys; sys.exit('no such wheel')"), step("pass")
    applied = run_all(good, bad, never)

    assert (applied.ending, applied.code) == (Ending.FAILED, 1)
    assert (applied.done, applied.stopped_at, applied.left) == ((good,), bad, (never,))
    assert "no such wheel" in applied.said


@pytest.mark.parametrize(
    "said",
    [
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        "NewConnectionError('<...>: Failed to establish a new connection: [Errno 111] Connection refused')",
        "error: Permission denied (os error 13)",
    ],
)
def test_a_full_disk_or_a_missing_network_is_told_apart(said: str) -> None:
    assert run_all(step(f"import sys; sys.exit({said!r})")).ending is Ending.NO_RESOURCE


def test_a_program_that_is_not_there_is_told_apart(tmp_path: Path) -> None:
    missing = Step(why="", argv=(str(tmp_path / "uv"), "pip"))

    assert run_all(missing).ending is Ending.NOT_FOUND


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_lets_the_command_clean_up(tmp_path: Path) -> None:
    cleaned = tmp_path / "cleaned"
    code = f"""
import os, signal, time
os.kill(os.getppid(), signal.SIGINT)
try:
    time.sleep(60)
except KeyboardInterrupt:
    open({str(cleaned)!r}, "w").write("yes")
    raise SystemExit(130)
"""
    applied = run_all(step("pass"), step(code), step("pass"))

    assert applied.ending is Ending.INTERRUPTED
    assert (len(applied.done), len(applied.left)) == (1, 1)
    assert cleaned.read_text() == "yes"


def test_a_python_of_the_system_is_refused_with_the_way_out() -> None:
    before = diagnosis_of("both_runtime_wheels")
    refuse_where_the_system_owns(before)
    python = replace(before.machine.python, externally_managed=True, executable="/usr/bin/python3")
    owned = replace(before, machine=replace(before.machine, python=python))

    with pytest.raises(NotReadyError, match="belongs to the operating system") as caught:
        refuse_where_the_system_owns(owned)
    assert "/usr/bin/python3 -m venv .venv" in str(caught.value)


def test_what_changed_is_told_by_the_checks_that_fired() -> None:
    before, after = diagnosis_of("both_runtime_wheels"), diagnosis_of("gpu_hidden")
    change = compare(before, after)

    assert "ort-two-wheels" in {finding.id for finding in change.gone}
    assert "gpu-hidden" in {finding.id for finding in change.new}
    assert not {finding.id for finding in change.gone} & {finding.id for finding in change.stayed}
    assert compare(before, before).gone == compare(before, before).new == ()


def test_a_remark_is_no_change() -> None:
    after = diagnosis_of("healthy_cuda13")
    remark = Finding(id="log-noise", severity=Severity.INFO, summary="", because="")

    assert compare(replace(after, findings=(remark,)), after).gone == ()
