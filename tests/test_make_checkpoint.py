"""Random checkpoints: what diffusers loads, in the bytes that a seed fixes, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from onnxsd.errors import ResourceError, UsageError
from onnxsd.export import synthetic
from onnxsd.models import catalogue, clip, unet_config, vae
from onnxsd.models.components import COMPONENTS, Blueprint
from onnxsd.ops import EXPORTED
from onnxsd.tensors import DType
from onnxsd.weights import random_checkpoint
from onnxsd.weights.checkpoint import WeightSource

NAMES = catalogue.names()
SCRIPT = Path(__file__).parents[1] / "scripts" / "make_checkpoint.py"
# What save_pretrained adds of its own: where the model came from, and who wrote the file.
NOT_COMPARED = {"_name_or_path", "_diffusers_version", "transformers_version"}

Maker = Callable[[str], Path]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Makes the tiny fp32 checkpoint of a name, once."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("tiny") / name
            write(name, made[name])
        return made[name]

    return make


def write(name: str, out: Path, *, seed: int = 0, dtype: DType = DType.FLOAT32, force: bool = False) -> None:
    synthetic.write(synthetic.plan(name, tiny=True, seed=seed, dtype=dtype), out, force=force)


def read(folder: Path, part: str = "model_index.json") -> dict[str, Any]:
    return dict(json.loads((folder / part).read_text(encoding="utf-8")))


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path in the folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.mark.parametrize("name", NAMES)
def test_our_own_parsers_and_graphs_take_it(name: str, tiny: Maker) -> None:
    folder = tiny(name)
    pipeline = catalogue.load(name)
    parsers: dict[str, Callable[[dict[str, Any]], object]] = {"unet": unet_config.parse, "vae": vae.parse}
    for entry in COMPONENTS:
        part = entry.source
        if part not in pipeline.models:
            assert read(folder).get(part, [None, None]) == [None, None]
            continue
        config = read(folder, f"{part}/config.json")
        parse = parsers.get(part) or clip.parse
        parse(config)
        for target in EXPORTED:
            blueprint = Blueprint(component=entry, config=config, time_ids=pipeline.time_ids)
            paths = [folder / part / f"{entry.weights_name}.safetensors"]
            with WeightSource(paths, rename=entry.rename, owns=entry.owns) as source:
                source.check(blueprint.author(target, DType.FLOAT16).recipes)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_few_megabytes(name: str, tiny: Maker) -> None:
    size = sum(path.stat().st_size for path in tiny(name).rglob("*") if path.is_file())

    assert size < 8 << 20
    assert synthetic.plan(name, tiny=True, dtype=DType.FLOAT16).size_bytes < 5 << 20


def test_the_size_is_known_before(tmp_path: Path) -> None:
    checkpoint = synthetic.plan("sdxl", tiny=True, dtype=DType.FLOAT16)
    synthetic.write(checkpoint, tmp_path / "out")
    weights = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.safetensors"))
    rest = sum(
        path.stat().st_size for path in (tmp_path / "out").rglob("*.*") if path.suffix != ".safetensors"
    )

    assert checkpoint.size_bytes == weights
    assert rest < synthetic.REST_BYTES
    assert 6.9e9 < synthetic.plan("sdxl", dtype=DType.FLOAT16).size_bytes < 7e9


def test_a_seed_fixes_every_byte(tiny: Maker, tmp_path: Path) -> None:
    for seed, folder in ((0, "same"), (1, "other")):
        write("sdxl", tmp_path / folder, seed=seed)
    first = hashes(tiny("sdxl"))

    assert hashes(tmp_path / "same") == first
    other = hashes(tmp_path / "other")
    assert other.keys() == first.keys()
    assert {name for name in first if other[name] != first[name]} == {
        name for name in first if name.endswith(".safetensors")
    }


def test_two_text_encoders_have_different_weights(tiny: Maker) -> None:
    folder = tiny("sdxl")
    name = "text_model.encoder.layers.0.layer_norm1.weight"
    width = clip.parse(read(folder, "text_encoder/config.json")).hidden_size
    first, second = (
        tensor(folder / part / "model.safetensors", name) for part in ("text_encoder", "text_encoder_2")
    )

    assert not np.array_equal(first, second[:width])


def tensor(path: Path, name: str) -> Any:
    with safe_open(str(path), framework="numpy") as file:
        return file.get_tensor(name)


def test_fp16_weights_are_the_fp32_ones_cast(tiny: Maker, tmp_path: Path) -> None:
    write("sd-1.5", tmp_path / "half", dtype=DType.FLOAT16)
    weights = "unet/diffusion_pytorch_model.safetensors"
    with (
        safe_open(str(tiny("sd-1.5") / weights), framework="numpy") as single,
        safe_open(str(tmp_path / "half" / weights), framework="numpy") as half,
    ):
        assert set(half.keys()) == set(single.keys())
        for name in half.keys():  # noqa: SIM118 - not a mapping
            assert half.get_tensor(name).dtype == np.float16
            np.testing.assert_array_equal(half.get_tensor(name), single.get_tensor(name).astype(np.float16))


def test_pieces_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that is written in many pieces holds what it would hold in one."""
    shapes = {"a.weight": (37, 11), "b.weight": (5,)}

    def content(name: str) -> bytes:
        path = tmp_path / name
        random_checkpoint.write_random(path, shapes, scope="unet", seed=3, dtype=DType.FLOAT32)
        return path.read_bytes()

    at_once = content("at once")
    monkeypatch.setattr(random_checkpoint, "PIECE_ELEMENTS", 16)
    assert content("in pieces") == at_once


