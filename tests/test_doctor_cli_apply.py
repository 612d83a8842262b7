"""`--apply` for real: a virtual environment, tiny wheels made here, no network; and how it can end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onnxsd import machine, matrix
from onnxsd.cli import main
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


def wheel(folder: Path, name: str, version: str, *, module: str | None = None, metadata: str = "") -> None:
    """Write a wheel of one small module."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if module:
        files[f"{module}/__init__.py"] = f"__version__ = {version!r}  # of {name}\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def shelve(folder: Path) -> None:
    """Tiny stand-ins for all that a plan may ask for, whatever GPU this machine has."""
    known = matrix.load()
    extras = "".join(f"Provides-Extra: {name}\n" for name in ("run", "cpu", "cuda", "cudnn"))
    for release in known.releases:
        wheel(folder, known.package, str(release.version), module="onnxruntime", metadata=extras)
    wheel(folder, known.cpu_package, str(known.releases[0].version), module="onnxruntime")
    for row in known.requirements:
        wheel(folder, row.name, "99.0")
    for package in {row.package for row in known.library_packages}:
        wheel(folder, package, "99.0")
    needs = "".join(f"Requires-Dist: {row.name}; extra == 'run'\n" for row in known.requirements)
    runtime = (
        f"Requires-Dist: onnxsd[run]; extra == 'cpu'\nRequires-Dist: {known.cpu_package}; extra == 'cpu'\n"
    )
    wheel(folder, "onnxsd", "99.0", metadata=extras + needs + runtime)


@dataclass(frozen=True)
class Bench:
    """A virtual environment, and the wheels that it can be changed with."""

    python: Path
    wheels: Path

    def doctor(self, *arguments: str, stdin: str | None = None) -> Result:
        """What `onnxsd doctor` does with it."""
        command = ["doctor", "--python", str(self.python), "--no-probe", *arguments]
        return CliRunner().invoke(main, command, input=stdin)

    def installed(self) -> set[str]:
        """The runtimes in it."""
        found = self.python.parents[1].rglob("onnxruntime*.dist-info")
        return {path.name.partition("-")[0].replace("_", "-") for path in found}


SETTINGS = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
IN_A_VENV = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels, and an environment in which two packages own `onnxruntime`."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "wheels").mkdir()
    shelve(folder / "wheels")
    venv.create(folder / "venv", with_pip=True)
    both = ["onnxruntime", "onnxruntime-gpu"]
    settings = {**os.environ, **SETTINGS, "PIP_FIND_LINKS": (folder / "wheels").as_uri()}
    install = [folder / "venv" / IN_A_VENV, "-m", "pip", "install", *both]
    subprocess.run(install, check=True, capture_output=True, env=settings)
    return folder


@pytest.fixture
def bench(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A copy of that environment, to be changed."""
    shutil.copytree(shelf / "venv", tmp_path / "venv", symlinks=True)
    shutil.copytree(shelf / "wheels", tmp_path / "wheels")
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_FIND_LINKS", (tmp_path / "wheels").as_uri())
    return Bench(python=tmp_path / "venv" / IN_A_VENV, wheels=tmp_path / "wheels")


def test_a_plan_is_shown_run_and_judged_again(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    assert bench.installed() == {"onnxruntime", "onnxruntime-gpu"}
    result = bench.doctor("--apply", "--yes")

    assert len(bench.installed()) == 1
    assert "2 packages provide onnxruntime" in result.stdout
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in result.stderr
    assert result.stderr.index("The plan:") < result.stderr.index("[1/")
    assert "gone: 2 packages provide onnxruntime" in result.stderr
    assert "Successfully uninstalled" in capfd.readouterr().err
    assert "ort-two-wheels" not in result.stdout.rpartition("runtime  ")[2]

    again = bench.doctor("--apply", "--yes", "--json")
    assert json.loads(again.stdout)["applied"]["gone"] == []


def test_no_is_an_answer(bench: Bench) -> None:
    before = bench.installed()
    refused = bench.doctor("--apply", stdin="n\n")
    unanswered = bench.doctor("--apply", stdin="")

    assert (refused.exit_code, unanswered.exit_code) == (1, 130)
    assert "nothing was changed" in refused.stderr
    assert "--yes" in unanswered.stderr
    assert bench.installed() == before


def test_a_pip_that_fails_says_how_far_it_came_and_what_to_do(bench: Bench) -> None:
    for one in bench.wheels.glob("*.whl"):
        one.unlink()
    result = bench.doctor("--apply", "--yes")

    assert result.exit_code == 1
    assert "done: " in result.stderr
    assert "pip uninstall -y" in result.stderr
    assert "pip install" in result.stderr.splitlines()[-1]
    assert "ended with exit code 1 (" in result.stderr.splitlines()[-1]
    assert bench.installed() == set()


def replace_pip(bench: Bench, code: str) -> None:
    """Let `python -m pip` in the environment run this instead."""
    (main_file,) = bench.python.parents[1].rglob("site-packages/pip/__main__.py")
    main_file.write_text(code, encoding="utf-8")


def test_a_full_disk_ends_it_with_6(bench: Bench) -> None:
    replace_pip(bench, "import sys; sys.exit('ERROR: [Errno 28] No space left on device')")
    result = bench.doctor("--apply", "--yes")

    assert result.exit_code == 6
    assert "not begun: " in result.stderr
    assert "a disk is full" in result.stderr.splitlines()[-1]


def test_a_known_error_of_pip_is_explained(bench: Bench) -> None:
    replace_pip(bench, "import sys; sys.exit('error: externally-managed-environment')")
    result = bench.doctor("--apply", "--yes")

    assert result.exit_code == 1
    assert "this Python belongs to the system" in result.stderr.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_says_what_was_done(bench: Bench) -> None:
    stop = "if 'uninstall' not in sys.argv: os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"
    replace_pip(bench, f"import os, signal, sys, time\n{stop}\n")
    result = bench.doctor("--apply", "--yes")

    assert result.exit_code == 130
    done, interrupted = (
        line for line in result.stderr.splitlines() if line.startswith(("done: ", "interrupted: "))
    )
    assert "pip uninstall" in done
    assert "pip install" in interrupted
    assert "--apply` goes on from here" in result.stderr
