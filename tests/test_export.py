"""`onnxsd export` as a user meets it: what lies in OUT, and that bad input leaves nothing and says why."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from checkpoints import SDXL, UNET, Workshop, change_json, change_tensors, locked_folder, run
from safetensors.numpy import load_file, save_file

from onnxsd.artifact.folder import Folder, files_of, hash_of, open_folder
from onnxsd.errors import ResourceError, UsageError
from onnxsd.export import placing
from onnxsd.export.export import Silent, export
from onnxsd.export.placing import new_folder
from onnxsd.export.source import resolve
from onnxsd.ops import EXPORTED, Target
from onnxsd.tensors import DType
from onnxsd.weights import stream

SDXL_PARTS = ["text_encoder", "text_encoder_2", "unet", "vae_decoder", "vae_encoder"]
QUICK = ("--target", "portable", "--check", "none")
VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own last export stays what it is."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path in the folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_of(path) for path in files}


# What lies in OUT


@pytest.mark.parametrize("target", ["portable", "cuda"])
def test_a_checkpoint_becomes_a_verified_folder(target: str, workshop: Workshop, tmp_path: Path) -> None:
    result = run("export", workshop.checkpoint(), tmp_path / "out", "--target", target, "--json")

    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["schema"] == 1
    assert (told["target"], told["precision"]) == (target, "float16")
    assert [part["name"] for part in told["components"]] == SDXL_PARTS
    assert {(c["component"], c["check"]) for c in told["checks"]} == {
        (part, check) for part in SDXL_PARTS for check in ("onnx", "symbols", "runs")
    }
    assert all(check["passed"] for check in told["checks"])
    assert "writing unet" in result.stderr
    assert open_folder(tmp_path / "out").manifest.checks
    assert names_in(tmp_path) == ["out"]


def test_the_text_says_what_was_made_and_checked(workshop: Workshop, tmp_path: Path) -> None:
    result = run("export", workshop.checkpoint("sd-1.5"), tmp_path / "out", "--target", "portable")

    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'out'}: StableDiffusionPipeline from ")
    assert lines[0].endswith("target portable, float16")
    assert sum(line.startswith("  ok ") for line in lines) == 12
    assert "FAILED" not in result.stdout


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("sd-1.5", ["text_encoder", "unet", "vae_decoder", "vae_encoder"]),
        ("sd-2.1", ["text_encoder", "unet", "vae_decoder", "vae_encoder"]),
        ("sd-1.5-inpainting", ["text_encoder", "unet", "vae_decoder", "vae_encoder"]),
        ("sdxl-refiner-1.0", ["text_encoder_2", "unet", "vae_decoder", "vae_encoder"]),
    ],
)
def test_other_pipelines(name: str, parts: list[str], workshop: Workshop) -> None:
    folder = workshop.export(name, precision=DType.FLOAT16)

    assert [part.name for part in folder.manifest.components] == parts
    index = folder.json("model_index.json")
    present = {key for key, value in index.items() if isinstance(value, list) and value[0] is not None}
    assert present <= set(names_in(folder.path)) | {"vae"}


@pytest.mark.parametrize("target", EXPORTED)
def test_every_file_of_the_folder_is_in_the_manifest(target: Target, workshop: Workshop) -> None:
    folder = workshop.export(target=target, precision=DType.FLOAT16)

    listed = {record.path: record.sha256 for record in files_of(folder.manifest)}
    found = hashes(folder.path)
    assert set(found) - set(listed) == {"onnxsd.json"}
    assert listed.items() <= found.items()


def test_files_that_nobody_reads_are_not_copied(workshop: Workshop, tmp_path: Path) -> None:
    source = workshop.copy(tmp_path / "source")
    for stray in ("tokenizer/notes.txt", "scheduler/.DS_Store", "unet/model.ckpt"):
        (source / stray).write_text("stray", encoding="utf-8")

    assert run("export", source, tmp_path / "out", *QUICK).exit_code == 0
    stray_names = {"notes.txt", ".DS_Store", "model.ckpt"}
    assert not stray_names & {path.name for path in (tmp_path / "out").rglob("*")}


@pytest.mark.parametrize("target", EXPORTED)
def test_opset_and_ir_version_are_old_enough(target: Target, workshop: Workshop) -> None:
    for entry in workshop.export(target=target, precision=DType.FLOAT16).manifest.components:
        path = workshop.export(target=target, precision=DType.FLOAT16).path / entry.model.path
        model = onnx.load(path, load_external_data=False)
        opsets = {opset.domain: opset.version for opset in model.opset_import}
        assert model.ir_version == entry.ir_version == 8
        assert opsets[""] == entry.opset == 17
        assert set(opsets) <= {"", "com.microsoft"}
        assert target is Target.CUDA or set(opsets) == {""}


@pytest.mark.parametrize("precision", [DType.FLOAT16, DType.FLOAT32])
@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
def test_plain_onnxruntime_loads_each_file(level: str, precision: DType, workshop: Workshop) -> None:
    folder = workshop.export(precision=precision)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)

    for entry in folder.manifest.components:
        session = onnxruntime.InferenceSession(
            folder.path / entry.model.path, options, providers=["CPUExecutionProvider"]
        )
        assert [i.name for i in session.get_inputs()] == [i.name for i in entry.inputs]
        assert [o.name for o in session.get_outputs()] == [o.name for o in entry.outputs]


@pytest.mark.parametrize("target", ["portable", "cuda"])
def test_two_exports_differ_only_in_when_they_were_made(
    target: str, workshop: Workshop, tmp_path: Path
) -> None:
    for out in ("one", "two"):
        done = run("export", workshop.checkpoint(), tmp_path / out, "--target", target, "--check", "none")
        assert done.exit_code == 0
    one, two = hashes(tmp_path / "one"), hashes(tmp_path / "two")
    manifests = [json.loads((tmp_path / out / "onnxsd.json").read_text()) for out in ("one", "two")]
    for manifest in manifests:
        del manifest["created"]

    assert {name for name in one if one[name] != two.get(name)} <= {"onnxsd.json"}
    assert set(one) == set(two)
    assert manifests[0] == manifests[1]


# Which weights are taken


def data_of(folder: Path | Folder, part: str = "unet") -> str:
    """The hash of a component's weights."""
    opened = folder if isinstance(folder, Folder) else open_folder(folder)
    return opened.manifest.component(part).data.sha256


