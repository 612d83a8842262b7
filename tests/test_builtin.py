"""The model inside the package: found, exported once into a cache, and taken where no other is named."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Workshop, change_json, locked_folder, run
from PIL import Image

import onnxsd
from onnxsd import builtin
from onnxsd.artifact.folder import files_of, hash_of, open_folder
from onnxsd.errors import ConfigurationError, ResourceError, UsageError
from onnxsd.export import builtin as cached
from onnxsd.export import placing
from onnxsd.export.source import from_package, resolve
from onnxsd.imaging.carrier import read_text
from onnxsd.imaging.metadata import parse_parameters
from onnxsd.models.aliases import ALIASES, usable
from onnxsd.models.families import FAMILIES, OWN_DEFAULTS, with_own_defaults
from onnxsd.tensors import DType
from onnxsd.weights import stream

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from ship_shapes import LARGEST_BYTES

NAME = "shapes"
UNCHECKED = ("--target", "portable", "--check", "none")
each_model = pytest.mark.parametrize("name", LARGEST_BYTES)
QUICK = ("--steps", "1", "--size", "64x64")
EXPORTING = "exporting the built-in model shapes into "
SDXL = FAMILIES["StableDiffusionXLPipeline"]


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user who has exported nothing, with an empty current folder."""
    for kind in ("cache", "state"):
        monkeypatch.setenv(f"XDG_{kind.upper()}_HOME", str(tmp_path / kind))
    monkeypatch.delenv("ONNXSD_MODEL", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def exports_in(user: Path) -> list[Path]:
    """What lies in the user's cache of built-in models, hidden leftovers too."""
    return sorted((user / "cache" / "onnxsd" / "builtin").iterdir())


def assert_whole(folder: Path) -> None:
    """Every file of an export is there and is what was written."""
    for record in files_of(open_folder(folder).manifest):
        assert hash_of(folder / record.path) == record.sha256, record.path


# In the package


def test_the_package_holds_each_model_that_is_shipped() -> None:
    assert sorted(builtin.names()) == sorted(LARGEST_BYTES)


@each_model
def test_a_model_is_small_with_all_its_files_and_has_a_card(name: str) -> None:
    folder = builtin.folder(name)
    size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert list(folder.rglob("*.safetensors"))
    assert size_bytes <= LARGEST_BYTES[name]
    assert (folder / builtin.CARD).read_text(encoding="utf-8").strip()


def test_the_model_says_what_suits_it() -> None:
    index = json.loads((builtin.folder(NAME) / "model_index.json").read_text(encoding="utf-8"))

    assert index[OWN_DEFAULTS] == {"num_inference_steps": 20, "guidance_scale": 5.0}


def test_a_model_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(UsageError, match="holds no model squares") as caught:
        builtin.folder("squares")
    assert NAME in str(caught.value.hint)
    with pytest.raises(UsageError, match="holds no model squares"):
        builtin.digest("squares")


def test_every_built_in_model_has_its_alias() -> None:
    inside = {alias.name for alias in ALIASES if alias.hub_id is None}

    assert set(builtin.names()) <= inside
    assert {alias.name for alias in usable() if alias.hub_id is None} == set(builtin.names())


# export and info


def test_the_alias_is_exported_without_a_network(user: Path) -> None:
    result = run("export", "Shapes", user / "out", "--offline", *UNCHECKED)

    assert result.exit_code == 0, result.stderr
    told = json.loads(run("info", user / "out", "--json").stdout)
    assert told["source"] == NAME
    assert told["defaults"] == {"width": 128, "height": 128, "steps": 20, "guidance_scale": 5.0}
    lines = run("info", user / "out").stdout.splitlines()
    assert lines[0].startswith(f"{user / 'out'}: StableDiffusionXLPipeline from shapes, ")
    assert "  unless told otherwise: 128×128, 20 steps, guidance 5" in lines


def test_the_export_passes_its_checks(user: Path) -> None:
    result = run("export", NAME, user / "out", "--target", "portable")

    assert result.exit_code == 0, result.stderr
    assert "FAILED" not in result.stdout


@each_model
def test_the_cuda_operators_take_its_widths(name: str, user: Path) -> None:
    result = run("export", name, user / "out", "--target", "cuda", "--check", "none")

    assert result.exit_code == 0, result.stderr
    chosen = {
        (entry.op, entry.lowering)
        for part in open_folder(user / "out").manifest.components
        for entry in part.lowerings
        if entry.op in ("group_norm", "attention")
    }
    assert chosen == {("group_norm", "fused_group_norm"), ("attention", "multi_head_attention")}


@each_model
def test_no_file_names_a_place_on_the_machine_that_made_it(name: str) -> None:
    configurations = list(builtin.folder(name).glob("**/*.json"))
    named = [path for path in configurations if '"_name_or_path"' in path.read_text(encoding="utf-8")]

    assert configurations
    assert named == []


def test_models_lists_it() -> None:
    (line,) = (line for line in run("models").stdout.splitlines() if line.startswith("shapes "))

    assert line.endswith("StableDiffusionXLPipeline, 128², built in, needs no network")


def test_a_folder_of_that_name_wins_and_it_is_said(workshop: Workshop) -> None:
    workshop.copy(Path(NAME))
    told: list[str] = []

    source = resolve(NAME, progress=told.append)

    assert source.folder == Path(NAME)
    assert source.name == str(Path(NAME).absolute())
    assert told == ["shapes is a folder here and the alias of a built-in model; taking the folder"]


def test_a_folder_of_that_name_that_is_no_checkpoint() -> None:
    Path(NAME).mkdir()

    result = run("export", NAME, "out")

    assert result.exit_code == 3
    assert "if you meant the alias, run this in another folder" in result.stderr


def test_what_belongs_to_the_hub_is_refused() -> None:
    with pytest.raises(UsageError, match="--revision v2 was given, but shapes lies inside onnxsd"):
        resolve(NAME, revision="v2")


# What a model says of itself


@pytest.mark.parametrize(
    ("own", "steps", "scale"),
    [
        ({}, SDXL.steps, SDXL.guidance_scale),
        ({"num_inference_steps": 4}, 4, SDXL.guidance_scale),
        ({"guidance_scale": 0}, SDXL.steps, 0.0),
    ],
)
def test_own_defaults_go_before_the_familys(own: dict[str, Any], steps: int, scale: float) -> None:
    family = with_own_defaults(SDXL, {OWN_DEFAULTS: own}, source="index")

    assert family == dataclasses.replace(SDXL, steps=steps, guidance_scale=scale)
    assert with_own_defaults(SDXL, {}, source="index") == SDXL


@pytest.mark.parametrize(
    "own",
    [
        None,
        20,
        {"num_inference_steps": 0},
        {"num_inference_steps": 2.5},
        {"num_inference_steps": True},
        {"guidance_scale": "5"},
        {"guidance_scale": float("nan")},
    ],
)
def test_own_defaults_that_cannot_be_are_named(own: object) -> None:
    with pytest.raises(ConfigurationError, match="has _onnxsd_defaults"):
        with_own_defaults(SDXL, {OWN_DEFAULTS: own}, source="model_index.json")


@pytest.mark.reference
@each_model
def test_diffusers_reads_the_checkpoint_without_a_word(name: str, caplog: pytest.LogCaptureFixture) -> None:
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging

    logging.enable_propagation()
    try:
        pipeline = DiffusionPipeline.from_pretrained(builtin.folder(name), low_cpu_mem_usage=False)
    finally:
        logging.disable_propagation()

    assert pipeline.unet.config.sample_size * pipeline.vae_scale_factor == 128
    assert [record.message for record in caplog.records if "not expected" in record.message] == []


# generate


def test_generate_takes_it_where_nothing_was_exported_and_says_so(user: Path) -> None:
    result = run("generate", "a red circle", "--seed", "1", "-o", "x.png", "--json")

    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert lines[0].startswith("no model is named and nothing was exported yet: taking the built-in shapes")
    assert "`onnxsd export sdxl ./out` gets Stable Diffusion XL" in lines[0]
    assert lines[1].startswith(EXPORTING)
    assert " (the built-in shapes) on cpu" in lines[2]
    told = json.loads(result.stdout)
    assert (told["width"], told["height"], told["steps"], told["guidance_scale"]) == (128, 128, 20, 5.0)
    with Image.open("x.png") as image:
        assert image.size == (128, 128)
    assert parse_parameters(read_text(Path("x.png"))).model == NAME


def test_the_export_is_made_once(user: Path) -> None:
    assert EXPORTING in run("generate", "x", *QUICK).stderr
    (folder,) = exports_in(user)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    again = run("generate", "x", *QUICK)

    assert again.exit_code == 0
    assert EXPORTING not in again.stderr
    assert exports_in(user) == [folder]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("by", ["--model", "ONNXSD_MODEL"])
def test_its_name_is_a_model(
    by: str, user: Path, monkeypatch: pytest.MonkeyPatch, workshop: Workshop
) -> None:
    assert run("export", workshop.checkpoint("sd-1.5"), user / "out", *UNCHECKED).exit_code == 0
    monkeypatch.setenv("ONNXSD_MODEL", NAME if by == "ONNXSD_MODEL" else "nowhere")

    result = run("generate", "x", *QUICK, *(("--model", NAME) if by == "--model" else ()))

    assert result.exit_code == 0, result.stderr
    assert "(the built-in shapes) on cpu" in result.stderr
    assert "nothing was exported" not in result.stderr


def test_the_last_export_goes_before_it(user: Path, workshop: Workshop) -> None:
    out = user / "out"
    assert run("export", workshop.checkpoint("sd-1.5"), out, *UNCHECKED).exit_code == 0

    assert f"{out} (the last export) on cpu" in run("generate", "x", *QUICK).stderr

    shutil.rmtree(out)
    gone = run("generate", "x", *QUICK)
    assert gone.exit_code == 2
    assert "--model shapes is always there" in gone.stderr


def test_using_it_is_no_export_of_the_users(user: Path) -> None:
    assert run("generate", "x", *QUICK).exit_code == 0
    assert "nothing was exported yet" in run("generate", "x", *QUICK).stderr


def test_a_folder_of_its_name_is_the_model(workshop: Workshop) -> None:
    shutil.copytree(workshop.export("sd-1.5", precision=DType.FLOAT16).path, NAME)

    result = run("generate", "x", *QUICK, "--model", NAME)

    assert result.exit_code == 0, result.stderr
    assert "shapes is a folder here and the name of a built-in model; taking the folder" in result.stderr
    assert "shapes (--model) on cpu" in result.stderr


# The cache


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a whole export; whoever changes it copies it first."""
    cache = tmp_path_factory.mktemp("whole")
    cached.exported(NAME, cache, say=print)
    return cache


def truncate(folder: Path) -> None:
    """Cut a data file to half, as a disk that became full does."""
    data = folder / "unet" / "model.onnx_data"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


def zero(folder: Path) -> None:
    """A file of the right size with nothing in it, as a crash of the machine can leave."""
    data = folder / "unet" / "model.onnx_data"
    data.write_bytes(bytes(data.stat().st_size))


def empty(folder: Path) -> None:
    """A folder with nothing in it."""
    shutil.rmtree(folder)
    folder.mkdir()


LEFTOVERS: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "zeros": zero,
    "a file is missing": lambda folder: (folder / "tokenizer" / "vocab.json").unlink(),
    "no manifest": lambda folder: (folder / "onnxsd.json").unlink(),
    "half a manifest": lambda folder: (folder / "onnxsd.json").write_text('{"schema": 1', encoding="utf-8"),
    "another schema": lambda folder: change_json(folder / "onnxsd.json", schema=99),
    "empty": empty,
}


@pytest.mark.parametrize("damage", LEFTOVERS.values(), ids=LEFTOVERS)
def test_a_broken_leftover_is_replaced(damage: Callable[[Path], None], whole: Path, tmp_path: Path) -> None:
    cache = tmp_path / "copy"
    shutil.copytree(whole, cache)
    (place,) = cache.iterdir()
    damage(place)
    told: list[str] = []

    found = cached.exported(NAME, cache, say=told.append)

    assert found == place
    assert [line.startswith(EXPORTING) for line in told] == [True]
    assert_whole(place)
    assert list(cache.iterdir()) == [place]


def test_other_weights_or_another_version_are_another_folder(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place() -> Path:
        cached._key.cache_clear()
        return cached.exported(NAME, tmp_path / "cache", say=print)

    ours = place()
    monkeypatch.setattr(cached, "__version__", "99.0")
    of_another_version = place()
    monkeypatch.undo()
    monkeypatch.setattr(builtin, "digest", lambda name: "other weights")
    of_other_weights = place()
    monkeypatch.undo()
    cached._key.cache_clear()

    assert len({ours, of_another_version, of_other_weights}) == 3
    assert ours.name == next(whole.iterdir()).name


def test_precisions_lie_side_by_side(whole: Path, tmp_path: Path) -> None:
    wide = cached.exported(NAME, tmp_path, say=print, precision=DType.FLOAT32)

    assert open_folder(wide).manifest.precision is DType.FLOAT32
    assert wide.name not in {path.name for path in whole.iterdir()}


def test_the_hash_is_of_what_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = builtin.digest(NAME)
    copy = tmp_path / "model"
    shutil.copytree(builtin.folder(NAME), copy)
    monkeypatch.setattr(builtin, "_inside", lambda name: copy)

    assert builtin.digest(NAME) == before
    (copy / builtin.CARD).write_text("another card", encoding="utf-8")
    assert builtin.digest(NAME) == before
    change_json(copy / "unet" / "config.json", comment="another model")
    assert builtin.digest(NAME) != before


def test_two_processes_at_once(user: Path) -> None:
    program = [sys.executable, "-m", "onnxsd", "generate", "x", *QUICK, "--seed", "1", "-o"]
    running = [
        subprocess.Popen([*program, f"{name}.png"], stderr=subprocess.PIPE, text=True) for name in "ab"
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]

    assert [process.returncode for process in running] == [0, 0], errors
    (folder,) = exports_in(user)
    assert_whole(folder)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_who_comes_second_takes_the_export_of_the_first(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process finishes while this one is still writing."""
    cache = tmp_path / "cache"
    real = stream.write

    def write_and_be_late(path: Path, *arguments: Any, **options: Any) -> Any:
        if not any(entry.name.startswith(NAME) for entry in cache.iterdir()):
            shutil.copytree(whole, cache, dirs_exist_ok=True)
        return real(path, *arguments, **options)

    monkeypatch.setattr(stream, "write", write_and_be_late)
    told: list[str] = []

    found = cached.exported(NAME, cache, say=told.append)

    assert list(cache.iterdir()) == [found]
    assert_whole(found)
    assert len(told) == 1


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read only", "closed"])
def test_a_cache_that_may_not_be_written(mode: int, tmp_path: Path) -> None:
    cached._key(NAME)  # reads the code, which may lie where nobody else reads
    shutil.copytree(builtin.folder(NAME), tmp_path / "model", copy_function=shutil.copyfile)
    with locked_folder(beside=tmp_path / "model", mode=mode) as (copy, locked):
        source = dataclasses.replace(resolve(str(copy)), builtin=NAME)
        told: list[str] = []
        cache = locked / "cache"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cached, "from_package", lambda name: source)
            found = cached.exported(NAME, cache, say=told.append)

        assert_whole(found)
        assert cache not in found.parents
        assert "Permission denied" in told[-1]
        assert told[-1].endswith(f"exporting the built-in model shapes into {found}, for this run alone")


