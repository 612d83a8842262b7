"""`onnxsd info` and `onnxsd verify`: what a folder says of itself, and which damage is seen."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import Workshop, change_json, locked_folder, run
from click.testing import Result

from onnxsd.artifact.folder import files_of, open_folder
from onnxsd.ops import EXPORTED, Target
from onnxsd.tensors import DType

DATA = "unet/model.onnx_data"


@pytest.fixture
def folder(workshop: Workshop, tmp_path: Path) -> Path:
    """An SD 1.5 export that a test may damage."""
    shutil.copytree(workshop.export("sd-1.5", precision=DType.FLOAT16).path, tmp_path / "out")
    return tmp_path / "out"


# info


def test_info_says_what_a_folder_holds(folder: Path) -> None:
    lines = run("info", folder).stdout.splitlines()

    assert lines[0].startswith(f"{folder}: StableDiffusionPipeline from ")
    assert [line.split()[0] for line in lines[1:5]] == ["text_encoder", "unet", "vae_decoder", "vae_encoder"]
    assert lines[-1] == "  not checked"


def test_a_folder_says_where_its_source_is_whatever_the_current_folder_was(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.copy(tmp_path / "source")
    monkeypatch.chdir(tmp_path)

    result = run("export", "source", "out", "--check", "none", "--vae", Path("source", "vae"))

    assert result.exit_code == 0, result.stderr
    told = json.loads(run("info", "out", "--json").stdout)
    assert told["source"] == str(tmp_path / "source")
    assert told["vae"] == str(tmp_path / "source" / "vae")


def test_info_as_json(folder: Path) -> None:
    told = json.loads(run("info", folder, "--json").stdout)

    assert told["schema"] == 1
    assert told["folder"] == str(folder)
    assert (told["pipeline"], told["target"], told["precision"]) == (
        "StableDiffusionPipeline",
        "portable",
        "float16",
    )
    assert told["latent"]["factor"] == 8
    unet = next(part for part in told["components"] if part["name"] == "unet")
    assert unet["size_bytes"] == sum(
        (folder / "unet" / n).stat().st_size for n in ("model.onnx", "model.onnx_data")
    )
    assert {tensor["name"] for tensor in unet["inputs"]} == {"sample", "timestep", "encoder_hidden_states"}


def test_info_of_an_image(folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    made = run(
        "generate", "a cat", "--model", folder, "--steps", "1", "--size", "64x64", "--seed", "2", "-o", image
    )
    assert made.exit_code == 0

    assert run("info", image).stdout.startswith("a cat\nSteps: 1, Sampler: PLMS, CFG scale: 7.5, Seed: 2, ")
    told = json.loads(run("info", image, "--json").stdout)
    assert (told["schema"], told["image"]) == (1, str(image))
    assert (told["parameters"]["prompt"], told["parameters"]["seed"]) == ("a cat", 2)


# verify


@pytest.fixture(scope="module")
def verified(workshop: Workshop) -> Callable[[Target], Result]:
    """What `onnxsd verify --json` says of the whole export for a target, each verified once."""

    @functools.cache
    def verify(target: Target) -> Result:
        return run("verify", workshop.export("sd-1.5", target, DType.FLOAT16).path, "--json")

    return verify


@pytest.mark.parametrize("target", EXPORTED)
def test_a_whole_folder_passes(
    target: Target, workshop: Workshop, verified: Callable[[Target], Result]
) -> None:
    export = workshop.export("sd-1.5", target=target, precision=DType.FLOAT16)

    result = verified(target)

    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["schema"], told["passed"]) == (1, True)
    checks = [(check["component"], check["check"]) for check in told["checks"]]
    for part in export.manifest.components:
        assert {(part.name, check) for check in ("hash", "onnx", "symbols", "runs")} <= set(checks)
    hashed = [check["subject"] for check in told["checks"] if check["check"] == "hash"]
    assert hashed == [file.path for file in files_of(export.manifest)]


def test_verify_changes_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    assert run("verify", folder).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


@pytest.mark.parametrize("target", EXPORTED)
def test_a_folder_that_may_only_be_read_is_verified(
    target: Target, workshop: Workshop, verified: Callable[[Target], Result]
) -> None:
    export = workshop.export("sd-1.5", target=target, precision=DType.FLOAT16)
    assert verified(target).exit_code == 0  # which imports all that is needed on the way
    with locked_folder(beside=export.path) as (copy, _):
        result = run("verify", copy)

        assert result.exit_code == 0, result.stderr
        assert "FAILED" not in result.stdout


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [DATA, "tokenizer/merges.txt", "scheduler/scheduler_config.json"])
def test_one_changed_bit_is_found(name: str, folder: Path) -> None:
    flip(folder / name)

    result = run("verify", folder)

    assert result.exit_code == 1
    (failed,) = (line for line in result.stdout.splitlines() if line.startswith("  FAILED"))
    assert f"hash      {name}: expected " in failed


def test_nan_in_the_weights_is_found(folder: Path) -> None:
    entry = open_folder(folder).manifest.component("unet")
    weight = entry.initializers[0]
    with (folder / DATA).open("r+b") as file:
        file.seek(weight.offset)
        file.write(np.full(weight.recipe.elements, np.nan, np.float16).tobytes())

    result = run("verify", folder, "--json")

    assert result.exit_code == 1
    failed = {
        (c["component"], c["check"]): c["detail"]
        for c in json.loads(result.stdout)["checks"]
        if not c["passed"]
    }
    assert set(failed) == {("unet", "hash"), ("unet", "runs")}
    assert "out_sample holds NaN or infinity at" in failed["unet", "runs"]


def test_an_overflow_of_fp16_is_found_on_a_cpu(folder: Path) -> None:
    """The CPU would compute an fp16 graph in float32 throughout, where these weights overflow nothing."""
    record = open_folder(folder).manifest.component("vae_decoder")
    entry = next(entry for entry in record.initializers if entry.recipe.name == "decoder.conv_in.weight")
    data = np.memmap(folder / record.data.path, np.float16, "r+", entry.offset, (entry.recipe.elements,))
    data *= np.float16(20_000)
    assert np.isfinite(data).all()
    data.flush()

    told = json.loads(run("verify", folder, "--json").stdout)

    failed = {(check["check"], check["component"]) for check in told["checks"] if not check["passed"]}
    assert failed == {("hash", "vae_decoder"), ("runs", "vae_decoder")}


def test_a_graph_that_was_changed_is_found(folder: Path, workshop: Workshop) -> None:
    """Files of another model, all of them whole: the graph is not the one that its configuration asks for."""
    other = workshop.export("sd-2.1", precision=DType.FLOAT16)
    shutil.copy(other.path / "unet" / "model.onnx", folder / "unet" / "model.onnx")
    size = (folder / "unet" / "model.onnx").stat().st_size
    manifest = json.loads((folder / "onnxsd.json").read_text(encoding="utf-8"))
    for part in manifest["components"]:
        if part["name"] == "unet":
            part["model"]["size_bytes"] = size
    (folder / "onnxsd.json").write_text(json.dumps(manifest), encoding="utf-8")

    result = run("verify", folder, "--json")

    assert result.exit_code == 1
    failed = {(c["component"], c["check"]) for c in json.loads(result.stdout)["checks"] if not c["passed"]}
    assert ("unet", "hash") in failed
    assert ("unet", "symbols") in failed


# Folders that cannot be used


def edit(name: str, change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: change(folder / name)


def change_component(path: Path, **changes: object) -> None:
    """Change the first component in a manifest."""
    first, *rest = json.loads(path.read_text(encoding="utf-8"))["components"]
    change_json(path, components=[{**first, **changes}, *rest])


def move_weight(path: Path) -> None:
    """Say of a component's first weight that it lies a billion bytes further."""
    weights = json.loads(path.read_text(encoding="utf-8"))["components"][0]["initializers"]
    change_component(path, initializers=[{**weights[0], "offset": 10**9}, *weights[1:]])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing data": (edit(DATA, Path.unlink), f"{DATA} is missing (copy the folder again, or export again)"),
    "missing tokenizer": (edit("tokenizer/vocab.json", Path.unlink), "tokenizer/vocab.json is missing"),
    "shortened data": (
        edit(DATA, lambda path: path.write_bytes(path.read_bytes()[:-1])),
        " bytes, the manifest says ",
    ),
    "another schema": (
        edit("onnxsd.json", lambda path: change_json(path, schema=99)),
        "onnxsd.json has schema 99, this onnxsd reads 1 (export again with this version)",
    ),
    "no schema": (edit("onnxsd.json", lambda path: change_json(path, schema=None)), "has schema None"),
    "not JSON": (edit("onnxsd.json", lambda path: path.write_text("{")), "onnxsd.json is not JSON"),
    "another kind of JSON": (edit("onnxsd.json", lambda path: path.write_text("[]")), "has schema None"),
    "a missing field": (
        edit("onnxsd.json", lambda path: change_json(path, target=None, latent=None)),
        "latent",
    ),
    "another target": (
        edit("onnxsd.json", lambda path: change_json(path, target="rocm")),
        "onnxsd.json cannot be used: target rocm (export again with this version)",
    ),
    "a target that no file is written in": (
        edit("onnxsd.json", lambda path: change_json(path, target="own")),
        "onnxsd.json cannot be used: target own (export again with this version)",
    ),
    "another component": (
        edit("onnxsd.json", lambda path: change_component(path, name="transformer")),
        "onnxsd.json cannot be used: component transformer",
    ),
    "weights outside of the data": (edit("onnxsd.json", move_weight), " at byte 1,000,000,000 of "),
    "a folder of something else": (
        edit("onnxsd.json", Path.unlink),
        "has no onnxsd.json: it is not an export of onnxsd",
    ),
    "nothing": (shutil.rmtree, "is not a folder (`onnxsd export MODEL FOLDER` writes one)"),
}


