"""The image's way out: pixels, the text an image carries, file names, files and grids."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

import onnxsd
from onnxsd.errors import BadInputError, OnnxsdError, ResourceError, ShapeError, UsageError, VerificationError
from onnxsd.imaging.carrier import ImageFormat, encode, read_text
from onnxsd.imaging.grid import grid
from onnxsd.imaging.metadata import GenerationRecord, as_dict, format_parameters, parse_parameters
from onnxsd.imaging.output import OutputPlan, grid_path, plan_output, save
from onnxsd.imaging.pixels import to_images
from onnxsd.imaging.slug import slug

FULL = GenerationRecord(
    prompt="a red cube",
    negative_prompt="blurry",
    steps=30,
    sampler="Euler a",
    noise_schedule="Karras",
    guidance_scale=7.0,
    seed=1,
    width=1024,
    height=768,
    model_hash="31e35c80fc",
    model="sd_xl_base_1.0",
    denoising_strength=0.75,
    clip_skip=2,
    rng="CPU",
)


def test_the_text_is_as_automatic1111_writes_it() -> None:
    assert format_parameters(FULL) == (
        "a red cube\n"
        "Negative prompt: blurry\n"
        "Steps: 30, Sampler: Euler a, Schedule type: Karras, CFG scale: 7.0, Seed: 1, Size: 1024x768, "
        "Model hash: 31e35c80fc, Model: sd_xl_base_1.0, Denoising strength: 0.75, Clip skip: 2, RNG: CPU, "
        f"Version: onnxsd {onnxsd.__version__}"
    )


def test_absent_values_are_left_out() -> None:
    assert format_parameters(GenerationRecord(prompt="x", steps=4, version=None)) == "x\nSteps: 4"


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [
        ("a red cube", ""),
        ("", ""),
        ("", "blurry"),
        ("two\nlines\n\nand a gap", "three\nmore\nlines"),
        ("Steps: 1", ""),
        ("a\nSteps: 1, Sampler: Heun", "b\nSteps: 2"),
        ("Negative prompt: not really", ""),
        ("a\nNegative prompt: not really", ""),
        ("a\nNegative prompt: x", "Negative prompt: y\nNegative prompt: z"),
        ("a", "b\nNegative prompt: c"),
        ("trailing line\n", "  leading and trailing blanks  "),
        (" \t", "\n"),
        ("日本語, “quotes” and 🐈", "ünïcode"),
        ("carriage\r\nreturn\u2028separator\x85next", "\x0b\x0c"),
        ('a "quoted" \\ thing: with, all of {it}', "<lora:x:1>"),
    ],
)
def test_prompts_come_back_exactly(prompt: str, negative: str) -> None:
    record = replace(FULL, prompt=prompt, negative_prompt=negative)

    assert parse_parameters(format_parameters(record)) == record


@pytest.mark.parametrize(
    "value",
    ["a, b", "a: b", "a\nb", '"', '"a"', "", " a ", "\\", "a\\", "日本", "a\r", 'x "y"', "a,\n:\t\"'"],
)
def test_values_come_back_exactly(value: str) -> None:
    record = replace(FULL, model=value, sampler=value, extra=(("Lora hashes", value), ("TI", "1")))

    assert parse_parameters(format_parameters(record)) == record


TEXTS = st.text(
    alphabet=st.sampled_from('ab ,:"\\\n\r\t#é日\u2028{}') | st.characters(exclude_categories=["Cs"])
)
PROMPTS = st.lists(
    TEXTS | st.sampled_from(["Negative prompt:", "Negative prompt: x", "Steps: 1", "Prompt lines: 1", ""])
).map("\n".join)


@given(prompt=PROMPTS, negative=PROMPTS, model=st.none() | TEXTS, extra=TEXTS)
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_exactly(prompt: str, negative: str, model: str | None, extra: str) -> None:
    record = GenerationRecord(
        prompt=prompt, negative_prompt=negative, steps=1, model=model, extra=(("Lora hashes", extra),)
    )

    assert parse_parameters(format_parameters(record)) == record


@given(steps=st.integers(0), seed=st.integers(), scale=st.floats(allow_nan=False))
@settings(max_examples=100, deadline=None)
def test_any_number_comes_back_exactly(steps: int, seed: int, scale: float) -> None:
    record = replace(FULL, steps=steps, seed=seed, guidance_scale=scale)

    assert parse_parameters(format_parameters(record)) == record


def test_another_programs_text_is_read() -> None:
    text = (
        "masterpiece, (cat:1.2) <lora:a:0.8>\n"
        "Negative prompt: lowres,\n"
        "bad hands\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1234567890123, "
        "Size: 512x768, Model hash: 6ce0161689, Model: v1-5, Clip skip: 2, Hires. upscaler: None, "
        'Lora hashes: "a: 1f2e, b: 3d4c", Version: v1.10.1'
    )

    record = parse_parameters(text)

    assert record.prompt == "masterpiece, (cat:1.2) <lora:a:0.8>"
    assert record.negative_prompt == "lowres,\nbad hands"
    assert (record.steps, record.sampler, record.noise_schedule) == (20, "DPM++ 2M", "Karras")
    assert (record.guidance_scale, record.seed) == (7.0, 1234567890123)
    assert (record.width, record.height, record.clip_skip) == (512, 768, 2)
    assert record.extra == (("Hires. upscaler", "None"), ("Lora hashes", "a: 1f2e, b: 3d4c"))
    assert record.version == "v1.10.1"
    assert parse_parameters(format_parameters(record)) == record


def test_a_text_that_starts_with_its_negative_prompt() -> None:
    record = parse_parameters("Negative prompt: x\nSteps: 1")

    assert (record.prompt, record.negative_prompt) == ("", "x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not end in a line of settings"),
        ("just a prompt", "'just a prompt'"),
        ("Steps: 1\nlater words", "'later words'"),
        ("x\nSteps: many", "Steps: many"),
        ("x\nSteps: 1, Size: large", "Size: large"),
        ("x\nSteps: 1, Size: 5x", "Size: 5x"),
        ("x\nSteps: 1, CFG scale: high", "CFG scale: high"),
        ("x\nSteps: 1, Prompt lines: none", "Prompt lines: none"),
    ],
)
def test_a_text_that_cannot_be_read_says_why(text: str, said: str) -> None:
    with pytest.raises(BadInputError) as e:
        parse_parameters(text)
    assert said in str(e.value)


@pytest.mark.parametrize(
    "extra", [(("Steps", "1"),), (("a: b", "1"),), (("", "1"),), (("a", "1"), ("a", "2"))]
)
def test_an_extra_setting_that_could_not_be_read_back_is_refused(extra: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(UsageError, match="cannot name an extra setting"):
        replace(FULL, extra=extra)


def test_a_width_needs_a_height() -> None:
    with pytest.raises(UsageError, match="got 5 and None"):
        GenerationRecord(prompt="", steps=1, width=5)


def test_json_has_what_is_known() -> None:
    known = as_dict(GenerationRecord(prompt="x", steps=3, extra=(("A", "1"),), version="v"))

    assert known == {"prompt": "x", "negative_prompt": "", "steps": 3, "extra": {"A": "1"}, "version": "v"}


def picture(width: int = 8, height: int = 8, colour: tuple[int, int, int] = (200, 30, 40)) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


@pytest.mark.parametrize("image_format", list(ImageFormat))
@pytest.mark.parametrize("prompt", ["plain", "Grüße, größer", "猫\n🐈 Negative prompt: x", "long " * 4000])
def test_an_image_gives_its_record_back(image_format: ImageFormat, prompt: str, tmp_path: Path) -> None:
    record = replace(FULL, prompt=prompt)
    path = tmp_path / f"image{image_format.suffixes[0]}"

    save(picture(), path, image_format, format_parameters(record))

    assert parse_parameters(read_text(path)) == record
    with Image.open(path) as back:
        assert back.format == image_format.name
        assert np.abs(np.asarray(back, dtype=int) - np.asarray(picture(), dtype=int)).max() <= 8
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_png_is_exact_and_says_text_as_latin1_where_it_can(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)

    latin = encode(Image.fromarray(pixels), ImageFormat.PNG, "Grüße")
    other = encode(Image.fromarray(pixels), ImageFormat.PNG, "猫")

    assert b"tEXtparameters\0Gr\xfc\xdfe" in latin
    assert b"iTXtparameters\0" in other
    (tmp_path / "x.png").write_bytes(latin)
    with Image.open(tmp_path / "x.png") as back:
        assert np.array_equal(np.asarray(back), pixels)


def test_a_prompt_that_is_no_text_still_gets_its_image(tmp_path: Path) -> None:
    save(picture(), tmp_path / "x.png", ImageFormat.PNG, "bad \udcff byte\nSteps: 1")

    assert read_text(tmp_path / "x.png") == "bad \\udcff byte\nSteps: 1"


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be"])
def test_exif_of_either_byte_order_is_read(coding: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    comment = b"UNICODE\0" + "猫\nSteps: 1".encode(coding)
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment: comment}
    picture().save(tmp_path / "x.jpg", exif=exif)

    assert read_text(tmp_path / "x.jpg") == "猫\nSteps: 1"


def test_exif_in_ascii_is_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment: b"ASCII\0\0\0cat\nSteps: 1"}
    picture().save(tmp_path / "x.jpg", exif=exif)

    assert read_text(tmp_path / "x.jpg") == "cat\nSteps: 1"


def test_text_behind_the_pixels_is_read(tmp_path: Path) -> None:
    data = encode(picture(), ImageFormat.PNG, "late\nSteps: 1")
    start = data.index(b"tEXtparameters") - 4
    length = int.from_bytes(data[start : start + 4], "big") + 12
    end = data.index(b"IEND") - 4
    moved = data[:start] + data[start + length : end] + data[start : start + length] + data[end:]
    (tmp_path / "x.png").write_bytes(moved)

    assert read_text(tmp_path / "x.png") == "late\nSteps: 1"


def test_a_text_too_long_for_jpeg_is_refused_with_a_way_out() -> None:
    with pytest.raises(BadInputError, match="a JPEG carries") as e:
        encode(picture(), ImageFormat.JPEG, "x" * 40_000)
    assert "png or webp" in str(e.value)


def test_a_size_that_a_format_does_not_have_is_refused_with_a_way_out() -> None:
    with pytest.raises(BadInputError, match="cannot write 16400x1 RGB as webp") as e:
        encode(picture(16_400, 1), ImageFormat.WEBP, None)
    assert "--format png" in str(e.value)


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_an_image_without_text_says_so(image_format: ImageFormat, tmp_path: Path) -> None:
    path = save(picture(), tmp_path / f"x{image_format.suffixes[0]}", image_format, None)

    with pytest.raises(BadInputError, match="carries no `parameters` text"):
        read_text(path)


def test_what_is_no_image_says_so(tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("hello", encoding="utf-8")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = encode(Image.fromarray(noise), ImageFormat.PNG, "x")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(BadInputError, match=r"note\.png is not an image"):
        read_text(tmp_path / "note.png")
    with pytest.raises(BadInputError, match=r"cannot read .*cut\.png"):
        read_text(tmp_path / "cut.png")
    with pytest.raises(BadInputError, match=r"cannot read .*absent\.png: No such file"):
        read_text(tmp_path / "absent.png")


def paths_of(output: str | None, count: int = 1, image_format: ImageFormat | None = None) -> list[str]:
    plan = plan_output(output, image_format)
    found = plan.paths(seeds=range(7, 7 + count), prompts=["a red cube, on a table"] * count)
    return [path.as_posix() for path in found]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("output", "count", "image_format", "paths"),
    [
        (None, 1, None, ["onnxsd-0001.png"]),
        (None, 3, ImageFormat.WEBP, ["onnxsd-0001.webp", "onnxsd-0002.webp", "onnxsd-0003.webp"]),
        ("cat.png", 1, None, ["cat.png"]),
        ("cat.jpeg", 1, None, ["cat.jpeg"]),
        ("CAT.JPG", 1, ImageFormat.JPEG, ["CAT.JPG"]),
        ("cat.png", 3, None, ["cat-1.png", "cat-2.png", "cat-3.png"]),
        ("out/deep/cat.webp", 1, None, ["out/deep/cat.webp"]),
        ("out/", 2, None, ["out/onnxsd-0001.png", "out/onnxsd-0002.png"]),
        ("out", 1, ImageFormat.JPEG, ["out/onnxsd-0001.jpg"]),
        ("{seed}.png", 2, None, ["7.png", "8.png"]),
        ("{seed}", 1, ImageFormat.JPEG, ["7.jpg"]),
        ("{index}-{seed}.png", 2, None, ["0001-7.png", "0002-8.png"]),
        ("{prompt}.png", 1, None, ["a-red-cube-on-a-table.png"]),
        ("{prompt}.png", 2, None, ["a-red-cube-on-a-table-1.png", "a-red-cube-on-a-table-2.png"]),
        ("v1.5-{seed}", 1, None, ["v1.5-7.png"]),
        ("{{x}}-{seed}.png", 1, None, ["{x}-7.png"]),
    ],
)
def test_where_images_go(
    output: str | None, count: int, image_format: ImageFormat | None, paths: list[str], here: Path
) -> None:
    assert paths_of(output, count, image_format) == paths


def test_an_existing_folder_is_a_folder_whatever_its_name(here: Path) -> None:
    (here / "v1.5").mkdir()
    (here / "{odd}").mkdir()

    assert paths_of("v1.5") == ["v1.5/onnxsd-0001.png"]
    assert paths_of("{odd}") == ["{odd}/onnxsd-0001.png"]
    assert paths_of("{odd}/x.png") == ["{odd}/x.png"]


def test_numbers_go_on_from_the_highest(here: Path) -> None:
    for name in (
        "onnxsd-0003.png",
        "onnxsd-0012.png",
        "onnxsd-0099.jpg",
        "onnxsd-0077-grid.png",
        "onnxsd-x.png",
    ):
        (here / name).touch()

    assert paths_of(None, 2) == ["onnxsd-0013.png", "onnxsd-0014.png"]
    (here / "onnxsd-12345.png").touch()
    assert paths_of(None) == ["onnxsd-12346.png"]


def test_numbers_go_on_whatever_the_seed_was(here: Path) -> None:
    (here / "1-0004.png").touch()

    assert paths_of("{seed}-{index}.png") == ["7-0005.png"]


def test_names_that_only_differ_in_case_are_told_apart(here: Path) -> None:
    plan = plan_output("{prompt}.png", None)

    paths = plan.paths(seeds=[1, 2, 3], prompts=["Cat", "cat", "cat 1"])

    assert len({path.name.casefold() for path in paths}) == 3


@pytest.mark.parametrize(
    ("output", "image_format", "said"),
    [
        ("{sed}.png", None, "unknown placeholder {sed} (known are {seed}, {index}, {prompt})"),
        ("{}.png", None, "unknown placeholder {}"),
        ("{seed:05d}.png", None, "unknown placeholder {seed:05d}"),
        ("{seed!r}.png", None, "unknown placeholder {seed!r}"),
        ("{seed.real}.png", None, "unknown placeholder {seed.real}"),
        ("{seed.png", None, "placeholders are {seed}, {index}, {prompt}"),
        ("x}.png", None, "placeholders are {seed}, {index}, {prompt}"),
        ("{prompt}/x.png", None, "placeholders belong in the file name"),
        ("x.gif", None, "cannot write .gif files (use one of .png, .jpg, .jpeg, .webp)"),
        ("x.png", ImageFormat.JPEG, "names a png file, but --format asks for jpeg"),
        ("{seed}.jpg", ImageFormat.WEBP, "names a jpeg file, but --format asks for webp"),
    ],
)
def test_a_plan_that_contradicts_itself(
    output: str, image_format: ImageFormat | None, said: str, here: Path
) -> None:
    with pytest.raises(UsageError) as e:
        plan_output(output, image_format)
    assert said in str(e.value)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red cube", "a-red-cube"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\Windows\\x", "C-Windows-x"),
        ("a/b|c?d*e<f>g\"h'i", "a-b-c-d-e-f-g-h-i"),
        ("nul", "nul_"),
        ("COM1", "COM1_"),
        ("lpt³", "lpt³_"),
        ("console", "console"),
        ("", "image"),
        ("...", "image"),
        ("\0\n\t", "image"),
        ("ein Haus, größer", "ein-Haus-größer"),
        ("हिन्दी", "हिन्दी"),
        ("e\u0301", "é"),
        ("🐈 cat", "cat"),
        ("\udcff x", "x"),
    ],
)
def test_slugs(prompt: str, name: str) -> None:
    assert slug(prompt) == name


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_slug_is_one_short_file_name(prompt: str) -> None:
    name = slug(prompt)

    assert 0 < len(name.encode()) <= 81
    assert not set('/\\:*?"<>|\0. ') & set(name)
    assert name[0] != "-"
    assert name[-1] != "-"


def test_a_long_prompt_is_cut_at_a_word() -> None:
    assert slug("word " * 50) == "-".join(["word"] * 16)
    assert len(slug("猫" * 100)) == 26


def test_an_explicit_file_is_replaced_and_its_folder_made(here: Path) -> None:
    plan = plan_output("new/cat.png", None)
    (path,) = plan.paths(seeds=[1], prompts=["x"])

    assert plan.replaces
    for colour in ((1, 2, 3), (4, 5, 6)):
        assert save(picture(colour=colour), path, plan.image_format, None, replace=plan.replaces) == path

    with Image.open(path) as back:
        assert back.getpixel((0, 0)) == (4, 5, 6)
    assert names_in(here / "new") == ["cat.png"]


def test_a_numbered_file_is_never_replaced_even_when_another_process_took_it(here: Path) -> None:
    plan = plan_output(None, None)
    (path,) = plan.paths(seeds=[1], prompts=["x"])
    path.write_text("the other's", encoding="utf-8")

    taken = save(picture(), path, plan.image_format, None, replace=plan.replaces)

    assert path.read_text(encoding="utf-8") == "the other's"
    assert taken == Path("onnxsd-0001-1.png")
    assert names_in(here) == ["onnxsd-0001-1.png", "onnxsd-0001.png"]


@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "the disk is full: cannot write"),
        (errno.EACCES, "Permission denied"),
        (errno.EROFS, "Read-only file system"),
    ],
)
def test_a_disk_that_refuses_is_named_and_nothing_is_left(
    code: int, said: str, replaces: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "replace", refuse)
    path = tmp_path / "x.png"

    with pytest.raises(ResourceError, match=said) as e:
        save(picture(), path, ImageFormat.PNG, None, replace=replaces)
    assert str(path) in str(e.value)
    assert e.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder without write permission; the tests are nobody for a while if they run as root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions are not in a folder's mode here")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65_534)
    yield folder
    os.seteuid(me)


def test_a_folder_that_may_not_be_written(locked: Path) -> None:
    plan = OutputPlan(folder=locked, name="x", suffix=".png", image_format=ImageFormat.PNG)

    for attempt in (plan.prepare, lambda: save(picture(), locked / "x.png", ImageFormat.PNG, None)):
        with pytest.raises(ResourceError, match="Permission denied") as e:
            attempt()
        assert str(locked) in str(e.value)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    plan = OutputPlan(folder=tmp_path / "file" / "in", name="x", suffix=".png", image_format=ImageFormat.PNG)

    for attempt in (
        plan.prepare,
        lambda: save(picture(), plan.folder / "x.png", ImageFormat.PNG, None),
        lambda: replace(plan, name="{index}").paths(seeds=[1], prompts=["x"]),
    ):
        with pytest.raises(ResourceError) as e:
            attempt()
        assert str(tmp_path / "file") in str(e.value)


def test_preparing_makes_the_folder_and_leaves_it_empty(tmp_path: Path) -> None:
    plan = plan_output(f"{tmp_path}/new/deep/", None)

    plan.prepare()

    assert list((tmp_path / "new" / "deep").iterdir()) == []


def test_a_grid_lies_beside_its_first_image() -> None:
    assert grid_path(Path("out/onnxsd-0001.png")) == Path("out/onnxsd-0001-grid.png")


COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]


@pytest.mark.parametrize(
    ("count", "columns", "size"),
    [
        (1, None, (1, 1)),
        (2, None, (2, 1)),
        (3, None, (2, 2)),
        (4, None, (2, 2)),
        (5, None, (3, 2)),
        (5, 1, (1, 5)),
        (5, 2, (2, 3)),
        (3, 9, (3, 1)),
    ],
)
def test_grids(count: int, columns: int | None, size: tuple[int, int]) -> None:
    sheet = grid([picture(6, 4, colour) for colour in COLOURS[:count]], columns)

    assert sheet.size == (size[0] * 6, size[1] * 4)
    cells = [sheet.getpixel((x * 6 + 5, y * 4 + 3)) for y in range(size[1]) for x in range(size[0])]
    assert cells == COLOURS[:count] + [(0, 0, 0)] * (size[0] * size[1] - count)


@pytest.mark.parametrize(
    ("sizes", "columns", "error"),
    [([], None, UsageError), ([(4, 4)], 0, UsageError), ([(4, 4), (4, 5)], None, ShapeError)],
)
def test_grids_that_cannot_be(
    sizes: list[tuple[int, int]], columns: int | None, error: type[OnnxsdError]
) -> None:
    with pytest.raises(error, match="grid needs"):
        grid([picture(*size) for size in sizes], columns)


def test_pixels_are_scaled_clipped_and_rounded() -> None:
    values = np.array([-3, -1, -0.999, 0, 0.001, 0.5, 1, 7], dtype=np.float32)
    pixels = np.broadcast_to(values, (2, 3, 1, 8)).copy()
    pixels[1] = -pixels[1]
    pixels[0, 2] = -1  # no blue in the first

    first, second = to_images(pixels)

    reds = [first.getpixel((x, 0))[0] for x in range(8)]
    assert reds == [0, 0, 0, 128, 128, 191, 255, 255]  # 0 → 127.5, half to even
    assert all(first.getpixel((x, 0))[2] == 0 for x in range(8))
    assert [second.getpixel((x, 0))[0] for x in range(8)] == [255, 255, 255, 128, 127, 64, 0, 0]


def test_images_keep_their_shape() -> None:
    (image,) = to_images(np.zeros((1, 3, 16, 24), dtype=np.float32))

    assert (image.size, image.mode) == ((24, 16), "RGB")


@pytest.mark.reference
def test_pixels_are_diffusers_pixels() -> None:
    import torch
    from diffusers.image_processor import VaeImageProcessor

    pixels = np.random.default_rng(1).normal(0, 0.7, (2, 3, 64, 40)).astype(np.float32)

    theirs = VaeImageProcessor().postprocess(torch.from_numpy(pixels), output_type="pil")

    for mine, reference in zip(to_images(pixels), theirs, strict=True):
        assert np.array_equal(np.asarray(mine), np.asarray(reference))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_no_number_is_an_error_with_the_component(bad: float) -> None:
    pixels = np.zeros((2, 3, 4, 4), dtype=np.float32)
    pixels[1, 0, 2, 3] = bad

    with pytest.raises(
        VerificationError, match=r"vae_decoder gave \d NaN and \d Inf in image 2 of 48 values"
    ) as e:
        to_images(pixels)
    assert e.value.exit_code == 1


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), (1, 8, 8, 3), (0, 3, 8, 8), (1, 3, 0, 8)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="expected \\(batch, 3, height, width\\)"):
        to_images(np.zeros(shape, dtype=np.float32))