def test_shards_with_their_index_are_one_model(workshop: Workshop, tmp_path: Path) -> None:
    source = workshop.copy(tmp_path / "source")
    tensors = load_file(source / UNET)
    (source / UNET).unlink()
    stem = "diffusion_pytorch_model"
    parts = {f"{stem}-0000{n}-of-00002.safetensors": sorted(tensors)[n - 1 :: 2] for n in (1, 2)}
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, source / "unet" / file)
    places = {name: file for file, names in parts.items() for name in names}
    index = source / "unet" / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")

    assert run("export", source, tmp_path / "out", *QUICK).exit_code == 0
    assert data_of(tmp_path / "out") == data_of(workshop.export(precision=DType.FLOAT16))

    (source / "unet" / next(iter(parts))).unlink()
    result = run("export", source, tmp_path / "other", *QUICK)
    assert result.exit_code == 3
    assert f"missing unet/{next(iter(parts))}" in result.stderr


def test_fp16_weights_of_a_seed_are_the_fp32_ones_cast(workshop: Workshop, tmp_path: Path) -> None:
    half = workshop.checkpoint(dtype=DType.FLOAT16)

    assert run("export", half, tmp_path / "out", *QUICK).exit_code == 0
    assert data_of(tmp_path / "out") == data_of(workshop.export(precision=DType.FLOAT16))


def test_bfloat16_weights_are_read(workshop: Workshop, tmp_path: Path) -> None:
    rounded, brain = workshop.copy(tmp_path / "rounded"), workshop.copy(tmp_path / "brain")
    change_tensors(rounded / UNET, round_to_bfloat16)
    write_bfloat16(brain / UNET)

    for source in (rounded, brain):
        out = source.with_name(f"{source.name}-out")
        assert run("export", source, out, *QUICK, "--precision", "fp32").exit_code == 0
    assert data_of(tmp_path / "brain-out") == data_of(tmp_path / "rounded-out")


