"""The pictures and captions that training sees: scenes, how they are looked at, and their tokens."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from shapes.captions import sample_captioned
from shapes.packing import pack
from shapes.render import render
from shapes.vocabulary import token_ids

Array = npt.NDArray[Any]

CHUNK = 4096  # scenes that one worker makes with one random generator
LARGEST_SHIFT = 48  # pixels that a crop hides at the top or the left


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Pictures of one size, and their share of the training."""

    height: int
    width: int
    share: float


BUCKETS = (
    Bucket(height=128, width=128, share=0.60),
    Bucket(height=96, width=96, share=0.06),
    Bucket(height=160, width=160, share=0.05),
    Bucket(height=192, width=192, share=0.05),
    Bucket(height=96, width=128, share=0.04),
    Bucket(height=128, width=96, share=0.04),
    Bucket(height=128, width=192, share=0.04),
    Bucket(height=192, width=128, share=0.04),
    Bucket(height=96, width=160, share=0.04),
    Bucket(height=160, width=96, share=0.04),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Captioned scenes of one bucket as tensors on one device, one row each.

    scenes: what `render` draws; tokens: (N, 77) int16, padded with the end token; time_ids: (N, 6) as SDXL
    orders them; softness (N,), offset (N, 2) and canvas (N, 2): how the picture is looked at.
    """

    bucket: Bucket
    scenes: torch.Tensor
    tokens: torch.Tensor
    time_ids: torch.Tensor
    softness: torch.Tensor
    offset: torch.Tensor
    canvas: torch.Tensor

    def pictures(self, rows: torch.Tensor) -> torch.Tensor:
        """The pictures of some rows, (B, 3, H, W) float32 in -1…1."""
        drawn = render(
            self.scenes[rows],
            height=self.bucket.height,
            width=self.bucket.width,
            softness=self.softness[rows],
            offset=self.offset[rows],
            canvas=self.canvas[rows],
        )
        return drawn * 2 - 1

    def __len__(self) -> int:
        return len(self.scenes)


def make_pools(
    wanted: Sequence[tuple[Bucket, int]], *, seed: int, device: torch.device, workers: int
) -> tuple[Pool, ...]:
    """A pool of so many scenes for each bucket, the same for the same seed whatever the workers.

    To be called before torch computes anything: the workers are forked.
    """
    jobs = [
        (seed, number, first, min(CHUNK, count - first), bucket)
        for number, (bucket, count) in enumerate(wanted)
        for first in range(0, count, CHUNK)
    ]
    if workers > 1:
        with multiprocessing.get_context("fork").Pool(workers) as processes:
            made = processes.starmap(_chunk, jobs, chunksize=1)
    else:
        made = [_chunk(*job) for job in jobs]
    return tuple(
        pool_of(
            bucket, _joined([rows for job, rows in zip(jobs, made, strict=True) if job[1] == number]), device
        )
        for number, (bucket, _) in enumerate(wanted)
    )


def shared_out(buckets: Sequence[Bucket], pictures: int) -> list[tuple[Bucket, int]]:
    """How many of the pictures each bucket gets."""
    return [(bucket, max(1, round(pictures * bucket.share))) for bucket in buckets]


def pool_of(bucket: Bucket, columns: Mapping[str, Array], device: torch.device) -> Pool:
    """The pool whose columns, by their names in `Pool`, are these."""
    tensors = {name: torch.from_numpy(value).to(device) for name, value in columns.items()}
    return Pool(bucket=bucket, **tensors)


def views(bucket: Bucket, offset: Array, beyond: Array, scale: Array) -> dict[str, Array]:
    """Columns of a pool: how pictures are looked at, with the micro-conditions that say so.

    offset: (N, 2), pixels of the canvas above and left of the picture; beyond: (N, 2), by how much the canvas
    is larger, where that is more than the offset; scale: (N,), the original's size where the canvas's is 1.
    """
    size = np.array([bucket.height, bucket.width], np.float32)
    canvas = size + np.maximum(offset, beyond)
    original = np.round(canvas * scale[:, None])
    ids = np.concatenate([original, offset, np.broadcast_to(size, offset.shape)], axis=1)
    return {
        "time_ids": ids.astype(np.float32),
        "softness": (1 / scale).astype(np.float32),
        "offset": offset.astype(np.float32),
        "canvas": canvas.astype(np.float32),
    }


def _joined(chunks: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _chunk(seed: int, number: int, first: int, count: int, bucket: Bucket) -> dict[str, Array]:
    rng = np.random.default_rng([seed, number, first])
    pairs = [sample_captioned(rng) for _ in range(count)]
    return {
        "scenes": pack([scene for scene, _ in pairs], rng),
        "tokens": token_ids([text for _, text in pairs]).astype(np.int16),
        **_random_views(rng, count, bucket),
    }


def _random_views(rng: np.random.Generator, count: int, bucket: Bucket) -> dict[str, Array]:
    """A quarter is cropped, three in ten were smaller.

    A crop is a window of a larger canvas whose top left corner is not the canvas's: what SDXL calls the
    crop's coordinates. A smaller original's edges are soft when it is enlarged.
    """
    cropped = rng.random(count) < 0.25
    offset = rng.integers(0, LARGEST_SHIFT + 1, (count, 2)) * cropped[:, None]
    beyond = rng.integers(0, LARGEST_SHIFT + 1, (count, 2)) * (offset > 0)
    scale = np.where(rng.random(count) < 0.3, rng.uniform(0.25, 1.0, count), 1.0)
    return views(bucket, offset, beyond, scale)