@pytest.mark.parametrize("command", ["info", "verify", "generate"])
@pytest.mark.parametrize("case", BAD)
def test_a_folder_that_cannot_be_used(case: str, command: str, folder: Path, tmp_path: Path) -> None:
    damage, said = BAD[case]
    damage(folder)
    arguments = {"generate": ("generate", "x", "-o", tmp_path / "x.png", "--model", folder)}

    result = run(*arguments.get(command, (command, folder)))

    assert result.exit_code == 3
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert str(folder) in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "x.png").exists()


def test_a_checkpoint_is_not_an_export(workshop: Workshop) -> None:
    result = run("info", workshop.checkpoint())

    assert result.exit_code == 3
    assert "has no onnxsd.json: it is not an export of onnxsd" in result.stderr


def test_an_export_is_not_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    result = run("export", folder, tmp_path / "again")

    assert result.exit_code == 3
    assert f"{folder} is an export of onnxsd, not a checkpoint" in result.stderr


def test_an_image_that_says_nothing(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    result = run("info", tmp_path / "x.png")

    assert result.exit_code == 3
    assert str(tmp_path / "x.png") in result.stderr


def test_cuda_where_there_is_none(folder: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    result = run("verify", folder, "--provider", "cuda")

    assert result.exit_code == 4
    assert "was built without it" in result.stderr
