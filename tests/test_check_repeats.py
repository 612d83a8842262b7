"""An image that is another one the next time is found, wherever it comes from; on a CPU ours never is."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from checkpoints import SDXL, Workshop
from determinism.pictures import Digest, Painter, Picture, Size
from determinism.repeats import SEED, Row, as_text, compared, in_one_engine, of_digests
from fake_cuda import FakeCuda
from host_gpu import OWN, pipeline_over
from PIL import Image

from onnxsd.tensors import DType

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_repeats.py"
SQUARE = (64, 64)


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What the script prints and exits with."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def drawn(seed: int, size: Size = SQUARE, latents_by: float = 0.0, levels: int = 0) -> Picture:
    """A picture of a seed, off by so much in one place."""
    random = np.random.default_rng((seed, *size))
    latents = random.standard_normal((4, size[1] // 8, size[0] // 8), np.float32)
    pixels = random.integers(0, 200, (size[1], size[0], 3), np.uint8)
    latents[0, 0, 0] += latents_by * np.linalg.norm(latents)
    pixels[0, 0, 0] += levels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return Picture(latents=latents, pixels=pixels, png=file.getvalue())


class FakePaint:
    """Draws, but off in one place after so many calls, after another size, or in company."""

    def __init__(
        self, *, after_calls: int = 10**9, after_a_size: bool = False, in_company: bool = False
    ) -> None:
        self.calls = 0
        self.sizes: set[Size] = set()
        self._after_calls, self._after_a_size, self._in_company = after_calls, after_a_size, in_company

    def __call__(self, seeds: Sequence[int], size: Size) -> tuple[Picture, ...]:
        self.calls += 1
        self.sizes.add(size)
        off = (
            self.calls > self._after_calls
            or (self._after_a_size and len(self.sizes) > 1)
            or (self._in_company and len(seeds) > 1)
        )
        return tuple(drawn(seed, size, 1e-3 * off, 2 * off) for seed in seeds)


def rows_of(paint: FakePaint, images: int = 3) -> dict[str, Row]:
    return {row.what: row for row in in_one_engine(paint, drawn(SEED), SQUARE, images)}


def unsound(rows: dict[str, Row]) -> list[str]:
    return [what for what, row in rows.items() if not row.sound]


def test_one_that_never_changes_is_sound() -> None:
    paint = FakePaint()
    rows = rows_of(paint)

    assert unsound(rows) == []
    assert [row.images for row in rows.values()] == [3, 4, 2, 2]
    # Three alone; two batches in two orders, and the image after each; two sizes, and the image after each.
    assert paint.calls == 3 + 2 * 3 + 2 * 2
    assert paint.sizes == {(64, 64), (32, 32), (64, 32)}


def test_a_change_in_one_session_is_found_and_measured() -> None:
    rows = rows_of(FakePaint(after_calls=1))
    row = rows["again in one session"]

    assert unsound(rows) == ["again in one session", "after other batches and sizes"]
    assert (row.images, row.latents, row.png, row.levels) == (3, 2, 2, 2)
    assert row.latents_by == pytest.approx(1e-3, rel=1e-2)
    assert as_text([row]).splitlines()[-1] == (
        "| again in one session | 3 | 2 of 3 differ, by up to 1.0e-03 | 2 of 3 differ, by up to 2 of 255 |"
    )


def test_a_change_after_another_size_is_found() -> None:
    assert unsound(rows_of(FakePaint(after_a_size=True))) == ["after other batches and sizes"]


def test_what_company_changes_is_told_and_not_judged() -> None:
    rows = rows_of(FakePaint(in_company=True))
    row = rows["in a batch of 4, first and last (not judged)"]

    assert unsound(rows) == []
    assert (row.latents, row.png) == (2, 2)
    assert "2 of 2 differ" in as_text([row])


def test_a_difference_in_latents_or_in_the_file_alone_is_found() -> None:
    for other in (drawn(SEED, latents_by=1e-6), drawn(SEED, levels=1)):
        assert not compared("another", drawn(SEED), [drawn(SEED), other]).sound
    first = drawn(SEED).digest
    for digest in (Digest(latents="0", png=first.png), Digest(latents=first.latents, png="0")):
        row = of_digests("elsewhere", first, [first, digest])
        assert not row.sound
        assert "1 of 2 differ |" in as_text([row])
    assert of_digests("elsewhere", first, [first]).sound


def test_a_pipeline_on_a_cpu_repeats_itself(workshop: Workshop) -> None:
    folder = workshop.export(SDXL, precision=DType.FLOAT16).path
    done = check(folder, "--size", "64", "--steps", "2", "--images", "2", "--provider", "cpu")

    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("kernels: stock (")
    assert "| again in one session | 2 | the same | the same |" in lines
    assert "| in a second engine, and in turn | 3 | the same | the same |" in lines
    assert "| in fresh processes | 2 | the same | the same |" in lines
    assert re.search(r"^PNG     sha256 [0-9a-f]{64}$", done.stdout, re.MULTILINE)


def test_what_is_painted_is_what_a_pipeline_makes(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two halves of a call are the call, here through a GPU's worker."""
    pipeline = pipeline_over(FakeCuda(), workshop.export(precision=DType.FLOAT16), monkeypatch, kernels=OWN)
    pictures = Painter(pipeline, steps=2).paint([3, 4], (64, 72))
    options = {"width": 64, "height": 72, "num_inference_steps": 2, "seed": [3, 4]}
    made = [
        pipeline("a lighthouse in a storm", num_images_per_prompt=2, output_type=kind, **options).images
        for kind in ("latent", "pil")
    ]

    for picture, latents, image in zip(pictures, *made, strict=True):
        np.testing.assert_array_equal(picture.latents, latents)
        np.testing.assert_array_equal(picture.pixels, np.asarray(image))
        with Image.open(io.BytesIO(picture.png)) as read:
            np.testing.assert_array_equal(picture.pixels, np.asarray(read))
        assert picture.digest.png == hashlib.sha256(picture.png).hexdigest()


def test_an_error_is_one_line_and_its_exit_code(workshop: Workshop, tmp_path: Path) -> None:
    demanded = check(workshop.export(precision=DType.FLOAT16).path, "--provider", "cpu", "--own-kernels")

    assert demanded.returncode == 1
    assert demanded.stderr.startswith("error: own kernels were asked for, but ")
    assert check(tmp_path / "nothing", "--provider", "cpu").returncode == 3
    assert check(tmp_path, "--images", "0").returncode == 2
