"""`onnxsd bench` from the command line, on the CPU with the built-in model: the machinery, not the times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench_cases import REPORT
from click.testing import CliRunner, Result
from test_bench_child import has_ended, interpreter

from onnxsd.bench import figures
from onnxsd.bench.documents import BEGIN, END
from onnxsd.bench.report import Case, Report, load
from onnxsd.cli import main

CASE = Case(size_px=64, batch=1)
ROUNDS = 2
pytestmark = pytest.mark.skipif(os.name != "posix", reason="its interpreters are shell scripts")


def bench(*arguments: str | Path) -> Result:
    """What a small bench prints and exits with."""
    small = ("--provider", "cpu", "--model", "shapes", "--size", "64", "--steps", "2")
    return CliRunner().invoke(main, ["bench", *small, *map(str, arguments)], prog_name="onnxsd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run below leaves its files."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def done(folder: Path) -> Result:
    """One run with contenders that work, one that crashes and one that is not installed."""
    (folder / "page.md").write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    crash = interpreter(folder, "echo 'no such driver' >&2; exit 9", "crash")
    bare = interpreter(folder, f'exec "{sys.executable}" -S "$@"')
    return bench(
        *("--rounds", ROUNDS, "--contenders", "onnxsd-again,diffusers,compile,optimum"),
        *("--python", f"compile={crash}", "--python", f"optimum={bare}"),
        *("-o", folder / "report.json", "--chart", folder / "chart.png", "--write-docs", folder / "page.md"),
    )


@pytest.fixture(scope="module")
def report(done: Result, folder: Path) -> Report:
    """What that run measured."""
    assert done.exit_code == 0, done.output
    return load(folder / "report.json")


@pytest.mark.reference
@pytest.mark.parametrize("name", ["onnxsd", "onnxsd-again", "diffusers"])
def test_every_contender_that_works_has_every_sample(report: Report, name: str) -> None:
    (model,) = report.models
    found = model.contender(name)
    assert found is not None
    case = found.case(CASE)

    assert found.failure is None
    assert case.failure is None
    assert {package.name for package in found.versions} >= {"onnxsd" if "onnxsd" in name else "torch"}
    assert found.kernels is None  # on a CPU there is no choice
    for samples in (case.unet_s, case.vae_s, case.image_s):
        assert len(samples) >= ROUNDS
        assert all(seconds > 0 for seconds in samples)
    assert found.cold_start_s is not None
    assert case.first_image_s is not None
    assert found.cold_start_s > case.first_image_s
    assert (case.peak_host_bytes or 0) > 10 << 20
    assert case.peak_gpu_bytes is None


@pytest.mark.reference
@pytest.mark.parametrize("name", ["onnxsd", "onnxsd-again", "diffusers"])
def test_every_output_is_near_the_float32_reference(report: Report, name: str) -> None:
    found = report.models[0].contender(name)
    assert found is not None

    for error in (found.case(CASE).unet_error, found.case(CASE).vae_error):
        assert error is not None
        assert 0 < error < 1e-5  # all of them compute in float32 here
    for difference in (found.case(CASE).unet_repeat, found.case(CASE).vae_repeat):
        assert difference is not None
        assert difference < 1e-6


@pytest.mark.reference
def test_one_that_crashes_and_one_that_is_missing_are_rows(done: Result, report: Report) -> None:
    (model,) = report.models
    crashed, missing = model.contender("compile"), model.contender("optimum")
    assert crashed is not None
    assert missing is not None

    assert crashed.failure == "ended with exit code 9 during `load`: no such driver"
    assert (missing.failure or "").startswith("not installed: ModuleNotFoundError")
    assert "compile: ended with exit code 9" in done.output
    assert done.exit_code == 0


@pytest.mark.reference
def test_the_report_says_how_it_was_measured(report: Report) -> None:
    (model,) = report.models
    (work,) = model.workloads

    assert report.command == (
        "onnxsd bench --model shapes --provider cpu --size 64 --batch 1 --steps 2 --rounds 2"
        " --contenders onnxsd-again,diffusers,compile,optimum"
    )
    assert (report.settings.rounds, report.settings.provider, model.steps) == (ROUNDS, "cpu", 2)
    assert report.machine.cores > 0
    assert report.machine.gpu is None
    assert model.export_s is not None
    assert (model.export_peak_bytes or 0) > 10 << 20
    assert report.ceiling is not None
    assert all(rate > 1e6 for rate in report.ceiling.rates)
    assert work.unet_flops > 1e8
    floor = figures.floor_s("image", model, CASE, report.ceiling)
    assert floor == pytest.approx(
        (2 * work.unet_flops + work.vae_flops) / (figures.rate(report.ceiling) or 0)
    )


@pytest.mark.reference
def test_table_chart_and_document_come_with_the_run(done: Result, report: Report, folder: Path) -> None:
    ratio = figures.faster(report.models[0], CASE, "unet", "diffusers")
    assert ratio is not None

    assert "shapes, 64², batch 1" in done.output
    assert f"{ratio:.3f}" in done.output
    assert f"{ratio:.3f}" in (folder / "page.md").read_text(encoding="utf-8")
    assert (folder / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_a_bench_in_which_onnxsd_fails_is_exit_code_1_and_says_why(tmp_path: Path) -> None:
    crash = interpreter(tmp_path, "exit 9")
    done = bench(
        *("--rounds", 1, "--contenders", "onnxsd", "-o", tmp_path / "report.json"),
        *("--python", f"onnxsd={crash}", "--python", f"reference={crash}"),
    )

    report = load(tmp_path / "report.json")
    assert done.exit_code == 1
    assert "onnxsd: ended with exit code 9 during `load`" in done.output
    assert report.failed
    assert "no float32 reference" in report.notes[0]


def test_a_contender_that_hangs_is_a_row(tmp_path: Path) -> None:
    """In turn, so that both orders of measuring are run."""
    hanging, crash = (
        interpreter(tmp_path, script, name)
        for name, script in (("hang", "exec sleep 600"), ("crash", "exit 9"))
    )
    done = bench(
        *("--rounds", 1, "--contenders", "diffusers", "--in-turn", "--timeout", 15),
        *("--python", f"diffusers={hanging}", "--python", f"reference={crash}"),
        *("-o", tmp_path / "report.json"),
    )

    (model,) = load(tmp_path / "report.json").models
    hung, ours = model.contender("diffusers"), model.contender("onnxsd")
    assert hung is not None
    assert ours is not None
    assert done.exit_code == 0, done.output
    assert hung.failure == "no answer to `load` within 15 s"
    assert model.in_turn
    assert ours.case(CASE).image_s


def test_ctrl_c_ends_every_process_and_keeps_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    command = [sys.executable, "-m", "onnxsd", "bench", "--provider", "cpu", "--model", "shapes"]
    command += ["--size", "64", "--steps", "2", "--rounds", "100000", "--contenders", "onnxsd"]
    command += ["--python", f"reference={interpreter(tmp_path, 'exit 9')}", "-o", str(path)]
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        children = _wait_for_samples(path, process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()

    report = load(path)
    (model,) = report.models
    assert process.returncode == 130
    assert report.interrupted
    assert model.contenders[0].case(CASE).unet_s
    assert "Interrupted" in out.decode()
    assert children
    assert all(has_ended(pid) for pid in children)


def _wait_for_samples(path: Path, process: subprocess.Popen[bytes]) -> list[int]:
    """Wait until a round is in the file; the processes that the bench has started."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
        if path.exists() and (found := load(path)).models and _has_samples(found):
            tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
            return [int(pid) for task in tasks for pid in task.read_text().split()]
    raise AssertionError("no round was measured")


