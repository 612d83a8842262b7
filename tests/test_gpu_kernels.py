"""The engine on own kernels on a GPU: pictures of stock operators, the same bits each time. `--run gpu`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from checkpoints import Workshop, run

from onnxsd.engine.pipeline import Pipeline
from onnxsd.ops import Target
from onnxsd.tensors import DType

pytestmark = pytest.mark.gpu

SCRIPTS = Path(__file__).parents[1] / "scripts"
FAMILIES = ["sdxl-base-1.0", "sd-1.5", "sd-2.1"]


def export(workshop: Workshop, name: str = FAMILIES[0]) -> Path:
    return workshop.export(name, target=Target.CUDA, precision=DType.FLOAT16).path


def picture(pipeline: Pipeline, height: int = 72, width: int = 104) -> npt.NDArray[np.float64]:
    made = pipeline(
        "a lighthouse", height=height, width=width, num_inference_steps=4, seed=3, output_type="np"
    )
    return np.asarray(made.images[0], np.float64)


@pytest.mark.parametrize("name", FAMILIES)
def test_own_kernels_make_the_picture_of_stock_operators(name: str, workshop: Workshop) -> None:
    folder = export(workshop, name)
    own, stock = (
        Pipeline.from_pretrained(folder, provider="cuda", kernels=kernels) for kernels in ("own", "stock")
    )
    found, exact = picture(own), picture(stock)

    assert (own.engine.kernels.own, stock.engine.kernels.own) == (True, False)
    # Both round to float16, at other places.
    assert np.abs(found - exact).mean() * 255 < 1


@pytest.mark.parametrize("name", FAMILIES)
def test_one_seed_is_one_image(name: str, workshop: Workshop) -> None:
    """In a session, after other sizes, in another engine, in another process: every bit."""
    script, folder = SCRIPTS / "check_repeats.py", export(workshop, name)
    command = [sys.executable, str(script), str(folder), "--own-kernels", "--provider", "cuda"]
    done = subprocess.run(
        [*command, "--size", "128", "--images", "10", "--steps", "4"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("kernels: own (")


def test_without_a_cuda_graph_it_is_the_same_image(workshop: Workshop) -> None:
    folder = export(workshop)
    captured, launched = (
        picture(Pipeline.from_pretrained(folder, provider="cuda", kernels="own", cuda_graph=graph))
        for graph in (True, False)
    )

    np.testing.assert_array_equal(captured, launched)


@pytest.mark.parametrize(
    ("option", "own", "line"),
    [
        ("--own-kernels", True, "kernels: onnxsd's own (own kernels for sm_"),
        ("--stock-kernels", False, "kernels: ONNX Runtime's stock operators: stock operators were asked for"),
    ],
)
def test_generate_says_whose_kernels_it_used(
    option: str, own: bool, line: str, workshop: Workshop, tmp_path: Path
) -> None:
    small = ("--steps", "2", "--size", "64x64", "--provider", "cuda", "--json", "-o", tmp_path / "x.png")
    result = run("generate", "a cat", "--model", export(workshop), option, *small)

    assert result.exit_code == 0, result.stderr
    assert line in result.stderr
    assert json.loads(result.stdout)["kernels"]["own"] is own


def test_a_float32_model_says_why_it_runs_on_stock_operators(workshop: Workshop) -> None:
    folder = workshop.export(target=Target.CUDA).path
    kernels = Pipeline.from_pretrained(folder, provider="cuda").engine.kernels

    assert not kernels.own
    assert "float32" in kernels.reason
