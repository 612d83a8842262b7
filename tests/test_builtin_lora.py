"""The LoRA that ships beside shapes: two formats of the same change, which paints a shape of its own."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from onnxsd import Pipeline, builtin
from onnxsd.export.export import Silent, export
from onnxsd.export.source import resolve
from onnxsd.ops import Target
from onnxsd.tensors import DType

Array = npt.NDArray[np.float16]

FOLDER = Path(str(resources.files("onnxsd.builtin"))) / "loras"
DIFFUSERS = FOLDER / "shapes-diamond.safetensors"
KOHYA = FOLDER / "shapes-diamond-kohya.safetensors"
UNET = Path("unet") / "diffusion_pytorch_model.safetensors"
PROMPT = "a red diamond in the center on a white background"


def changes() -> dict[str, npt.NDArray[np.float32]]:
    """What diffusers' file adds to each weight of the denoiser."""
    found = load_file(DIFFUSERS)
    layers = {name.removesuffix(".lora_A.weight") for name in found if name.endswith(".lora_A.weight")}
    assert {f"{layer}.lora_{side}.weight" for layer in layers for side in "AB"} == set(found)
    return {
        f"{layer.removeprefix('unet.')}.weight": found[f"{layer}.lora_B.weight"].astype(np.float32)
        @ found[f"{layer}.lora_A.weight"].astype(np.float32)
        for layer in layers
    }


def test_both_files_are_small() -> None:
    assert max(DIFFUSERS.stat().st_size, KOHYA.stat().st_size) <= 300_000


def test_every_change_is_of_a_weight_of_the_denoiser() -> None:
    weights = load_file(builtin.folder("shapes") / UNET)

    assert changes()
    assert {name: weights[name].shape for name in changes()} == {
        name: change.shape for name, change in changes().items()
    }


def test_both_formats_hold_the_same_numbers() -> None:
    """The names differ, as kohya counts blocks; alpha equals the rank, so that there is no scale."""
    mine, theirs = load_file(DIFFUSERS), load_file(KOHYA)
    ranks = {theirs[name].shape[0] for name in theirs if name.endswith("lora_down.weight")}
    alphas = {float(theirs[name]) for name in theirs if name.endswith(".alpha")}

    assert ranks == alphas
    assert len(theirs) == len(mine) // 2 * 3
    for ours, kohyas in (("lora_A.weight", "lora_down.weight"), ("lora_B.weight", "lora_up.weight")):
        assert sorted(mine[name].tobytes() for name in mine if name.endswith(ours)) == sorted(
            theirs[name].tobytes() for name in theirs if name.endswith(kohyas)
        )


def diamonds(folder: Path, out: Path) -> list[float]:
    """How far the object is a diamond, on each of four pictures of the prompt."""
    export(
        resolve(str(folder)),
        out,
        target=Target.PORTABLE,
        precision=DType.FLOAT16,
        choice=None,
        report=Silent(),
    )
    images = Pipeline.from_pretrained(out, provider="cpu")(
        PROMPT, seed=1, num_images_per_prompt=4, num_inference_steps=20
    ).images
    return [likeness(np.asarray(image)) for image in images]


def likeness(pixels: npt.NDArray[np.uint8]) -> float:
    """How far the red object and a diamond of its bounding box overlap, 0…1."""
    mask = pixels[:, :, 1] < 140  # the background is white
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0.0
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = box.shape
    down = np.abs((np.arange(height) + 0.5) / height - 0.5)[:, None]
    right = np.abs((np.arange(width) + 0.5) / width - 0.5)[None, :]
    diamond = down + right <= 0.5
    return float((box & diamond).sum() / (box | diamond).sum())


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in checkpoint with the LoRA added to its weights."""
    folder = tmp_path_factory.mktemp("merged") / "shapes"
    shutil.copytree(builtin.folder("shapes"), folder)
    weights = load_file(folder / UNET)
    for name, change in changes().items():
        weights[name] = (weights[name].astype(np.float32) + change).astype(np.float16)
    save_file(weights, folder / UNET)
    return folder


def test_it_paints_the_shape_that_the_model_has_no_word_for(merged: Path, tmp_path: Path) -> None:
    """An ideal square overlaps a diamond by 0.5, a circle by 0.64."""
    without = diamonds(builtin.folder("shapes"), tmp_path / "without")
    with_it = diamonds(merged, tmp_path / "with")

    assert min(with_it) > 0.75
    assert max(without) < 0.7
