"""The script that puts a trained model into the package."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from checkpoints import Workshop, change_json

from onnxsd import builtin
from onnxsd.errors import BadInputError
from onnxsd.export.source import resolve
from onnxsd.models.families import OWN_DEFAULTS
from onnxsd.tensors import DType

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import ship_shapes
from ship_shapes import ship

ENOUGH = 50_000_000


@pytest.fixture
def trained(workshop: Workshop, tmp_path: Path) -> Path:
    """A checkpoint as a training leaves it: with its card, a path of the machine, files that nobody reads."""
    folder = workshop.copy(tmp_path / "trained")
    (folder / builtin.CARD).write_text("# a card\n", encoding="utf-8")
    (folder / "training.log").write_text("loss 0.1\n", encoding="utf-8")
    change_json(folder / "unet" / "config.json", _name_or_path="/home/somebody/unet")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").chmod(0o600)
    return folder


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_package_gets_what_an_export_reads_and_the_card(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "shipped"

    ship(trained, out, largest_bytes=ENOUGH)

    wanted = {file.name for file in resolve(str(trained), precision=DType.FLOAT16).selection.files}
    assert names_in(out) == wanted | {builtin.CARD}
    index = json.loads((out / "model_index.json").read_text(encoding="utf-8"))
    assert index[OWN_DEFAULTS] == {"num_inference_steps": 20, "guidance_scale": 5.0}
    assert index["_class_name"] == "StableDiffusionXLPipeline"
    assert "somebody" not in (out / "unet" / "config.json").read_text(encoding="utf-8")
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (out / weights).read_bytes() == (trained / weights).read_bytes()
    assert (out / weights).stat().st_mode == (out / "model_index.json").stat().st_mode


def test_plms_gets_the_steps_that_it_needs(workshop: Workshop, tmp_path: Path) -> None:
    folder = workshop.copy(tmp_path / "trained", "sd-1.5")
    (folder / builtin.CARD).write_text("# a card\n", encoding="utf-8")

    ship(folder, tmp_path / "shipped", largest_bytes=ENOUGH)

    index = json.loads((tmp_path / "shipped" / "model_index.json").read_text(encoding="utf-8"))
    assert index[OWN_DEFAULTS] == {"num_inference_steps": 50, "guidance_scale": 5.0}


def test_a_folder_may_be_shipped_onto_itself_and_keeps_its_card(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "shipped"
    ship(trained, out, largest_bytes=ENOUGH)
    before = {name: (out / name).read_bytes() for name in names_in(out)}

    ship(out, out, largest_bytes=ENOUGH)
    assert {name: (out / name).read_bytes() for name in names_in(out)} == before

    (trained / builtin.CARD).unlink()
    ship(trained, out, largest_bytes=ENOUGH)
    assert (out / builtin.CARD).read_text(encoding="utf-8") == "# a card\n"


def test_what_cannot_be_shipped_leaves_what_is_there(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "shipped"

    with pytest.raises(BadInputError, match="and 1,000 may be shipped"):
        ship(trained, out, largest_bytes=1000)
    (trained / builtin.CARD).unlink()
    with pytest.raises(BadInputError, match="has a model card"):
        ship(trained, out, largest_bytes=ENOUGH)
    (trained / "vae" / "config.json").unlink()
    with pytest.raises(BadInputError, match="missing vae/config"):
        ship(trained, out, largest_bytes=ENOUGH)
    assert not out.exists()


def test_the_script_ships_into_the_package(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ship_shapes, "HOME", tmp_path / "package")
    monkeypatch.setattr(sys, "argv", ["ship_shapes.py", str(trained), "--name", "shapes-sd15"])

    assert ship_shapes.main() == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'package' / 'shapes-sd15'}: ")

    monkeypatch.setattr(sys, "argv", ["ship_shapes.py", str(tmp_path / "nowhere")])
    assert ship_shapes.main() == 3
    assert capsys.readouterr().err.startswith("error: ")