def round_to_bfloat16(tensors: dict[str, Any]) -> None:
    for name, tensor in tensors.items():
        tensors[name] = tensor.astype(ml_dtypes.bfloat16).astype(np.float32)


def write_bfloat16(path: Path) -> None:
    """Write a file's tensors again as bfloat16, which safetensors' numpy half cannot."""
    header: dict[str, Any] = {}
    content = b""
    for name, tensor in load_file(path).items():
        piece = tensor.astype(ml_dtypes.bfloat16).tobytes()
        offsets = [len(content), len(content) + len(piece)]
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": offsets}
        content += piece
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


def test_a_variant_is_taken_where_it_is(workshop: Workshop, tmp_path: Path) -> None:
    source = workshop.copy(tmp_path / "source")
    other = source / "unet" / "diffusion_pytorch_model.ema.safetensors"
    shutil.copy(source / UNET, other)
    change_tensors(other, lambda tensors: tensors.update({"conv_in.bias": tensors["conv_in.bias"] + 1}))

    plain, ema = tmp_path / "plain", tmp_path / "ema"
    assert run("export", source, plain, *QUICK).exit_code == 0
    result = run("export", source, ema, *QUICK, "--variant", "ema")

    assert result.exit_code == 0
    assert "no ema weights, taking the ones without a variant" in result.stderr
    assert data_of(plain) != data_of(ema)
    assert data_of(plain, "vae_decoder") == data_of(ema, "vae_decoder")


def test_a_variant_that_no_component_has(workshop: Workshop, tmp_path: Path) -> None:
    result = run("export", workshop.checkpoint(), tmp_path / "out", *QUICK, "--variant", "ema")

    assert result.exit_code == 3
    assert "asked for --variant ema, but no component of" in result.stderr
    assert names_in(tmp_path) == []


def test_another_vae_takes_the_place_of_the_checkpoints(workshop: Workshop, tmp_path: Path) -> None:
    other = workshop.copy(tmp_path / "other")
    change_tensors(
        other / VAE,
        lambda tensors: tensors.update({"decoder.conv_in.bias": tensors["decoder.conv_in.bias"] + 1}),
    )

    for vae in (other, other / "vae"):
        out = tmp_path / f"out-{vae.name}"
        result = run("export", workshop.checkpoint(), out, *QUICK, "--vae", vae)
        assert result.exit_code == 0, result.stderr
        plain = workshop.export(precision=DType.FLOAT16)
        assert data_of(out, "vae_decoder") != data_of(plain, "vae_decoder")
        assert data_of(out) == data_of(plain)
        assert f"with the VAE of {vae}" in run("info", out).stdout


def test_a_vae_whose_folder_holds_other_weights_too(workshop: Workshop, tmp_path: Path) -> None:
    other = workshop.copy(tmp_path / "other") / "vae"
    save_file({"encoder.down.0.block.0.conv1.weight": np.zeros(3)}, other / "sdxl_vae.safetensors")
    shutil.copy(other / Path(VAE).name, other / "diffusion_pytorch_model.fp16.safetensors")

    result = run("export", workshop.checkpoint(), tmp_path / "out", *QUICK, "--vae", other)

    assert result.exit_code == 0, result.stderr
    plain = workshop.export(precision=DType.FLOAT16)
    assert data_of(tmp_path / "out", "vae_decoder") == data_of(plain, "vae_decoder")


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_a_vae_that_is_none(make: Callable[[Path], None], workshop: Workshop, tmp_path: Path) -> None:
    make(tmp_path / "vae")
    result = run("export", workshop.checkpoint(), tmp_path / "out", *QUICK, "--vae", tmp_path / "vae")

    assert result.exit_code == (3 if (tmp_path / "vae").is_dir() else 2)
    assert "vae" in result.stderr
    assert not (tmp_path / "out").exists()


# Bad input


def poison(tensors: dict[str, Any], name: str, value: float) -> None:
    changed = tensors[name].copy()
    changed.flat[-1] = value
    tensors[name] = changed


