"""`onnxsd generate` as a user meets it: files, seeds, names, and what refuses an image and why."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from checkpoints import SDXL, Workshop, locked_folder, run
from click.testing import Result
from PIL import Image

from onnxsd.artifact.folder import open_folder
from onnxsd.engine.pipeline import Pipeline
from onnxsd.errors import UsageError
from onnxsd.imaging.carrier import read_text
from onnxsd.imaging.metadata import GenerationRecord, parse_parameters
from onnxsd.ops import EXPORTED
from onnxsd.samplers import SAMPLERS
from onnxsd.tensors import DType

Array = npt.NDArray[Any]
SMALL = ("--steps", "2", "--size", "64x64")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and a user who has exported nothing."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("ONNXSD_MODEL", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def model(workshop: Workshop) -> Path:
    """An SDXL export with fp16 weights."""
    return workshop.export(precision=DType.FLOAT16).path


def generate(model: Path, *options: str, prompt: str = "a cat") -> Result:
    return run("generate", prompt, "--model", model, *SMALL, *options)


def pixels(path: Path | str) -> Array:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def record(path: Path | str) -> GenerationRecord:
    return parse_parameters(read_text(Path(path)))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is made


@pytest.mark.parametrize("name", [SDXL, "sd-1.5", "sd-2.1"])
@pytest.mark.parametrize("precision", [DType.FLOAT16, DType.FLOAT32])
def test_every_family_makes_an_image(name: str, precision: DType, workshop: Workshop, here: Path) -> None:
    result = generate(workshop.export(name, precision=precision).path, "--seed", "1", "-o", "x.png")

    assert result.exit_code == 0, result.stderr
    assert result.stdout == "x.png (seed 1)\n"
    assert names_in(here) == ["x.png"]
    image = pixels("x.png")
    assert image.shape == (64, 64, 3)
    assert image.std() > 10


def test_a_picture_says_how_it_was_made(model: Path, here: Path) -> None:
    options = ("--seed", "7", "-n", "blur", "--cfg-scale", "3.5", "--sampler", "dpm++2m karras")

    assert generate(model, *options, "-o", "x.png").exit_code == 0
    found = record("x.png")
    assert (found.prompt, found.negative_prompt) == ("a cat", "blur")
    assert (found.steps, found.guidance_scale, found.seed) == (2, 3.5, 7)
    assert (found.width, found.height) == (64, 64)
    assert (found.sampler, found.noise_schedule) == ("DPM++ 2M", "Karras")
    assert found.model_hash == open_folder(model).manifest.component("unet").data.sha256[:10]


def test_a_cuda_export_makes_the_same_image_on_a_cpu(workshop: Workshop, here: Path) -> None:
    # Of fp16 weights, for the cuda target keeps a checkpoint's float32 where its kernels take nothing else.
    source = workshop.checkpoint(dtype=DType.FLOAT16)
    for target in EXPORTED:
        out = here / f"{target.value}-export"
        exported = run("export", source, out, "--target", target.value, "--check", "none")
        assert exported.exit_code == 0
        options = ("--seed", "3", "--provider", "cpu", "-o", f"{target.value}.png")
        assert generate(out, *options).exit_code == 0

    np.testing.assert_array_equal(pixels("cuda.png"), pixels("portable.png"))


def test_precisions_agree(workshop: Workshop, here: Path) -> None:
    for precision in (DType.FLOAT16, DType.FLOAT32):
        folder = workshop.export(precision=precision)
        assert generate(folder.path, "--seed", "3", "-o", f"{precision.value}.png").exit_code == 0

    # The same weights but for their rounding to fp16: half a level of 255 on average at most.
    assert np.abs(pixels("F16.png") - pixels("F32.png")).mean() < 0.5


@pytest.mark.parametrize("size", ["72x104", "16x16", "136x64"])
def test_any_multiple_of_8_is_a_size(size: str, model: Path, here: Path) -> None:
    result = run("generate", "x", "--model", model, "--steps", "1", "--size", size, "-o", "x.png")

    assert result.exit_code == 0, result.stderr
    assert pixels("x.png").shape[1::-1] == tuple(int(side) for side in size.split("x"))


def test_width_and_height(model: Path, here: Path) -> None:
    size = ("--width", "64", "--height", "72")

    assert run("generate", "x", "--model", model, "--steps", "1", *size, "-o", "x.png").exit_code == 0
    assert pixels("x.png").shape == (72, 64, 3)


def test_without_a_size_the_models_own_is_taken(workshop: Workshop, here: Path) -> None:
    folder = workshop.export("sd-1.5", precision=DType.FLOAT16)
    result = run("generate", "x", "--model", folder.path, "--steps", "1", "--cfg-scale", "1", "--json")

    told = json.loads(result.stdout)
    native = folder.blueprint("unet").config["sample_size"] * 8
    assert (told["width"], told["height"]) == (native, native) == (512, 512)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.key)
def test_every_sampler_by_its_name(sampler: Any, workshop: Workshop, here: Path) -> None:
    folder = workshop.export("sd-1.5", precision=DType.FLOAT16).path
    options = ("--seed", "1", "--sampler", sampler.key, "-o", "x.png")

    assert generate(folder, *options).exit_code == 0
    first = pixels("x.png")
    assert record("x.png").sampler == sampler.title
    assert generate(folder, *options).exit_code == 0
    np.testing.assert_array_equal(pixels("x.png"), first)


def test_guidance_of_1_is_off(model: Path, here: Path) -> None:
    for name, negative in (("a", "dark"), ("b", "bright")):
        options = ("--seed", "1", "--guidance-scale", "1", "-n", negative, "-o", f"{name}.png")
        assert generate(model, *options).exit_code == 0

    np.testing.assert_array_equal(pixels("a.png"), pixels("b.png"))


# Prompts


def test_an_empty_prompt_is_a_prompt(model: Path, here: Path) -> None:
    assert generate(model, "-o", "x.png", prompt="").exit_code == 0
    assert record("x.png").prompt == ""


def test_a_prompt_that_is_too_long_is_cut_and_the_cut_part_shown(model: Path, here: Path) -> None:
    words = " ".join(f"w{n}" for n in range(1000))
    result = generate(model, "-o", "x.png", "--json", prompt=words)

    assert result.exit_code == 0
    (warning,) = (line for line in result.stderr.splitlines() if line.startswith("warning: "))
    assert "w999" in warning
    assert "w500" in warning
    assert "w0 " not in warning
    assert json.loads(result.stdout)["warnings"] == [warning.removeprefix("warning: ")]
    assert record("x.png").prompt == words


# Seeds


def test_a_seed_fixes_the_bytes_of_the_file(model: Path, here: Path) -> None:
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert generate(model, "--seed", seed, "-o", f"{name}.png").exit_code == 0

    first, second, other = (Path(f"{name}.png").read_bytes() for name in "abc")
    assert first == second
    assert (pixels("a.png") != pixels("c.png")).any()
    assert first != other


def test_a_random_seed_is_printed_and_gives_the_image_again(model: Path, here: Path) -> None:
    printed = re.fullmatch(r"a\.png \(seed (\d+)\)\n", generate(model, "-o", "a.png").stdout)

    assert printed
    assert record("a.png").seed == int(printed[1])
    assert generate(model, "--seed", printed[1], "-o", "b.png").exit_code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert f"(seed {printed[1]})" not in generate(model, "-o", "c.png").stdout


@pytest.mark.parametrize("seed", ["-1", "1.5", "18446744073709551616"])
def test_a_seed_that_is_none(seed: str, model: Path, here: Path) -> None:
    result = generate(model, "--seed", seed, "-o", "x.png")

    assert result.exit_code == 2
    assert seed in result.stderr
    assert names_in(here) == []


# Names and numbers of files


def test_the_default_name_is_numbered_and_replaces_nothing(model: Path, here: Path) -> None:
    Path("onnxsd-0007.png").write_text("mine", encoding="utf-8")

    assert generate(model, "--seed", "1").stdout == "onnxsd-0008.png (seed 1)\n"
    assert generate(model, "--seed", "1").stdout == "onnxsd-0009.png (seed 1)\n"
    assert Path("onnxsd-0007.png").read_text(encoding="utf-8") == "mine"


def test_a_batch_counts_its_seeds_up(model: Path, here: Path) -> None:
    result = generate(model, "--seed", "4", "--batch-size", "2", "--batch-count", "2", "-o", "{seed}.png")

    assert result.stdout.splitlines() == [f"{seed}.png (seed {seed})" for seed in (4, 5, 6, 7)]
    alone = generate(model, "--seed", "6", "-o", "alone.png")
    assert alone.exit_code == 0
    # A batch may sum in another order than one image does.
    assert np.abs(pixels("alone.png") - pixels("6.png")).max() <= 1
    assert record("6.png").seed == 6


@pytest.mark.parametrize("size", [1, 2])
def test_a_batch_does_not_replace_the_one_before(size: int, model: Path, here: Path) -> None:
    count = 4 // size
    options = ("--batch-size", str(size), "--batch-count", str(count), "-o", "x.png")

    result = generate(model, "--seed", "4", *options)

    assert result.stdout.splitlines() == [f"x-{n}.png (seed {n + 3})" for n in (1, 2, 3, 4)]
    assert names_in(here) == [f"x-{n}.png" for n in (1, 2, 3, 4)]
    assert [record(f"x-{n}.png").seed for n in (1, 2, 3, 4)] == [4, 5, 6, 7]


def test_a_pattern_names_each_image(model: Path, here: Path) -> None:
    options = ("--seed", "4", "--batch-size", "2", "-o", "out-{index}-{seed}-{prompt}.jpg")

    assert generate(model, *options).exit_code == 0
    assert names_in(here) == ["out-0001-4-a-cat.jpg", "out-0002-5-a-cat.jpg"]


@pytest.mark.parametrize(("image_format", "suffix"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
def test_a_folder_is_made_and_takes_numbered_files(
    image_format: str, suffix: str, model: Path, here: Path
) -> None:
    assert generate(model, "-o", "new/folder/", "--format", image_format).exit_code == 0
    assert names_in(here / "new" / "folder") == [f"onnxsd-0001.{suffix}"]
    assert record(here / "new" / "folder" / f"onnxsd-0001.{suffix}").prompt == "a cat"


def test_a_grid_lies_beside_the_images(model: Path, here: Path) -> None:
    result = generate(model, "--batch-count", "3", "--grid", "-o", "x-{index}.png", "--json")

    assert names_in(here) == ["x-0001-grid.png", "x-0001.png", "x-0002.png", "x-0003.png"]
    assert json.loads(result.stdout)["grid"] == "x-0001-grid.png"
    assert pixels("x-0001-grid.png").shape == (128, 128, 3)
    np.testing.assert_array_equal(pixels("x-0001-grid.png")[:64, :64], pixels("x-0001.png"))


def test_json_is_one_object_on_stdout(model: Path, here: Path) -> None:
    result = generate(model, "--seed", "9", "--batch-size", "2", "--json", "--grid")

    told = json.loads(result.stdout)
    assert told["schema"] == 1
    assert told["files"] == ["onnxsd-0001.png", "onnxsd-0002.png"]
    assert told["seeds"] == [9, 10]
    assert set(told["seconds"]) == {"text", "denoise", "decode", "save"}
    assert told["provider"] == "cpu"
    assert (told["width"], told["height"], told["steps"]) == (64, 64, 2)
    assert told["sampler"] == "euler"
    assert "step 2 of 2" in result.stderr


# Which model


def test_the_last_export_is_taken_where_no_model_is_named(workshop: Workshop, here: Path) -> None:
    out = here.parent / "out"
    exported = run("export", workshop.checkpoint("sd-1.5"), out, "--target", "portable", "--check", "none")
    assert exported.exit_code == 0

    result = run("generate", "x", *SMALL)
    assert result.exit_code == 0
    assert f"{out} (the last export) on cpu" in result.stderr

    shutil.rmtree(out)
    gone = run("generate", "x", *SMALL)
    assert gone.exit_code == 2
    assert f"the last export, {out}, has gone (export again, or name another with --model; " in gone.stderr


def test_the_environment_names_a_model(model: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXSD_MODEL", str(model))
    result = run("generate", "x", *SMALL)
    assert result.exit_code == 0
    assert f"{model} (ONNXSD_MODEL) on cpu" in result.stderr

    monkeypatch.setenv("ONNXSD_MODEL", str(here / "gone"))
    result = run("generate", "x", *SMALL)
    assert result.exit_code == 2
    assert f"ONNXSD_MODEL names {here / 'gone'}, which is not a folder" in result.stderr


# What is refused


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--width", "100"), 2, "width 100 is not a multiple of 8 (use 96 or 104)"),
        (("--height", "7"), 2, "height 7 is not a multiple of 8 (use 8 or 16)"),
        (("--size", "0x64"), 2, "width 0 is not a multiple of 8 (use 8 or 16)"),
        (("--guidance-scale", "nan"), 2, "a guidance scale of nan was asked for"),
        (("--guidance-scale", "inf"), 2, "a guidance scale of inf was asked for"),
        (("--seed", str(2**64 - 1), "--batch-count", "2"), 2, f"seed {2**64} is out of range"),
        (("--size", "8x8"), 2, "a latent of shape [1, 4, 1, 1] is too small (use a larger size)"),
        (("--size", "64"), 2, "'64' is not WIDTHxHEIGHT"),
        (("--size", "64x64", "--width", "64"), 2, "--size says what --width and --height say"),
        (("--steps", "0"), 2, "--steps"),
        (("--steps", "1001"), 2, "1001 inference steps were asked for; this model takes 1 to 1000"),
        (("--sampler", "eular"), 2, "there is no sampler 'eular' (there are euler, "),
        (("--noise-schedule", "cosine"), 2, "there is no noise schedule 'cosine' (there are normal, karras)"),
        (
            ("--memory-limit", "8GB", "--provider", "cpu"),
            2,
            "a limit of GPU memory was given, and images are made on cpu",
        ),
        (("--memory-limit", "much"), 2, "'much' is not a size, as 8GB or 7500MiB"),
        (("--provider", "vulkan"), 2, "unknown provider vulkan: it is one of cuda, cpu, tensorrt, auto"),
        (("-o", "x.gif"), 2, "cannot write .gif files"),
        (("-o", "{sed}.png"), 2, "unknown placeholder {sed}"),
    ],
)
def test_wrong_usage(options: tuple[str, ...], code: int, said: str, model: Path, here: Path) -> None:
    result = run("generate", "x", "--model", model, *options)

    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""
    assert names_in(here) == []


def test_cuda_where_there_is_none(model: Path, here: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    result = generate(model, "--provider", "cuda", "-o", "new/x.png")

    assert result.exit_code == 4
    assert "error: asked for cuda, but onnxruntime" in result.stderr
    assert "was built without it" in result.stderr
    assert "onnxsd doctor" in result.stderr
    assert names_in(here) == []


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("sdxl-refiner-1.0", "is SDXL refiner, which needs an image to refine"),
        ("sd-1.5-inpainting", "is Stable Diffusion inpainting, which needs an image and a mask"),
    ],
)
def test_models_that_need_more_than_a_prompt(name: str, needs: str, workshop: Workshop, here: Path) -> None:
    result = generate(workshop.export(name, precision=DType.FLOAT16).path, "-o", "x.png")

    assert result.exit_code == 2
    assert f"{needs} (this version makes images from a prompt alone" in result.stderr
    assert names_in(here) == []


@pytest.mark.parametrize("component", ["text_encoder", "text_encoder_2", "unet", "vae_decoder"])
def test_nan_is_an_error_that_names_the_component(component: str, model: Path, here: Path) -> None:
    broken = here.parent / "broken"
    shutil.copytree(model, broken)
    entry = open_folder(broken).manifest.component(component)
    weight = min(entry.initializers, key=lambda each: each.offset)
    with (broken / entry.data.path).open("r+b") as file:
        file.seek(weight.offset)
        file.write(np.full(weight.recipe.elements, np.nan, np.float16).tobytes())

    result = generate(broken, "-o", "x.png")

    assert result.exit_code == 1
    assert f"error: {component} gave NaN or infinity (`onnxsd verify`" in result.stderr
    assert result.stdout == ""
    assert names_in(here) == []


def test_a_folder_that_may_not_be_written(model: Path, here: Path) -> None:
    assert generate(model).exit_code == 0  # which imports all that is needed on the way
    with locked_folder(beside=model) as (copy, folder):
        result = generate(copy, "-o", f"{folder}/x.png")

        assert result.exit_code == 6
        assert f"cannot write {folder}: Permission denied (choose another place with -o" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_an_interrupt_leaves_no_file(model: Path, here: Path) -> None:
    arguments = ["generate", "x", "--model", str(model), "--steps", "400", "--size", "64x64"]
    arguments += ["--batch-count", "100"]
    with subprocess.Popen(
        [sys.executable, "-m", "onnxsd", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        assert any(line.startswith("step ") for line in running.stderr)
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=60)

    assert running.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert output == ""
    assert [name for name in names_in(here) if name.endswith(".tmp")] == []
    for name in names_in(here):
        assert pixels(name).shape == (64, 64, 3), "an image that was finished before is whole"


def test_a_denoiser_that_needs_more_than_a_prompt_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    """LCM's UNet wants the guidance scale as an embedding, which the loop does not make yet."""
    folder = workshop.export("lcm").path

    result = run("generate", "a cat", "--model", folder, "--sampler", "euler", "-o", tmp_path / "x.png")

    assert result.exit_code == 2
    assert "needs timestep_cond for its denoiser" in result.stderr
    assert not (tmp_path / "x.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
def test_on_a_terminal_progress_is_a_bar_and_stdout_stays_clean(model: Path, here: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    arguments = ["generate", "x", "--model", str(model), *SMALL, "--json"]
    program = [sys.executable, "-m", "onnxsd", *arguments]
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=theirs, env=environment) as running:
        os.close(theirs)
        seen = b"".join(_read_terminal(ours))
        output, _ = running.communicate(timeout=60)
    os.close(ours)

    assert running.returncode == 0
    assert b"denoising" in seen
    assert b"step 1 of" not in seen
    assert json.loads(output)["files"] == ["onnxsd-0001.png"]


def _read_terminal(descriptor: int) -> Iterator[bytes]:
    """What was written to a terminal, until its last writer is gone; Linux ends it with an error."""
    while True:
        try:
            piece = os.read(descriptor, 4096)
        except OSError:
            return
        if not piece:
            return
        yield piece


def test_a_name_that_no_file_can_have(workshop: Workshop) -> None:
    result = run("generate", "a cat", "--model", workshop.export().path, "-o", "x" * 5000)

    assert result.exit_code == 2
    assert "cannot be a path" in result.stderr


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_noise_that_is_no_number_is_the_callers_fault(workshop: Workshop, value: float) -> None:
    pipeline = Pipeline.from_pretrained(workshop.export().path, provider="cpu")

    with pytest.raises(UsageError, match="NaN or infinity"):
        pipeline("a cat", latents=np.full((1, 4, 8, 8), value, np.float32), num_inference_steps=1)
