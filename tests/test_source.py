"""Which files of a checkpoint are taken, and what MODEL may be; the Hub itself is tested in test_hub.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnxsd.errors import BadInputError, UsageError
from onnxsd.export.selection import (
    COMPONENTS,
    RemoteFile,
    choose,
    components_of,
    expected_names,
    select_files,
)
from onnxsd.export.source import resolve
from onnxsd.models.aliases import ALIASES, find
from onnxsd.tensors import DType

TOKENIZER = {
    "merges.txt": 524_619,
    "special_tokens_map.json": 472,
    "tokenizer_config.json": 737,
    "vocab.json": 1_059_962,
}
# What the Hub lists for stabilityai/stable-diffusion-xl-base-1.0.
SDXL_BASE = {
    ".gitattributes": 1_519,
    "01.png": 2_469_672,
    "LICENSE.md": 14_109,
    "README.md": 9_241,
    "comparison.png": 127_944,
    "model_index.json": 609,
    "pipeline.png": 84_101,
    "scheduler/scheduler_config.json": 479,
    "sd_xl_base_1.0.safetensors": 6_938_078_334,
    "sd_xl_base_1.0_0.9vae.safetensors": 6_938_081_905,
    "sd_xl_offset_example-lora_1.0.safetensors": 49_553_604,
    "text_encoder/config.json": 565,
    "text_encoder/flax_model.msgpack": 492_247_230,
    "text_encoder/model.fp16.safetensors": 246_144_152,
    "text_encoder/model.onnx": 492_587_457,
    "text_encoder/model.safetensors": 492_265_168,
    "text_encoder/openvino_model.bin": 492_242_672,
    "text_encoder/openvino_model.xml": 1_057_789,
    "text_encoder_2/config.json": 575,
    "text_encoder_2/flax_model.msgpack": 2_778_657_360,
    "text_encoder_2/model.fp16.safetensors": 1_389_382_176,
    "text_encoder_2/model.onnx": 1_041_992,
    "text_encoder_2/model.onnx_data": 2_778_639_360,
    "text_encoder_2/model.safetensors": 2_778_702_264,
    "text_encoder_2/openvino_model.bin": 2_778_640_120,
    "text_encoder_2/openvino_model.xml": 2_790_191,
    **{f"tokenizer/{name}": size for name, size in TOKENIZER.items()},
    **{f"tokenizer_2/{name}": size for name, size in TOKENIZER.items()},
    "unet/config.json": 1_680,
    "unet/diffusion_flax_model.msgpack": 10_269_856_428,
    "unet/diffusion_pytorch_model.fp16.safetensors": 5_135_149_760,
    "unet/diffusion_pytorch_model.safetensors": 10_270_077_736,
    "unet/model.onnx": 7_293_842,
    "unet/model.onnx_data": 10_269_854_720,
    "unet/openvino_model.bin": 10_269_856_428,
    "unet/openvino_model.xml": 22_577_438,
    "vae/config.json": 642,
    "vae/diffusion_flax_model.msgpack": 334_622_384,
    "vae/diffusion_pytorch_model.fp16.safetensors": 167_335_342,
    "vae/diffusion_pytorch_model.safetensors": 334_643_268,
    "vae_1_0/config.json": 607,
    "vae_1_0/diffusion_pytorch_model.fp16.safetensors": 167_335_342,
    "vae_1_0/diffusion_pytorch_model.safetensors": 334_643_268,
    "vae_decoder/config.json": 607,
    "vae_decoder/model.onnx": 198_093_688,
    "vae_decoder/openvino_model.bin": 197_963_264,
    "vae_encoder/config.json": 607,
    "vae_encoder/model.onnx": 136_775_724,
}
# What the Hub lists for stable-diffusion-v1-5/stable-diffusion-v1-5.
SD15 = {
    ".gitattributes": 1_548,
    "README.md": 14_461,
    "feature_extractor/preprocessor_config.json": 342,
    "model_index.json": 541,
    "safety_checker/config.json": 4_723,
    "safety_checker/model.fp16.safetensors": 608_018_440,
    "safety_checker/model.safetensors": 1_215_981_830,
    "safety_checker/pytorch_model.bin": 1_216_061_799,
    "scheduler/scheduler_config.json": 308,
    "text_encoder/config.json": 617,
    "text_encoder/model.fp16.safetensors": 246_144_864,
    "text_encoder/model.safetensors": 492_265_879,
    "text_encoder/pytorch_model.bin": 492_305_335,
    "text_encoder/pytorch_model.fp16.bin": 246_187_076,
    **{f"tokenizer/{name}": size for name, size in TOKENIZER.items()},
    "unet/config.json": 743,
    "unet/diffusion_pytorch_model.bin": 3_438_354_725,
    "unet/diffusion_pytorch_model.fp16.bin": 1_719_327_893,
    "unet/diffusion_pytorch_model.fp16.safetensors": 1_719_125_304,
    "unet/diffusion_pytorch_model.non_ema.bin": 3_438_366_838,
    "unet/diffusion_pytorch_model.non_ema.safetensors": 3_438_167_540,
    "unet/diffusion_pytorch_model.safetensors": 3_438_167_540,
    "v1-5-pruned-emaonly-fp16.safetensors": 2_132_650_982,
    "v1-5-pruned-emaonly.ckpt": 4_265_380_512,
    "v1-5-pruned-emaonly.safetensors": 4_265_146_304,
    "v1-5-pruned.safetensors": 7_703_324_286,
    "v1-inference.yaml": 1_873,
    "vae/config.json": 547,
    "vae/diffusion_pytorch_model.bin": 334_707_217,
    "vae/diffusion_pytorch_model.fp16.bin": 167_405_651,
    "vae/diffusion_pytorch_model.fp16.safetensors": 167_335_342,
    "vae/diffusion_pytorch_model.safetensors": 334_643_276,
}
SDXL_PARTS = ALIASES[0].components
SD15_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


def listing(files: dict[str, int]) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(name=name, size_bytes=size) for name, size in files.items())


def taken(files: dict[str, int], variant: str | None, parts: tuple[str, ...]) -> set[str]:
    return {file.name for file in select_files(listing(files), variant, parts)}


def without(files: dict[str, int], *ends: str) -> dict[str, int]:
    return {name: size for name, size in files.items() if not name.endswith(ends)}


SDXL_SETTINGS = {
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "text_encoder_2/config.json",
    "scheduler/scheduler_config.json",
    *(f"{tokenizer}/{name}" for tokenizer in ("tokenizer", "tokenizer_2") for name in TOKENIZER),
}


def test_sdxl_in_fp16() -> None:
    assert taken(SDXL_BASE, "fp16", SDXL_PARTS) == SDXL_SETTINGS | {
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
        "text_encoder_2/model.fp16.safetensors",
    }


def test_sdxl_without_variant() -> None:
    assert taken(SDXL_BASE, None, SDXL_PARTS) == SDXL_SETTINGS | {
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder_2/model.safetensors",
    }


def test_sdxl_in_fp16_is_7_of_77_gigabytes() -> None:
    whole = sum(SDXL_BASE.values())
    selection = choose(listing(SDXL_BASE), "fp16", SDXL_PARTS)

    assert 6.9e9 < selection.size_bytes < 7.0e9
    assert whole > 76e9


def test_sd15_takes_no_pickle_and_no_safety_checker() -> None:
    assert taken(SD15, "fp16", SD15_PARTS) == {
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        *(f"tokenizer/{name}" for name in TOKENIZER),
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
    }


def test_a_variant_that_one_component_has() -> None:
    selection = choose(listing(SD15), "non_ema", SD15_PARTS)

    assert selection.complete
    assert selection.variants == {"unet": "non_ema", "vae": None, "text_encoder": None}


@pytest.mark.parametrize(
    ("index", "part"),
    [
        (
            "diffusion_pytorch_model.safetensors.index.json",
            "diffusion_pytorch_model-{:05}-of-00003.safetensors",
        ),
        (
            "diffusion_pytorch_model.safetensors.index.fp16.json",
            "diffusion_pytorch_model.fp16-{:05}-of-00003.safetensors",
        ),
        (
            "diffusion_pytorch_model.safetensors.fp16.index.json",
            "diffusion_pytorch_model-{:05}-of-00003.fp16.safetensors",
        ),
    ],
    ids=["plain", "fp16", "older-fp16"],
)
def test_weights_in_parts(index: str, part: str) -> None:
    files = without(
        SDXL_BASE, "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"
    )
    names = [f"unet/{part.format(n)}" for n in (1, 2, 3)]
    files |= {f"unet/{index}": 90_000, **dict.fromkeys(reversed(names), 2 * 10**9)}

    chosen = select_files(listing(files), "fp16", SDXL_PARTS)

    assert [f.name for f in chosen if f.name.startswith("unet/diffusion")] == [f"unet/{index}", *names]


def test_a_missing_part_and_a_missing_index_are_named() -> None:
    files = without(
        SDXL_BASE, "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"
    )
    files["unet/diffusion_pytorch_model.fp16-00001-of-00003.safetensors"] = 1
    files["unet/diffusion_pytorch_model.fp16-00003-of-00003.safetensors"] = 1

    assert choose(listing(files), "fp16", SDXL_PARTS).missing == (
        "unet/diffusion_pytorch_model.fp16-00002-of-00003.safetensors",
        "the index of unet/diffusion_pytorch_model.fp16-00001-of-00003.safetensors",
    )


def test_one_file_wins_over_parts_of_the_same_variant() -> None:
    files = SDXL_BASE | {
        "unet/diffusion_pytorch_model.safetensors.index.json": 1,
        "unet/diffusion_pytorch_model-00001-of-00001.safetensors": 1,
    }

    assert taken(files, None, SDXL_PARTS) == taken(SDXL_BASE, None, SDXL_PARTS)


def test_pickled_weights_alone_are_refused() -> None:
    files = {
        name: size for name, size in SD15.items() if not (name.startswith("unet/") and "safetensors" in name)
    }

    with pytest.raises(
        BadInputError, match=r"unet has no \.safetensors weights, only diffusion_pytorch_model\.bin"
    ) as e:
        select_files(listing(files), "fp16", SD15_PARTS)
    assert "save_pretrained" in str(e.value)


def test_fp16_weights_are_not_taken_for_fp32_in_silence() -> None:
    files = without(SDXL_BASE, "unet/diffusion_pytorch_model.safetensors")

    with pytest.raises(BadInputError, match="unet has weights only as variant fp16"):
        select_files(listing(files), None, SDXL_PARTS)


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("scheduler/scheduler_config.json", "missing scheduler/scheduler_config.json"),
        ("text_encoder_2/config.json", "missing text_encoder_2/config.json"),
        ("tokenizer_2/merges.txt", "missing tokenizer_2/merges.txt"),
        ("model_index.json", "missing model_index.json"),
    ],
)
def test_each_missing_file_is_named(gone: str, named: str) -> None:
    with pytest.raises(BadInputError, match=named):
        select_files(listing(without(SDXL_BASE, gone)), "fp16", SDXL_PARTS)


def test_a_component_without_any_weights_is_named() -> None:
    files = {name: size for name, size in SDXL_BASE.items() if not name.startswith("vae/diffusion")}

    assert choose(listing(files), "fp16", SDXL_PARTS).missing == (
        "vae/diffusion_pytorch_model.fp16.safetensors",
    )


def test_tokenizer_json_is_enough() -> None:
    files = without(SD15, "vocab.json", "merges.txt") | {"tokenizer/tokenizer.json": 3_642_073}

    assert "tokenizer/tokenizer.json" in taken(files, "fp16", SD15_PARTS)


def test_expected_names_are_what_the_real_listing_has() -> None:
    assert set(expected_names(SDXL_PARTS, "fp16")) == taken(SDXL_BASE, "fp16", SDXL_PARTS)


def index_of(**parts: list[str | None]) -> dict[str, object]:
    return {"_class_name": "StableDiffusionXLPipeline", "_diffusers_version": "0.30.0", **parts}


def test_components_of_the_refiner_skip_what_is_null() -> None:
    content = index_of(
        unet=["diffusers", "UNet2DConditionModel"],
        vae=["diffusers", "AutoencoderKL"],
        text_encoder=[None, None],
        text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
        tokenizer=[None, None],
        tokenizer_2=["transformers", "CLIPTokenizer"],
        scheduler=["diffusers", "EulerDiscreteScheduler"],
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
    ) | {"requires_aesthetics_score": True}

    assert set(components_of(content)) == set(find("sdxl-refiner").components)


def test_a_pipeline_without_unet_is_refused_by_name() -> None:
    content = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}

    with pytest.raises(BadInputError, match="FluxPipeline without unet and vae"):
        components_of(content)


def test_an_unknown_component_is_refused_by_name() -> None:
    pair = ["diffusers", "X"]

    with pytest.raises(BadInputError, match="controlnet, which onnxsd does not know"):
        components_of(index_of(unet=pair, vae=pair, controlnet=pair))


def test_aliases_are_distinct_and_known() -> None:
    assert len({alias.name for alias in ALIASES}) == len(ALIASES) == 7
    for alias in ALIASES:
        assert alias.hub_id is None or alias.hub_id.count("/") == 1
        assert set(alias.components) <= set(COMPONENTS)
        assert (alias.hub_id or "built in") in alias.line()
        assert "\n" not in alias.line()
    assert find("SDXL") is ALIASES[0]
    assert find("stabilityai/sdxl-turbo") is None


def write_checkpoint(folder: Path, *, variant: str = "", names: tuple[str, ...] = ()) -> Path:
    """A folder that has every file of an SD 1.5 checkpoint, with nothing in the weights."""
    pair = ["library", "Class"]
    content = {"_class_name": "StableDiffusionPipeline", **dict.fromkeys(SD15_PARTS, pair)}
    for name in names or expected_names(SD15_PARTS, variant or None):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content) if name == "model_index.json" else "{}", encoding="utf-8")
    return folder


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mine")

    source = resolve(str(folder))

    assert Path(source) == source.folder == folder
    assert source.hub_id is None
    assert source.weights("unet") == (folder / "unet" / "diffusion_pytorch_model.safetensors",)


def test_a_folder_with_both_precisions_gives_one(tmp_path: Path) -> None:
    folder = write_checkpoint(write_checkpoint(tmp_path / "mine"), variant="fp16")

    half = resolve(str(folder), precision=DType.FLOAT16)
    full = resolve(str(folder), precision=DType.FLOAT32)

    assert [p.name for p in half.weights("vae")] == ["diffusion_pytorch_model.fp16.safetensors"]
    assert [p.name for p in full.weights("vae")] == ["diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize("name", ["sdxl", "owner/name"])
def test_a_folder_wins_over_an_alias_and_a_hub_id_and_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []

    source = resolve(name, progress=said.append)

    assert source.folder == Path(name)
    assert len(said) == 1
    assert said[0].startswith(f"{name} is a folder here and ")


def test_a_folder_that_is_no_checkpoint_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"is a folder without model_index\.json"):
        resolve(str(tmp_path))


def test_an_incomplete_folder_says_what_is_missing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mine")
    (folder / "vae" / "config.json").unlink()

    with pytest.raises(BadInputError, match=r"mine cannot be exported: missing vae/config\.json"):
        resolve(str(folder))


def test_an_export_is_not_a_checkpoint(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "out")
    (folder / "onnxsd.json").write_text("{}", encoding="utf-8")

    with pytest.raises(BadInputError, match="is an export of onnxsd, not a checkpoint"):
        resolve(str(folder))


@pytest.mark.parametrize(("text", "said"), [("{", "is not JSON"), ("[]", "holds list, not a JSON object")])
def test_a_broken_model_index_is_named(text: str, said: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mine")
    (folder / "model_index.json").write_text(text, encoding="utf-8")

    with pytest.raises(BadInputError, match=f"model_index.json {said}"):
        resolve(str(folder))


@pytest.mark.parametrize("inside", [False, True], ids=["file", "folder-of-one"])
def test_a_single_file_is_not_supported_yet(inside: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")

    with pytest.raises(BadInputError, match="single file: not supported yet by this version") as e:
        resolve(str(tmp_path if inside else path))
    assert "diffusers' layout" in str(e.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("sdxl-turb", "did you mean sdxl-turbo?"),
        ("./nowhere", "aliases: sdxl, "),
        ("a/b/c", "a Hub id is OWNER/NAME"),
        ("", "aliases: sdxl, "),
        (" ", "aliases: sdxl, "),
        ("owner/absent.safetensors", "there is no file owner"),
    ],
)
def test_what_is_neither_is_refused(
    model: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BadInputError) as e:
        resolve(model)
    assert said in str(e.value)


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")

    with pytest.raises(BadInputError, match="is a file, not a checkpoint"):
        resolve(str(tmp_path / "model.onnx"))


def test_a_revision_of_a_folder_contradicts_itself(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--revision v2 was given, but"):
        resolve(str(write_checkpoint(tmp_path / "mine")), revision="v2")


def test_an_asked_variant_that_nothing_has(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="asked for --variant ema, but no component of"):
        resolve(str(write_checkpoint(tmp_path / "mine")), variant="ema")


def test_an_asked_variant_that_something_lacks_is_said(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mine")
    (folder / "unet" / "diffusion_pytorch_model.non_ema.safetensors").write_bytes(b"")
    said: list[str] = []

    source = resolve(str(folder), variant="non_ema", progress=said.append)

    assert source.weights("unet")[0].name == "diffusion_pytorch_model.non_ema.safetensors"
    assert said == [f"vae, text_encoder of {folder}: no non_ema weights, taking the ones without a variant"]