BAD_TENSORS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "wrong shape": (
        lambda t: t.update({"conv_in.weight": t["conv_in.weight"][:, :3].copy()}),
        "weights of another shape: conv_in.weight: expected [8, 4, 3, 3], found [8, 3, 3, 3]",
    ),
    "missing": (lambda t: t.pop("conv_in.bias"), "missing weights: conv_in.bias [8]"),
    "unexpected": (
        lambda t: t.update({"control.bias": np.zeros(3, np.float32)}),
        "unexpected weights: control.bias [3]",
    ),
    "NaN": (lambda t: poison(t, "conv_in.bias", np.nan), "unet: conv_in.bias holds NaN or infinity"),
    "infinity": (lambda t: poison(t, "conv_in.bias", np.inf), "unet: conv_in.bias holds NaN or infinity"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
@pytest.mark.parametrize("target", ["portable", "cuda"])
def test_weights_that_do_not_fit(case: str, target: str, workshop: Workshop, tmp_path: Path) -> None:
    change, said = BAD_TENSORS[case]
    source = workshop.copy(tmp_path / "source")
    width = load_file(source / UNET)["conv_in.bias"].size
    change_tensors(source / UNET, change)

    result = run("export", source, tmp_path / "out", "--target", target)

    assert result.exit_code == 3
    assert said.replace("[8", f"[{width}") in result.stderr
    assert result.stdout == ""
    assert names_in(tmp_path) == ["source"]


def test_nan_in_a_vae_that_has_to_be_calibrated(workshop: Workshop, tmp_path: Path) -> None:
    source = workshop.copy(tmp_path / "source")
    assert json.loads((source / "vae" / "config.json").read_text(encoding="utf-8"))["force_upcast"]
    change_tensors(source / VAE, lambda tensors: poison(tensors, "decoder.conv_in.bias", np.nan))

    result = run("export", source, tmp_path / "out", *QUICK)

    assert result.exit_code == 3
    assert "error: vae_decoder: decoder.conv_in.bias holds NaN or infinity" in result.stderr
    assert names_in(tmp_path) == ["source"]


def damage(path: str, change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda source: change(source / path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated weights": (
        damage(UNET, cut),
        "unet/diffusion_pytorch_model.safetensors is truncated or not a safetensors file",
    ),
    "weights that are a web page": (
        damage(UNET, lambda path: path.write_text("<html>404</html>")),
        "unet/diffusion_pytorch_model.safetensors is truncated or not a safetensors file",
    ),
    "a configuration that is not JSON": (
        damage("unet/config.json", lambda path: path.write_text("{'a': 1}")),
        "unet/config.json is not JSON: ",
    ),
    "a configuration that is no object": (
        damage("vae/config.json", lambda path: path.write_text("[1]")),
        "vae/config.json holds a list, not a JSON object",
    ),
    "a value that is not supported": (
        damage("unet/config.json", lambda path: change_json(path, act_fn="relu")),
        'act_fn = "relu" is not supported',
    ),
    "a number that is none": (
        damage("text_encoder/config.json", lambda path: change_json(path, num_hidden_layers="two")),
        'num_hidden_layers = "two" is not supported',
    ),
    "a configuration that is missing": (
        damage("unet/config.json", lambda path: path.unlink()),
        "missing unet/config.json",
    ),
    "weights that are missing": (
        damage(UNET, lambda path: path.unlink()),
        "missing unet/diffusion_pytorch_model.fp16.safetensors",
    ),
    "a tokenizer that is missing": (
        damage("tokenizer_2/merges.txt", lambda path: path.unlink()),
        "missing tokenizer_2/merges.txt",
    ),
    "an index that is not JSON": (
        damage("model_index.json", lambda path: path.write_text("")),
        "model_index.json is not JSON",
    ),
    "a pipeline without a UNet": (
        damage(
            "model_index.json",
            lambda path: change_json(
                path,
                unet=None,
                transformer=["diffusers", "FluxModel"],
                _class_name="FluxPipeline",
            ),
        ),
        "model_index.json describes FluxPipeline without unet",
    ),
    "a pipeline with a part that is not known": (
        damage("model_index.json", lambda path: change_json(path, controlnet=["diffusers", "Net"])),
        "with controlnet, which onnxsd does not know",
    ),
    "an index without a class": (
        damage("model_index.json", lambda path: change_json(path, _class_name=None)),
        "model_index.json has no _class_name",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_checkpoint_that_cannot_be_used(case: str, workshop: Workshop, tmp_path: Path) -> None:
    change, said = BAD_FILES[case]
    source = workshop.copy(tmp_path / "source")
    change(source)

    result = run("export", source, tmp_path / "out", *QUICK)

    assert result.exit_code == 3, result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert said in result.stderr
    assert names_in(tmp_path) == ["source"]


def test_a_model_that_nobody_knows(tmp_path: Path) -> None:
    result = run("export", "sdxxl", tmp_path / "out")

    assert result.exit_code == 3
    assert "'sdxxl' is no folder here, no alias and no Hub id (did you mean sdxl?" in result.stderr


def test_a_pipeline_that_generate_does_not_know_is_exported_with_a_warning(
    workshop: Workshop, tmp_path: Path
) -> None:
    source = workshop.copy(tmp_path / "source")
    change_json(source / "model_index.json", _class_name="NewPipeline")

    result = run("export", source, tmp_path / "out", *QUICK)
    assert result.exit_code == 0
    assert "warning: `onnxsd generate` does not know NewPipeline" in result.stderr

    made = run("generate", "x", "--model", tmp_path / "out", "-o", tmp_path / "x.png")
    assert made.exit_code == 3
    assert "is a NewPipeline (known are StableDiffusionXLPipeline, " in made.stderr
    assert names_in(tmp_path) == ["out", "source"]


def test_a_scheduler_that_is_not_known_is_exported_with_a_warning(workshop: Workshop, tmp_path: Path) -> None:
    source = workshop.copy(tmp_path / "source")
    change_json(source / "scheduler" / "scheduler_config.json", _class_name="NewScheduler")

    result = run("export", source, tmp_path / "out", *QUICK)
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert "NewScheduler" in result.stderr

    asked = ("generate", "x", "--model", tmp_path / "out", "--steps", "1", "--size", "64x64", "-o")
    made = run(*asked, tmp_path / "x.png")
    assert made.exit_code == 3
    assert "has _class_name 'NewScheduler'; known are EulerDiscreteScheduler, " in made.stderr
    assert not (tmp_path / "x.png").exists()
    assert run(*asked, tmp_path / "x.png", "--sampler", "euler").exit_code == 0


def test_a_model_whose_numbers_overflow_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    source = workshop.copy(tmp_path / "source", "sd-1.5")
    name = "conv_norm_out.weight"
    change_tensors(source / UNET, lambda tensors: tensors.update({name: np.full_like(tensors[name], 6e4)}))

    result = run("export", source, tmp_path / "out", "--target", "portable")

    assert result.exit_code == 1
    assert (
        "error: unet: check runs of the exported file failed: out_sample holds NaN or infinity"
        in result.stderr
    )
    assert names_in(tmp_path) == ["source"]


def test_what_fp16_cannot_hold_is_counted(workshop: Workshop, tmp_path: Path) -> None:
    source = workshop.copy(tmp_path / "source")

    def spoil(tensors: dict[str, Any]) -> None:
        poison(tensors, "conv_in.weight", 1e6)
        poison(tensors, "conv_out.weight", 1e-12)

    change_tensors(source / UNET, spoil)
    result = run("export", source, tmp_path / "out", *QUICK)

    assert result.exit_code == 0
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("  unet"))
    assert "1 values overflow in fp16" in line
    assert "values too small for fp16 became 0" in line
    record = open_folder(tmp_path / "out").manifest.component("unet")
    lost = {entry.recipe.source for entry in record.initializers if entry.overflowed}
    assert lost == {"conv_in.weight"}


# OUT and its disk


def test_what_is_there_is_kept_without_force(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()

    result = run("export", workshop.checkpoint(), tmp_path / "out", *QUICK)

    assert result.exit_code == 2
    assert (
        f"{tmp_path / 'out'} exists already (give another folder, or --force to replace it)" in result.stderr
    )
    assert names_in(tmp_path / "out") == ["mine.txt"]


def test_force_replaces_an_export(workshop: Workshop, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, options in (("sd-1.5", ()), (SDXL, ("--force",))):
        assert run("export", workshop.checkpoint(name), out, *QUICK, *options).exit_code == 0

    assert open_folder(out).manifest.has("text_encoder_2")
    assert names_in(tmp_path) == ["out"]


def test_force_replaces_a_link_and_not_what_it_points_to(workshop: Workshop, tmp_path: Path) -> None:
    assert run("export", workshop.checkpoint("sd-1.5"), tmp_path / "out", *QUICK).exit_code == 0
    before = data_of(tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out", target_is_directory=True)

    result = run("export", workshop.checkpoint(SDXL), tmp_path / "link", *QUICK, "--force")

    assert result.exit_code == 0, result.stderr
    assert data_of(tmp_path / "out") == before != data_of(tmp_path / "link")
    assert names_in(tmp_path) == ["link", "out"]


def test_force_replaces_nothing_else(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "out" / "photos").mkdir(parents=True)

    result = run("export", workshop.checkpoint(), tmp_path / "out", *QUICK, "--force")

    assert result.exit_code == 2
    assert "is not replaced: " in result.stderr
    assert names_in(tmp_path) == ["out"]


def test_what_another_run_put_there_meanwhile_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"

    with pytest.raises(UsageError, match="exists already"), new_folder(out, needed_bytes=1):
        out.mkdir()

    assert out.is_dir()
    assert names_in(tmp_path) == ["out"]


def test_force_never_replaces_a_checkpoint(workshop: Workshop, tmp_path: Path) -> None:
    source = workshop.copy(tmp_path / "source")
    before = hashes(source)

    result = run("export", source, source, *QUICK, "--force")

    assert result.exit_code == 2
    assert "is not replaced: it has no onnxsd.json" in result.stderr
    assert hashes(source) == before


@pytest.fixture
def old(workshop: Workshop, tmp_path: Path) -> dict[str, str]:
    """An export at `out` that a failing one must leave as it is; the hashes of its files."""
    shutil.copytree(workshop.export("sd-1.5", precision=DType.FLOAT16).path, tmp_path / "out")
    return hashes(tmp_path / "out")


def test_a_failure_leaves_the_old_export(old: dict[str, str], workshop: Workshop, tmp_path: Path) -> None:
    source = workshop.copy(tmp_path / "source")
    change_tensors(source / UNET, lambda tensors: poison(tensors, "conv_in.bias", np.nan))

    assert run("export", source, tmp_path / "out", *QUICK, "--force").exit_code == 3
    assert hashes(tmp_path / "out") == old
    assert names_in(tmp_path) == ["out", "source"]


@pytest.mark.parametrize("error", [OSError(errno.EACCES, os.strerror(errno.EACCES)), KeyboardInterrupt()])
def test_the_old_export_comes_back_when_the_new_one_cannot_be_placed(
    error: BaseException,
    old: dict[str, str],
    workshop: Workshop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rename = Path.rename

    def refuse_finished(path: Path, target: Path) -> Path:
        if ".unfinished-" in path.name:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_finished)
    result = run("export", workshop.checkpoint(), tmp_path / "out", *QUICK, "--force")

    assert result.exit_code == (6 if isinstance(error, OSError) else 130)
    assert hashes(tmp_path / "out") == old
    assert names_in(tmp_path) == ["out"]


def test_a_disk_that_is_too_small_is_foreseen(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 12_345

    monkeypatch.setattr(placing.shutil, "disk_usage", lambda _: Usage)
    result = run("export", workshop.checkpoint(), tmp_path / "new" / "out", *QUICK)

    assert result.exit_code == 6
    needed = re.search(r"needs ([\d,]+) bytes, and 12,345 are free on its disk", result.stderr)
    assert needed
    written = sum(file.size_bytes for file in files_of(workshop.export(precision=DType.FLOAT16).manifest))
    assert int(needed[1].replace(",", "")) > written
    assert names_in(tmp_path / "new") == []


def test_a_disk_that_fills_up_leaves_nothing(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = stream._Writer.write

    def fill_up(self: Any, offset: int, array: Any) -> None:
        if offset > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, offset, array)

    monkeypatch.setattr(stream._Writer, "write", fill_up)
    result = run("export", workshop.checkpoint(), tmp_path / "out", *QUICK)

    assert result.exit_code == 6
    assert f"error: the disk became full: {tmp_path / 'out'} needs " in result.stderr
    assert names_in(tmp_path) == []


def test_an_error_of_another_disk_keeps_its_own_words(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="Input/output error") as e,
        new_folder(tmp_path / "out", needed_bytes=1),
    ):
        raise OSError(errno.EIO, "Input/output error", "/the/checkpoint")
    assert not isinstance(e.value, ResourceError)
    assert names_in(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_limit_on_the_size_of_a_file_leaves_nothing(workshop: Workshop, tmp_path: Path) -> None:
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000));"
        "from onnxsd.cli import main; main()"
    )
    arguments = ["export", str(workshop.checkpoint()), str(tmp_path / "out"), *QUICK]
    done = subprocess.run(
        [sys.executable, "-c", limited, *arguments], capture_output=True, text=True, check=False
    )

    assert done.returncode == 6, done.stderr
    assert f"cannot write {tmp_path / 'out'}: File too large" in done.stderr
    assert names_in(tmp_path) == []


def test_a_folder_that_may_not_be_written(workshop: Workshop) -> None:
    workshop.export()  # which imports all that is needed on the way
    with locked_folder(beside=workshop.checkpoint()) as (source, folder):
        result = run("export", source, folder / "out", *QUICK)

        assert result.exit_code == 6
        assert f"cannot write {folder / 'out'}: Permission denied" in result.stderr
        assert names_in(folder) == []


def test_a_file_where_the_folder_should_be(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("export", workshop.checkpoint(), tmp_path / "file" / "out", *QUICK)

    assert result.exit_code == 6
    said = f"cannot write {tmp_path / 'file' / 'out'}: {tmp_path / 'file'} is a file, not a folder"
    assert said in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize("stage", ["writing unet", "checking unet"])
def test_an_interrupt_leaves_nothing(stage: str, workshop: Workshop, tmp_path: Path) -> None:
    command = ["export", str(workshop.checkpoint()), str(tmp_path / "out"), "--target", "portable"]
    with subprocess.Popen(
        [sys.executable, "-m", "onnxsd", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        assert any(stage in line for line in running.stderr)
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=60)

    assert running.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert output == ""
    assert names_in(tmp_path) == []


def test_a_tensor_that_no_part_of_the_vae_owns_is_named(workshop: Workshop, tmp_path: Path) -> None:
    source = workshop.copy(tmp_path / "source")
    change_tensors(source / VAE, lambda tensors: tensors.update({"adapter.weight": np.ones(3, np.float32)}))

    result = run("export", source, tmp_path / "out", "--check", "none")

    assert result.exit_code == 3
    assert "unexpected weights: adapter.weight [3]" in result.stderr
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_in_operators_that_no_other_tool_has(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^no file is written in own: only .* \(export in cuda or portable\)"
    ):
        export(
            resolve(str(workshop.checkpoint())), tmp_path / "out",
            target=Target.OWN, precision=DType.FLOAT16, choice=None, report=Silent(),
        )  # fmt: skip
    result = run("export", workshop.checkpoint(), tmp_path / "out", "--target", "own")

    assert result.exit_code == 2
    assert "'own' is not one of 'cuda', 'portable', 'auto'" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("part", "other"), [("unet", "UNet3DConditionModel"), ("vae", "AutoencoderTiny")])
def test_a_model_of_another_class_is_refused(
    part: str, other: str, workshop: Workshop, tmp_path: Path
) -> None:
    source = workshop.copy(tmp_path / "source")
    change_json(source / part / "config.json", _class_name=other)

    result = run("export", source, tmp_path / "out", "--check", "none")

    assert result.exit_code == 3
    assert f'_class_name is "{other}"' in result.stderr


def test_a_vae_that_overflows_float32_is_refused_before_writing(workshop: Workshop, tmp_path: Path) -> None:
    """Infinity minus infinity is NaN, which a largest value need not show."""
    source = workshop.copy(tmp_path / "source")
    name = "decoder.conv_in.weight"
    change_tensors(source / VAE, lambda tensors: tensors.update({name: tensors[name] * np.float32(1e38)}))

    result = run("export", source, tmp_path / "out", "--check", "none")

    assert result.exit_code == 1
    assert "vae_decoder gives NaN or infinity in float32 already" in result.stderr
    assert not (tmp_path / "out").exists()