def _has_samples(report: Report) -> bool:
    return any(case.unet_s for one in report.models[0].contenders for case in one.cases)


@pytest.mark.gpu
@pytest.mark.reference
def test_on_a_gpu_memory_and_energy_are_told_and_errors_are_those_of_fp16(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    small = ("--model", "shapes", "--size", "128,64", "--batch", "1,2", "--steps", "4", "--rounds", "1")
    done = CliRunner().invoke(
        main,
        ["bench", "--provider", "cuda", *small, "--contenders", "onnxsd-stock,diffusers", "-o", str(path)],
    )
    assert done.exit_code == 0, done.output
    report = load(path)
    told = {one.name: (one.kernels or "").partition(" ")[0] for one in report.models[0].contenders}
    assert told == {"onnxsd": "own", "onnxsd-stock": "stock", "diffusers": ""}

    assert report.machine.gpu is not None
    assert (figures.rate(report.ceiling) or 0) > 1e13
    assert len(report.models[0].workloads) == 4
    for contender in report.models[0].contenders:
        for case in contender.cases:
            assert case.failure is None
            assert (case.peak_gpu_bytes or 0) > 100 << 20
            assert all(joules >= 0 for joules in case.image_joules)
            assert 1e-6 < (case.unet_error or 0) < 1e-2
            assert 1e-6 < (case.vae_error or 0) < 1e-2


def test_the_hand_made_report_is_one_that_a_run_could_give() -> None:
    """Tests of figures and tables rest on it."""
    assert not REPORT.failed
    assert REPORT.settings.contenders == tuple(one.name for one in REPORT.models[0].contenders)