def test_weights_keep_activations_near_one(tmp_path: Path) -> None:
    shapes = {
        "conv.weight": (64, 32, 3, 3),
        "linear.weight": (96, 256),
        "token_embedding.weight": (500, 64),
        "norm.weight": (4096,),
        "norm.bias": (4096,),
    }
    path = tmp_path / "w.safetensors"
    random_checkpoint.write_random(path, shapes, scope="unet", seed=0, dtype=DType.FLOAT16)
    drawn = {name: tensor(path, name).astype(np.float64) for name in shapes}

    spread = {name: float(values.std()) for name, values in drawn.items()}
    assert spread["conv.weight"] == pytest.approx(1 / math.sqrt(32 * 9), rel=0.05)
    assert spread["linear.weight"] == pytest.approx(1 / 16, rel=0.05)
    assert spread["token_embedding.weight"] == pytest.approx(0.02, rel=0.05)
    assert spread["norm.weight"] == pytest.approx(0.1, rel=0.1)
    assert spread["norm.bias"] == pytest.approx(0.02, rel=0.1)
    assert drawn["norm.weight"].mean() == pytest.approx(1, abs=0.02)
    assert all(np.count_nonzero(values) == values.size for values in drawn.values())


def test_the_header_is_aligned_and_says_whose_layout_it_is(tiny: Maker) -> None:
    for path in tiny("sdxl").rglob("*.safetensors"):
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        assert length % 8 == 0
        assert header.pop("__metadata__") == {"format": "pt"}
        ends = sorted(entry["data_offsets"] for entry in header.values())
        assert [start for start, _ in ends] == [0, *(stop for _, stop in ends[:-1])]
        assert 8 + length + ends[-1][1] == len(content)


