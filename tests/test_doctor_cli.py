"""`onnxsd doctor` as its user meets it: its options, what it prints and what it exits with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onnxsd import machine
from onnxsd.cli import main
from onnxsd.doctor import CHECKS

MACHINES = Path(__file__).parent / "machines"


def run(*arguments: str) -> Result:
    """What `onnxsd` with these arguments prints and exits with."""
    return CliRunner().invoke(main, list(arguments), prog_name="onnxsd")


def facts(name: str) -> tuple[str, str]:
    """The options that judge a recorded machine."""
    return "--facts", str(MACHINES / f"{name}.json")


def test_doctor_exits_as_its_findings_say() -> None:
    assert run("doctor", *facts("healthy_cuda13")).exit_code == 0
    assert run("doctor", *facts("laptop_without_gpu")).exit_code == 0
    assert run("doctor", *facts("laptop_without_gpu"), "--strict").exit_code == 1
    assert run("doctor", *facts("old_driver_550")).exit_code == 1


def test_doctor_prints_one_json_object() -> None:
    result = run("doctor", *facts("old_driver_550"), "--json")
    plain = json.loads(result.stdout)

    assert list(plain) == ["schema", "machine", "goal", "findings", "recommendation", "exit_code"]
    assert plain["exit_code"] == result.exit_code == 1
    assert plain["recommendation"]["version"] == "1.26.0"
    assert plain["recommendation"]["index"] == {"name": "pypi", "url": None}
    assert set(plain["findings"][0]) == {"id", "severity", "summary", "because", "evidence", "remedies"}


def test_doctor_prints_plain_text_in_a_pipe() -> None:
    result = run("doctor", *facts("old_driver_550"))

    assert "\x1b" not in result.stdout
    assert "[driver-too-old]" in result.stdout
    assert "$ python -m pip install 'onnxsd[run]' 'onnxruntime-gpu[cuda,cudnn]==1.26.0'" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("not ready to generate: ")


def test_doctor_is_gentler_when_the_goal_is_an_export() -> None:
    assert run("doctor", *facts("cpu_wheel_on_gpu")).exit_code == 1
    assert run("doctor", *facts("cpu_wheel_on_gpu"), "--for", "export").exit_code == 0


def test_doctor_runs_one_check() -> None:
    plain = json.loads(run("doctor", *facts("old_glibc"), "--check", "glibc-too-old", "--json").stdout)

    assert [finding["id"] for finding in plain["findings"]] == ["glibc-too-old"]


def test_doctor_writes_what_it_saw(tmp_path: Path) -> None:
    saved = tmp_path / "facts.json"
    result = run("doctor", *facts("old_glibc"), "--save-facts", str(saved))

    assert machine.load(saved) == machine.load(MACHINES / "old_glibc.json")
    assert str(saved) in result.stderr


def test_doctor_says_what_if() -> None:
    result = run("doctor", *facts("healthy_cuda13"), "--set", "driver=550.54.15", "--json")

    assert json.loads(result.stdout)["recommendation"]["version"] == "1.26.0"
    assert run("doctor", *facts("healthy_cuda13"), "--set", "driver=new").exit_code == 2


def test_doctor_says_where_it_cannot_save_facts(tmp_path: Path) -> None:
    result = run("doctor", *facts("old_glibc"), "--save-facts", str(tmp_path / "absent" / "facts.json"))

    assert result.exit_code == 6
    assert "cannot write the facts to " in result.stderr


def test_doctor_explains_as_json() -> None:
    page = json.loads(run("doctor", "--explain", "no-gpu", "--json").stdout)

    assert (page["schema"], page["id"]) == (1, "no-gpu")
    assert page["page"]


def test_doctor_explains_and_lists_its_checks() -> None:
    listed = run("doctor", "--list-checks").stdout.splitlines()

    assert [line.split()[0] for line in listed] == [check.id for check in CHECKS]
    for line in listed:
        assert run("doctor", "--explain", line.split()[0]).exit_code == 0


def test_doctor_refuses_facts_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text("{}", encoding="utf-8")

    assert run("doctor", "--facts", str(path)).exit_code == 3


def test_doctor_looks_at_this_machine() -> None:
    result = run("doctor", "--json")
    plain = json.loads(result.stdout)

    assert result.exit_code == plain["exit_code"]
    assert plain["machine"]["probes"][0]["provider"] == "CPUExecutionProvider"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--yes",),
        ("--apply", "--set", "python=3.12"),
        ("--apply", "--dockerfile"),
        ("--wheel-list", "--shell", "bash"),
        ("--symptom", "CUDA failure 35", "--check", "no-gpu"),
        ("--list-checks", "--explain", "no-gpu"),
        ("--explain", "no-gpu", *facts("old_glibc")),
        (*facts("old_glibc"), "--apply"),
        (*facts("old_glibc"), "--python", "python3"),
    ],
)
def test_doctor_refuses_options_that_contradict_each_other(arguments: tuple[str, ...]) -> None:
    result = run("doctor", *arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith("error: --")


@pytest.mark.parametrize("path", sorted(MACHINES.glob("*.json")), ids=lambda path: path.stem)
def test_doctor_reads_well_on_80_columns(path: Path) -> None:
    printed = run("doctor", "--facts", str(path)).stdout
    # Commands are whole, to be copied; a path that is longer than a line cannot be broken.
    long = [line for line in printed.splitlines() if len(line) > 80 and len(line.split()) > 1]

    assert printed
    assert [line for line in long if not line.lstrip().startswith("$ ")] == []
    assert "\x1b" not in printed
    assert len(printed.splitlines()) < 80
    assert "None" not in printed
    assert ".." not in printed.replace("...", "")


def test_doctor_folds_checks_that_could_not_be_made() -> None:
    lines = run("doctor", *facts("nvml_broken")).stdout.splitlines()

    assert sum(line.startswith("? ") for line in lines) == 1
    assert lines[-1].startswith("ready to generate, as far as could be seen (")


def test_doctor_prints_no_letter_that_the_output_cannot_hold() -> None:
    command = [sys.executable, "-m", "onnxsd", "doctor", *facts("old_driver_550")]
    done = subprocess.run(
        command, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )

    assert done.returncode == 1
    assert done.stdout.decode("ascii").splitlines()[-1].startswith("not ready")
    assert done.stderr == b""


def test_doctor_prints_the_plan_for_a_shell() -> None:
    bash = run("doctor", *facts("both_runtime_wheels"), "--shell", "bash")
    plain = json.loads(run("doctor", *facts("both_runtime_wheels"), "--shell", "powershell", "--json").stdout)

    assert bash.exit_code == 0
    assert "python -m pip uninstall -y onnxruntime onnxruntime-gpu\n" in bash.stdout
    assert all(line.startswith(("python ", "# ")) for line in bash.stdout.splitlines())
    assert (plain["schema"], plain["shell"]) == (1, "powershell")
    assert plain["commands"][0] == "python -m pip uninstall -y onnxruntime onnxruntime-gpu"


def test_doctor_prints_nothing_to_a_shell_where_nothing_is_to_do() -> None:
    result = run("doctor", *facts("healthy_cuda13"), "--shell", "bash")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing to install" in result.stderr


def test_doctor_prints_wheels_to_carry_and_a_container_recipe() -> None:
    wheels = run("doctor", *facts("both_runtime_wheels"), "--wheel-list")
    recipe = run("doctor", *facts("old_glibc"), "--dockerfile")

    assert "python -m pip download" in wheels.stdout
    assert "--no-index" in wheels.stdout
    assert recipe.stdout.count("\nFROM ") == 1
    assert json.loads(run("doctor", *facts("old_glibc"), "--dockerfile", "--json").stdout)["dockerfile"]


def test_doctor_names_its_commands_for_the_shell_that_the_machine_has() -> None:
    printed = run("doctor", *facts("cuda_path_of_cuda12")).stdout

    assert "windows x86_64" in printed
    assert "$ python -m pip install" in printed


def test_doctor_looks_at_another_interpreter() -> None:
    plain = json.loads(run("doctor", "--python", sys.executable, "--no-probe", "--json").stdout)

    assert plain["machine"]["python"]["executable"] == sys.executable
    assert run("doctor", "--python", "no-such-python").exit_code == 2


def test_doctor_knows_what_a_misspelt_check_meant() -> None:
    result = run("doctor", "--explain", "no-gpuu")

    assert result.exit_code == 2
    assert "did you mean no-gpu" in result.stderr
    assert "--list-checks" in result.stderr


def test_one_check_says_nothing_of_the_others() -> None:
    silent = run("doctor", *facts("old_driver_550"), "--check", "no-gpu").stdout.splitlines()
    fired = run("doctor", *facts("old_driver_550"), "--check", "driver-too-old").stdout.splitlines()

    assert silent[-1] == "no-gpu: nothing that matters"
    assert fired[-1] == "driver-too-old: 1 error"
    assert not any("ready" in line for line in (*silent, *fired))
