"""Is one seed one image? What is made again, under what circumstances, and the table of what came out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from determinism.pictures import Digest, Picture, Size

SEED = 7
BATCHES = (2, 4)
TITLES = ("one seed", "images", "latents", "PNG")


class Paint(Protocol):
    """Images of one prompt, one for each seed, in one batch."""

    def __call__(self, seeds: Sequence[int], size: Size) -> tuple[Picture, ...]:
        """The size is width and height in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Images of one seed that were made in one way, against the first of all.

    latents, png: how many differ from it in these. latents_by is the largest relative difference, by the
    norm, and levels the largest of a pixel, of 255; None where nothing but hashes is known. stated rows are
    told and not judged.
    """

    what: str
    images: int
    latents: int
    png: int
    latents_by: float | None = None
    levels: int | None = None
    stated: bool = False

    @property
    def sound(self) -> bool:
        """Whether nothing differs that must not."""
        return self.stated or not (self.latents or self.png)


def compared(what: str, first: Picture, others: Iterable[Picture], *, stated: bool = False) -> Row:
    """The row of images that are here; each is looked at and let go."""
    images = latents = png = levels = 0
    apart = 0.0
    for other in others:
        images += 1
        latents += other.digest.latents != first.digest.latents
        png += other.digest.png != first.digest.png
        apart = max(apart, _relative(other, first))
        levels = max(levels, int(np.abs(other.pixels.astype(int) - first.pixels).max()))
    return Row(
        what=what, images=images, latents=latents, png=png, latents_by=apart, levels=levels, stated=stated
    )


def of_digests(what: str, first: Digest, others: Sequence[Digest]) -> Row:
    """The row of images that were made elsewhere."""
    return Row(
        what=what,
        images=len(others),
        latents=sum(other.latents != first.latents for other in others),
        png=sum(other.png != first.png for other in others),
    )


def in_one_engine(paint: Paint, first: Picture, size: Size, images: int) -> Iterator[Row]:
    """The image again and again; then after each of other batches and sizes; then within batches."""
    yield compared("again in one session", first, (_alone(paint, size) for _ in range(images)))
    batched: dict[int, tuple[Picture, ...]] = {}
    between: list[Picture] = []
    for batch in BATCHES:
        # The image stands first, and among others.
        batched[batch] = (
            paint([SEED + place for place in range(batch)], size)[0],
            paint([SEED + batch - 1 - place for place in range(batch)], size)[-1],
        )
        between.append(_alone(paint, size))
    for other in other_sizes(size):
        paint([SEED], other)
        between.append(_alone(paint, size))
    yield compared("after other batches and sizes", first, between)
    for batch, pictures in batched.items():
        yield compared(f"in a batch of {batch}, first and last (not judged)", first, pictures, stated=True)


def other_sizes(size: Size) -> tuple[Size, ...]:
    """A smaller one, and one of another shape; multiples of 8."""
    width, height = (max(16, side // 16 * 8) for side in size)
    return (width, height), (size[0], height)


def _alone(paint: Paint, size: Size) -> Picture:
    (picture,) = paint([SEED], size)
    return picture


def _relative(found: Picture, exact: Picture) -> float:
    left, right = (picture.latents.astype(np.float64) for picture in (found, exact))
    return float(np.linalg.norm(left - right) / np.linalg.norm(right))


def as_text(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = [f"| {' | '.join(TITLES)} |", "|---" * len(TITLES) + "|"]
    for row in rows:
        latents = _cell(row.latents, row.images, None if row.latents_by is None else f"{row.latents_by:.1e}")
        png = _cell(row.png, row.images, None if row.levels is None else f"{row.levels} of 255")
        lines.append(f"| {row.what} | {row.images} | {latents} | {png} |")
    return "\n".join(lines)


def _cell(differ: int, images: int, most: str | None) -> str:
    if not differ:
        return "the same"
    return f"{differ} of {images} differ" + (f", by up to {most}" if most is not None else "")