@pytest.mark.parametrize(
    ("name", "pads"),
    [
        ("sdxl", {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"}),
        ("sdxl-refiner", {"tokenizer_2": "!"}),
        ("sd15", {"tokenizer": "<|endoftext|>"}),
        ("sd21", {"tokenizer": "!"}),
    ],
)
def test_each_text_encoder_has_its_tokenizer(name: str, pads: dict[str, str], tiny: Maker) -> None:
    folder = tiny(name)

    assert {path.name for path in folder.glob("tokenizer*")} == set(pads)
    for tokenizer, pad in pads.items():
        config = read(folder, f"{tokenizer}/tokenizer_config.json")
        encoder = clip.parse(read(folder, f"{tokenizer.replace('tokenizer', 'text_encoder')}/config.json"))
        ids = read(folder, f"{tokenizer}/vocab.json")
        assert (config["pad_token"], config["model_max_length"]) == (pad, encoder.max_positions)
        # An encoder without a named end-of-text id pools where the id is largest.
        assert encoder.eos_token_id is None
        assert ids["<|endoftext|>"] == max(ids.values()) < encoder.vocab_size


def test_the_index_holds_what_only_the_pipeline_knows(tiny: Maker) -> None:
    refiner = read(tiny("sdxl-refiner"))
    assert (refiner["requires_aesthetics_score"], refiner["force_zeros_for_empty_prompt"]) == (True, False)
    assert refiner["text_encoder"] == refiner["tokenizer"] == [None, None]
    base = read(tiny("sdxl"))
    assert base["force_zeros_for_empty_prompt"] is True
    assert base["text_encoder_2"] == ["transformers", "CLIPTextModelWithProjection"]
    assert base["scheduler"] == ["diffusers", "EulerDiscreteScheduler"]


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write("sd-1.5", out)
    before = hashes(out)

    with pytest.raises(UsageError, match=r"exists already.*--force"):
        write("sd-1.5", out, seed=1)
    assert hashes(out) == before
    write("sd-1.5", out, seed=1, force=True)
    assert hashes(out) != before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_replaces_checkpoints_only(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("1")
    (tmp_path / "file").write_text("1")
    for name in ("thesis", "file"):
        with pytest.raises(UsageError, match=r"not replaced: it has no model_index\.json"):
            write("sd-1.5", tmp_path / name, force=True)
    (tmp_path / "empty").mkdir()
    write("sd-1.5", tmp_path / "empty", force=True)
    assert (tmp_path / "empty" / "model_index.json").is_file()


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(part: str) -> None:
        if part == "unet":
            raise KeyboardInterrupt

    checkpoint = synthetic.plan("sd-1.5", tiny=True)
    with pytest.raises(KeyboardInterrupt):
        synthetic.write(checkpoint, tmp_path / "out", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_comes_back_when_the_new_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write("sd-1.5", out)
    before, rename = hashes(out), Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if ".unfinished-" in self.name:
            raise PermissionError(13, "held by another program")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ResourceError, match="held by another program"):
        write("sd-1.5", out, seed=1, force=True)
    assert hashes(out) == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_full_disk_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    checkpoint = synthetic.plan("sd-1.5", tiny=True)

    with pytest.raises(ResourceError, match="1,000,000 are free") as caught:
        synthetic.write(checkpoint, tmp_path / "out")
    assert f"{checkpoint.size_bytes + synthetic.REST_BYTES:,} bytes" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    with pytest.raises(ResourceError, match="cannot write"):
        write("sd-1.5", tmp_path / "file" / "out")


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script where the reference's packages cannot be imported."""
    code = (
        "import pathlib, runpy, sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'diffusers', 'transformers', 'onnxruntime')))\n"
        "sys.argv[:2] = sys.argv[1:2]\n"
        "sys.path[0] = str(pathlib.Path(sys.argv[0]).parent)\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[1], check=False)


def test_the_script_needs_no_reference(tmp_path: Path, tiny: Maker) -> None:
    out = tmp_path / "out"
    done = run_script("sd-1.5", str(out), "--tiny", "--seed", "0", "--dtype", "fp32")

    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert "StableDiffusionPipeline" in done.stdout
    assert done.stderr.split() == ["text_encoder", "unet", "vae"]
    assert hashes(out) == hashes(tiny("sd-1.5"))


def test_the_scripts_errors_are_one_line(tmp_path: Path) -> None:
    done = run_script("sd-9", str(tmp_path / "out"), "--tiny")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no configuration called 'sd-9'")
    assert all(name in done.stderr for name in NAMES)
    assert done.stderr.count("\n") == 1


@contextmanager
def warnings_of_the_reference() -> Iterator[list[str]]:
    """Collects what diffusers and transformers warn of, which they keep from the root logger."""
    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Collect(level=logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield messages
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


@pytest.mark.reference
@pytest.mark.parametrize("name", NAMES)
def test_diffusers_loads_it_and_writes_the_same_files(name: str, tiny: Maker, tmp_path: Path) -> None:
    import diffusers

    folder, saved = tiny(name), tmp_path / "saved"
    # What the import of a pipeline's modules warns of (torchvision) is not about the checkpoint.
    pipeline_class = getattr(diffusers, catalogue.load(name).pipeline_class)
    with warnings_of_the_reference() as messages:
        loaded = pipeline_class.from_pretrained(folder)
    assert messages == []
    loaded.save_pretrained(saved)

    configs = [
        *folder.glob("*/config.json"),
        *folder.glob("*/scheduler_config.json"),
        folder / "model_index.json",
    ]
    assert {
        path.relative_to(saved) for path in saved.rglob("*config.json") if "tokenizer" not in path.name
    } == {path.relative_to(folder) for path in configs if path.name != "model_index.json"}
    for path in configs:
        assert compared(path) == compared(saved / path.relative_to(folder)), path


def compared(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key not in NOT_COMPARED}


@pytest.mark.reference
@pytest.mark.parametrize("name", NAMES)
def test_no_weight_is_missing_or_left_over(name: str, tiny: Maker) -> None:
    import diffusers
    import transformers

    for part, config in catalogue.load(name).models.items():
        library, class_name = read(tiny(name))[part]
        assert class_name in (config.get("_class_name"), *config.get("architectures", ()))
        owner = {"diffusers": diffusers, "transformers": transformers}[library]
        _, report = getattr(owner, class_name).from_pretrained(tiny(name) / part, output_loading_info=True)
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), (
            report
        )