def test_a_cache_that_may_only_be_read_serves_what_it_holds(whole: Path) -> None:
    cached._key(NAME)
    whole.chmod(0o755)
    with locked_folder(beside=whole) as (copy, _):
        told: list[str] = []

        assert cached.exported(NAME, copy, say=told.append).parent == copy
        assert told == []


def test_a_cache_on_a_full_disk(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(
        placing.shutil, "disk_usage", lambda path: usage(10 if Path(path) == tmp_path / "cache" else 10**12)
    )
    told: list[str] = []

    found = cached.exported(NAME, tmp_path / "cache", say=told.append)

    assert temporary in found.parents
    assert_whole(found)
    assert "10 are free on its disk" in told[-1]
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_disk_that_becomes_full(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = stream.write

    def write_until_full(path: Path, *arguments: Any, **options: Any) -> Any:
        if tmp_path / "cache" in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *arguments, **options)

    monkeypatch.setattr(stream, "write", write_until_full)
    told: list[str] = []

    assert_whole(cached.exported(NAME, tmp_path / "cache", say=told.append))
    assert "the disk became full" in told[-1]
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_room_anywhere_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stream, "write", refuse)
    with pytest.raises(ResourceError, match="the disk became full"):
        cached.exported(NAME, tmp_path / "cache", say=print)


