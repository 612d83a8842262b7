"""The training of shapes on a CPU: a few steps of each stage, a stop and a resumption, a model that loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import run
from safetensors.numpy import load_file

from onnxsd import Pipeline

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_shapes.py"
Train = Callable[..., str]

pytestmark = [
    pytest.mark.reference,
    # What torch, diffusers and transformers say of themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both stages ran, as a user runs them; two threads, as other tests run beside it."""
    out = tmp_path_factory.mktemp("trained")
    command = [sys.executable, str(SCRIPT), str(out), "--smoke", "--workers", "2"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 2/2") == 2
    return out


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Train:
    """Runs the script for a folder in this process, which has torch by then, and gives what it printed."""
    import train_shapes

    def run_script(out: Path, *options: str) -> str:
        # No workers: a process with threads is not to be forked.
        monkeypatch.setattr("sys.argv", [str(SCRIPT), str(out), "--smoke", "--workers", "1", *options])
        train_shapes.main()
        return capsys.readouterr().out

    return run_script


def test_the_trained_model_is_an_sdxl_checkpoint_of_at_most_14_mb(trained: Path) -> None:
    folder = trained / "shapes"
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert index["_class_name"] == "StableDiffusionXLPipeline"
    assert index["scheduler"] == ["diffusers", "EulerDiscreteScheduler"]
    assert size <= 14e6


def test_a_stage_goes_on_where_it_stopped(trained: Path, train: Train) -> None:
    said = train(trained, "--stage", "denoiser", "--steps", "3")

    assert "going on from step 2 of shapes.state" in said
    assert "step 3/3" in said


def test_a_stage_that_is_done_is_not_trained_again(trained: Path, train: Train) -> None:
    said = train(trained, "--stage", "vae")

    assert "going on from step 2 of vae.state" in said
    assert "ms a step" not in said


def test_the_twin_has_one_encoder_and_convolutions_around_attention(trained: Path, train: Train) -> None:
    train(trained, "--stage", "denoiser", "--topology", "sd15")
    folder = trained / "shapes-sd15"
    config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))

    assert not config["use_linear_projection"]
    assert not (folder / "text_encoder_2").exists()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 8e6


@pytest.mark.parametrize(("stage", "missing"), [("denoiser", "vae"), ("lora", "shapes")])
def test_a_stage_without_the_one_before_says_so(
    stage: str, missing: str, tmp_path: Path, train: Train
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path, "--stage", stage)

    # Python prints such a text to stderr and exits with 1.
    assert str(stopped.value.code).startswith(f"error: {tmp_path / missing} is not there: run --stage")


def test_a_lora_is_written_in_two_formats(trained: Path, train: Train) -> None:
    train(trained, "--stage", "lora")
    mine, theirs = sorted((trained / "loras").glob("*.safetensors"), key=lambda path: "kohya" in path.name)

    assert max(mine.stat().st_size, theirs.stat().st_size) <= 300_000
    assert all(name.startswith("unet.") for name in load_file(mine))
    assert all(name.startswith("lora_unet_") for name in load_file(theirs))


def test_what_was_trained_can_be_exported_and_paints(trained: Path, tmp_path: Path) -> None:
    made = run("export", trained / "shapes", tmp_path / "onnx", "--target", "portable", "--check", "none")
    assert made.exit_code == 0, made.stderr
    images = Pipeline.from_pretrained(tmp_path / "onnx", provider="cpu")(
        "a red circle", num_inference_steps=2, seed=0, output_type="np"
    ).images

    assert np.asarray(images).shape == (1, 128, 128, 3)
    assert np.isfinite(np.asarray(images)).all()
