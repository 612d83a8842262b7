"""Probes in child processes: sessions, torch, crashes, hangs, and answers cut short."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from doctor_cases import findings_of, judge

from onnxsd import machine
from onnxsd.machine import Outcome, ProbeGraph, Provider
from onnxsd.machine.child import Ended, run_child, run_text
from onnxsd.machine.probe import probe, read_answers
from onnxsd.machine.torch_probe import probe_torch, read_torch

ROOT = Path(__file__).parents[1]
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def test_a_crash_of_the_child_is_a_fact() -> None:
    (result,) = read_answers(Provider.CPU, run_text(KILLED))

    assert result.outcome is Outcome.CRASHED
    assert result.message == "ended by signal 9"
    assert read_torch(run_text(KILLED)).outcome is Outcome.CRASHED


def test_a_hang_of_the_child_is_a_fact() -> None:
    ended = run_text("import time; print('waiting', flush=True); time.sleep(600)", timeout_s=0.5)
    (result,) = read_answers(Provider.CUDA, ended)

    assert result.outcome is Outcome.HUNG
    assert result.message == "no answer within 0.5 s"


@pytest.mark.timeout(60)
def test_a_child_that_leaves_a_process_behind_is_not_waited_for() -> None:
    leaves = (
        "import json, subprocess, sys\n"
        "left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        "print(json.dumps({'answer': {'pid': left.pid}}))"
    )
    ended = run_child([sys.executable, "-c", leaves], timeout_s=50)
    os.kill(ended.answers[0]["pid"], signal.SIGTERM)

    assert not ended.hung
    assert ended.fault == ""


def test_the_machines_name_is_left_out_of_what_was_said() -> None:
    said = "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; hostname=alices-laptop ; line=355"
    writes = (
        "import json, sys\n"
        f"print({said!r}, file=sys.stderr, flush=True)\n"
        "answer = dict(graph='plain', outcome='refused', runtime_version='1.31.1', available_providers=[],"
        f" session_providers=[], outputs=[], message={said!r}, log_end=None, loaded=[])\n"
        "print(json.dumps({'answer': answer}))"
    )
    (result,) = read_answers(Provider.CUDA, run_text(writes))

    for text in (result.message, result.native_log):
        assert "CUDA failure 100" in text
        assert "alices-laptop" not in text


def test_what_was_answered_before_a_crash_is_kept_with_its_part_of_the_log() -> None:
    answer = {
        "graph": "plain",
        "outcome": "ran",
        "runtime_version": "1.31.1",
        "available_providers": [],
        "session_providers": ["CPUExecutionProvider"],
        "outputs": [1.0],
        "message": "",
        "loaded": [],
        "log_end": 6,
    }
    ended = Ended(answers=(answer,), fault="ended by signal 11", hung=False, log=b"first\nsecond\n")
    first, second = read_answers(Provider.CPU, ended)

    assert (first.outcome, first.native_log) == (Outcome.RAN, "first")
    assert (second.outcome, second.graph) == (Outcome.CRASHED, ProbeGraph.ATTENTION)
    assert second.native_log == "second"


def test_a_crash_of_torch_leaves_what_it_had_told() -> None:
    told = ({"version": "2.4.0", "cuda": "12.4"}, {"cuda_available": True})
    result = read_torch(Ended(answers=told, fault="ended by signal 11", hung=False, log=b"\x1b[31mbad\xff"))

    assert result.outcome is Outcome.CRASHED
    assert (result.version, result.cuda, result.cuda_available) == ("2.4.0", "12.4", True)
    assert result.native_log == "bad\ufffd"


def test_the_probe_runs_both_graphs_on_the_cpu() -> None:
    pytest.importorskip("onnxruntime")
    plain, attention = probe(Provider.CPU)

    assert plain.outcome is Outcome.RAN, plain
    assert plain.session_providers == ("CPUExecutionProvider",)
    assert sum(plain.outputs) == pytest.approx(1.0, abs=1e-5)  # one row of a softmax
    assert (attention.graph, attention.outcome) == (ProbeGraph.ATTENTION, Outcome.RAN), attention
    assert all(-1 <= value <= 1 for value in attention.outputs)  # a weighted mean of sines


def test_cuda_without_cuda_is_refused_and_never_falls_back() -> None:
    runtime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in runtime.get_available_providers():
        pytest.skip("this build knows CUDA")
    (result,) = probe(Provider.CUDA)

    assert result.outcome in (Outcome.REFUSED, Outcome.FELL_BACK), result
    assert result.outputs == ()


def test_torch_says_what_it_is_built_for() -> None:
    torch = pytest.importorskip("torch")
    result = probe_torch()

    assert result.outcome is Outcome.RAN, result
    assert result.version == str(torch.__version__)
    assert result.cuda == torch.version.cuda


def test_without_torch_the_answer_is_that_it_is_not_there(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = next(path for path in (tmp_path / "bare").glob("[bS]*/python*") if path.stem == "python")

    assert probe_torch(python=str(python)).outcome is Outcome.NOT_INSTALLED
    assert [one.outcome for one in probe(Provider.CPU, python=str(python))] == [Outcome.NOT_INSTALLED]


@pytest.mark.gpu
def test_the_probe_runs_on_cuda() -> None:
    seen = machine.snapshot()

    assert seen.gpus
    for graph in ProbeGraph:
        on_cuda = seen.probe(Provider.CUDA, graph)
        assert on_cuda is not None
        assert on_cuda.outcome is Outcome.RAN, on_cuda
    assert not findings_of(judge(seen), "cuda-does-not-run")


def test_the_shipped_models_are_what_their_script_writes(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    script = ROOT / "scripts" / "make_probe_model.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    written = sorted(tmp_path.glob("*.onnx"))

    assert [path.name for path in written] == ["probe.onnx", "probe_attention.onnx"]
    for path in written:
        assert path.read_bytes() == (ROOT / "onnxsd" / "machine" / path.name).read_bytes()
