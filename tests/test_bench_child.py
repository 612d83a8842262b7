"""The bench's processes: what they answer, and what becomes of one that crashes, hangs or is missing."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from onnxsd import builtin
from onnxsd.bench.child import Child, Command, Failed
from onnxsd.bench.helpers import Helpers, error_of, resolve_provider
from onnxsd.bench.inputs import latent_factor, unet_inputs, vae_inputs
from onnxsd.errors import BadInputError, NotReadyError, ProviderFallbackError

TIMEOUT_S = 120.0
posix = pytest.mark.skipif(os.name != "posix", reason="its interpreters are shell scripts")


def interpreter(folder: Path, script: str, name: str = "python") -> str:
    """A program that takes an interpreter's place."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def command(folder: Path, module: str = "matmul", python: str = sys.executable) -> Command:
    """How a child of a test is started."""
    return Command(module=module, log=folder / "child.log", python=python)


def has_ended(pid: int) -> bool:
    """Whether no process, or only its remains, has this number."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_child_loads_answers_and_ends(tmp_path: Path) -> None:
    with Child(command(tmp_path)) as child:
        child.ask("load", timeout_s=TIMEOUT_S, provider="cpu", device_id=0)
        answer = child.ask("rates", timeout_s=TIMEOUT_S, rows=16, dtype="float32", calls=2, blocks=3)

    assert len(answer["rates"]) == 3
    assert all(rate > 0 for rate in answer["rates"])
    assert (child.peak_host_bytes or 0) > 1 << 20
    assert not child.alive


def test_what_fails_in_a_child_is_told_and_the_child_lives(tmp_path: Path) -> None:
    with Child(command(tmp_path)) as child:
        child.ask("load", timeout_s=TIMEOUT_S, provider="cpu", device_id=0)
        with pytest.raises(Failed, match="no_such_type") as failed:
            child.ask("rates", timeout_s=TIMEOUT_S, rows=16, dtype="no_such_type", calls=1, blocks=1)
        with pytest.raises(Failed, match="AttributeError"):
            child.ask("no_such_command", timeout_s=TIMEOUT_S)
        assert child.alive

    assert not failed.value.missing
    assert "Traceback" in (tmp_path / "child.log").read_text(encoding="utf-8")


def test_a_lack_of_memory_is_told_apart(tmp_path: Path) -> None:
    with Child(command(tmp_path)) as child:
        child.ask("load", timeout_s=TIMEOUT_S, provider="cpu", device_id=0)
        with pytest.raises(Failed) as failed:
            child.ask("rates", timeout_s=TIMEOUT_S, rows=10**9, dtype="float32", calls=1, blocks=1)

    assert failed.value.out_of_memory


def test_what_is_not_installed_is_told_apart(tmp_path: Path) -> None:
    with Child(command(tmp_path)) as child, pytest.raises(Failed, match="no_such_package") as failed:
        child.ask("import", timeout_s=TIMEOUT_S, names=["json", "no_such_package"])

    assert failed.value.missing


@posix
def test_chatter_on_stdout_goes_to_the_log(tmp_path: Path) -> None:
    """A package that prints while it is imported, from Python and below it."""
    (tmp_path / "chatty.py").write_text(
        "import os\nprint('from Python')\nos.write(1, b'from below\\n')\n", encoding="utf-8"
    )
    python = interpreter(tmp_path, f'PYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"')
    with Child(command(tmp_path, python=python)) as child:
        assert child.ask("import", timeout_s=TIMEOUT_S, names=["chatty"]) == {"found": ["chatty"]}

    log = (tmp_path / "child.log").read_text(encoding="utf-8")
    assert "from Python" in log
    assert "from below" in log


@posix
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'it broke here' >&2; exit 3", "exit code 3 during `load`: it broke here"),
        ("kill -9 $$", "signal 9 during `load`"),
        ("echo 'no answer'; exit 0", "exit code 0 during `load`"),
    ],
)
def test_a_child_that_ends_says_how_and_its_last_words(tmp_path: Path, script: str, said: str) -> None:
    with (
        Child(command(tmp_path, python=interpreter(tmp_path, script))) as child,
        pytest.raises(Failed) as failed,
    ):
        child.ask("load", timeout_s=TIMEOUT_S)

    assert said in failed.value.text


@posix
def test_a_child_that_hangs_is_ended_with_the_processes_that_it_started(tmp_path: Path) -> None:
    python = interpreter(tmp_path, f'sleep 600 & echo $! > "{tmp_path}/pid"; sleep 600')
    with Child(command(tmp_path, python=python)) as child:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            time.sleep(0.02)
        with pytest.raises(Failed, match=r"no answer to `load` within 0\.2 s"):
            child.ask("load", timeout_s=0.2)
        assert not child.alive

    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while not has_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert has_ended(pid)


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="cannot start"):
        Child(command(tmp_path, python=str(tmp_path / "nothing")))


def test_the_provider_is_resolved_in_a_child(tmp_path: Path) -> None:
    assert resolve_provider("cpu", 0, tmp_path, TIMEOUT_S) == ("cpu", "the CPU was asked for")


@pytest.mark.parametrize(
    ("exit_code", "kind"), [(4, ProviderFallbackError), (3, BadInputError), (1, NotReadyError)]
)
def test_a_childs_error_keeps_its_exit_code(exit_code: int, kind: type[Exception]) -> None:
    error = error_of(Failed("SomeError: asked for cuda", exit_code=exit_code))

    assert type(error) is kind
    assert str(error) == "asked for cuda"


@pytest.mark.parametrize("name", ["shapes", "shapes-sd15"])
def test_inputs_are_the_same_each_time_and_exact_in_fp16(name: str) -> None:
    folder = builtin.folder(name)
    first, second = (unet_inputs(folder, size=64, rows=4) for _ in range(2))
    side = 64 // latent_factor(folder)

    assert first["sample"].shape[2:] == (side, side)
    assert ("text_embeds" in first) is (name == "shapes")
    for key, array in first.items():
        np.testing.assert_array_equal(array, second[key])
        np.testing.assert_array_equal(array, array.astype(np.float16).astype(np.float32))
    assert vae_inputs(folder, size=64, rows=3)["latent_sample"].shape[0] == 3


@pytest.mark.reference
def test_the_weights_are_those_that_diffusers_starts_with(tmp_path: Path) -> None:
    """A random checkpoint's UNet and VAE, against the classes themselves on the CPU."""
    import diffusers
    import torch
    from safetensors.torch import load_file

    from onnxsd.bench.prepare import random_checkpoint

    helpers = Helpers(provider="cpu", device_id=0, work=tmp_path, pythons={}, timeout_s=TIMEOUT_S)

    def initialise(folder: Path) -> str:
        with helpers.start("weights") as helper:
            helper.ask("initialise", checkpoint=str(folder))
        return "diffusers' own"

    made = random_checkpoint("sd15", tmp_path, initialise, lambda _: None, tiny=True)
    torch.manual_seed(0)
    config = diffusers.UNet2DConditionModel.load_config(made.folder / "unet")
    expected = diffusers.UNet2DConditionModel.from_config(config).half().state_dict()
    found = load_file(made.folder / "unet" / "diffusion_pytorch_model.safetensors")

    assert made.weights == "diffusers' own"
    assert made.checkpoint_s is not None
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    again = random_checkpoint("sd15", tmp_path, initialise, lambda _: None, tiny=True)
    assert (again.folder, again.weights, again.checkpoint_s) == (made.folder, made.weights, None)


def test_without_diffusers_the_weights_are_our_own(tmp_path: Path) -> None:
    from onnxsd.bench.prepare import random_checkpoint
    from onnxsd.export.source import resolve

    made = random_checkpoint("sdxl", tmp_path, lambda _: None, lambda _: None, tiny=True)

    assert "seed 0" in made.weights
    assert resolve(str(made.folder)).weights("unet")
    assert (made.folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size > 1 << 16
