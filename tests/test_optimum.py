"""Optimum loads a portable export as it is and makes our picture of it; what it needs of the folder is there.

Optimum excludes transformers 5, so it lives in an environment of its own, `.venv-optimum` beside setup.cfg,
which is made on first use (2 minutes) and kept while what it is made of stays the same.
"""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from filelock import FileLock

from onnxsd import Pipeline
from onnxsd.tensors import DType
from onnxsd.verify.reference_image import psnr

if TYPE_CHECKING:
    from checkpoints import Workshop

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv-optimum"
SCRIPT = Path(__file__).with_name("optimum_image.py")
SETTINGS: dict[str, Any] = {
    "prompt": "a red lighthouse in the storm",
    "negative_prompt": "blurry",
    "num_inference_steps": 4,
    "guidance_scale": 5.0,
}
HEIGHT, WIDTH = 72, 104
# On a CPU our pipeline widens fp16 weights to float32 and Optimum's stores fp16 between operators: 68 dB.
LEAST_DB = {DType.FLOAT32: 40.0, DType.FLOAT16: 40.0}


def torch_constraint() -> str:
    """The pin of torch that all other tests run with; Optimum cannot have the pinned transformers."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (pin,) = (line for line in lines if line.startswith("torch=="))
    return pin


def requirements() -> list[str]:
    """What the `optimum` extra asks for."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser["options.extras_require"]["optimum"].split()


@pytest.fixture(scope="session")
def optimum_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the `optimum` extra."""
    # Workers of one run share this folder's parent, and one of them makes the environment.
    with FileLock(tmp_path_factory.getbasetemp().parent / "optimum.lock"):
        return environment()


def environment() -> Path:
    """The same, made unless it is there."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = ENVIRONMENT / "installed-from"
    wanted = json.dumps([*requirements(), torch_constraint(), sys.version])
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    venv.create(ENVIRONMENT, clear=True, with_pip=True)
    constraints = ENVIRONMENT / "constraints.txt"
    constraints.write_text(f"{torch_constraint()}\n", encoding="utf-8")
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", constraints, *requirements()]
    subprocess.run(install, check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def optimum_image(python: Path, folder: Path, latents: npt.NDArray[Any], scratch: Path) -> npt.NDArray[Any]:
    """The image that Optimum makes of the folder, (H, W, 3) in 0…1."""
    np.save(scratch / "latents.npy", latents)
    arguments = [python, SCRIPT, folder, scratch / "latents.npy", scratch / "image.npy"]
    settings = json.dumps({**SETTINGS, "height": HEIGHT, "width": WIDTH})
    done = subprocess.run(
        list(map(str, arguments)), input=settings, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    image: npt.NDArray[Any] = np.load(scratch / "image.npy")
    return image


@pytest.mark.optimum
@pytest.mark.parametrize("precision", LEAST_DB, ids=["fp32", "fp16"])
@pytest.mark.parametrize("name", ["sdxl-base-1.0", "sd-1.5"])
def test_optimum_makes_our_picture_of_our_folder(
    workshop: Workshop, optimum_python: Path, tmp_path: Path, name: str, precision: DType
) -> None:
    folder = workshop.export(name, precision=precision)
    latents = np.random.default_rng(0).standard_normal((1, 4, HEIGHT // 8, WIDTH // 8), np.float32)
    theirs = optimum_image(optimum_python, folder.path, latents, tmp_path)
    prompt, settings = SETTINGS["prompt"], {key: SETTINGS[key] for key in SETTINGS if key != "prompt"}
    made = Pipeline.from_pretrained(folder.path, provider="cpu")(
        prompt, latents=latents, output_type="np", **settings
    )
    (ours,) = made.images

    assert theirs.shape == ours.shape == (HEIGHT, WIDTH, 3)
    assert theirs.std() > 0.05
    assert psnr(theirs, ours) >= LEAST_DB[precision]


@pytest.mark.parametrize("precision", LEAST_DB, ids=["fp32", "fp16"])
def test_a_vae_that_was_made_safe_does_not_ask_for_float32(workshop: Workshop, precision: DType) -> None:
    """What Optimum would do with `force_upcast`: turn a graph's weights to float32, which it cannot."""
    folder = workshop.export("sdxl-base-1.0", precision=precision)
    checkpoint = workshop.checkpoint("sdxl-base-1.0") / "vae" / "config.json"
    expected = json.loads(checkpoint.read_text(encoding="utf-8"))
    assert expected["force_upcast"] is True
    if precision is DType.FLOAT16:
        expected["force_upcast"] = False

    for part in ("vae_decoder", "vae_encoder"):
        assert folder.json(f"{part}/config.json") == expected


def test_a_text_encoder_gives_its_outputs_in_the_order_in_which_pipelines_index_them(
    workshop: Workshop,
) -> None:
    manifest = workshop.export("sdxl-base-1.0").manifest
    first, second = (
        [tensor.name for tensor in manifest.component(name).outputs]
        for name in ("text_encoder", "text_encoder_2")
    )

    assert first == ["last_hidden_state", "pooler_output", "hidden_states.0", "hidden_states.1"]
    assert second == ["text_embeds", "last_hidden_state", "hidden_states.0", "hidden_states.1"]