def test_a_temporary_export_goes_with_the_program(user: Path) -> None:
    """In a program of its own, whose cache folder is a file."""
    (user / "cache").write_text("no folder", encoding="utf-8")
    (user / "temporary").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "onnxsd", "generate", "x", *QUICK, "-o", "x.png"],
        env={**os.environ, "TMPDIR": str(user / "temporary")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "is a file, not a folder; exporting the built-in model shapes into" in done.stderr
    assert list((user / "temporary").glob("onnxsd-*")) == []


# A package that is no folder


def test_a_zipped_package_has_it_too(user: Path) -> None:
    archive = user / "onnxsd.zip"
    package = Path(onnxsd.__file__).parent
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in sorted(package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                zipped.write(path, path.relative_to(package.parent))
    (user / "temporary").mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(archive)!r})\n"
        "import onnxsd; from onnxsd.cli import main\n"
        f"assert onnxsd.__file__.startswith({str(archive)!r}), onnxsd.__file__\n"
        f"main(['generate', 'x', '--seed', '1', '-o', 'x.png', *{QUICK!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(user / "temporary")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert run("generate", "x", "--seed", "1", "-o", "y.png", *QUICK).exit_code == 0
    assert Path("x.png").read_bytes() == Path("y.png").read_bytes()
    assert list((user / "temporary").glob("onnxsd-*")) == []
    assert len(exports_in(user)) == 1, "the zipped package and the folder hold the same model"


def test_what_is_taken_from_the_package_knows_its_alias() -> None:
    source = from_package(NAME)

    assert (source.name, source.hub_id, source.commit) == (NAME, None, None)
    assert source.folder == builtin.folder(NAME)
