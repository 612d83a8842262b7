"""Writing initializers one after another into a data file, each once, with the file's hash."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from onnxsd.errors import WeightsError
from onnxsd.tensors import aligned
from onnxsd.weights.checkpoint import WeightSource
from onnxsd.weights.recipe import Recipe
from onnxsd.weights.tensor_file import Array
from onnxsd.weights.transform import NO_LOSS, CastLoss, carry_out


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A data file that was written: where each initializer starts, and what the casts lost."""

    offsets: Mapping[str, int]
    size_bytes: int
    sha256: str
    losses: Mapping[str, CastLoss]

    @property
    def loss(self) -> CastLoss:
        """What all casts together lost."""
        return sum(self.losses.values(), NO_LOSS)


def layout(recipes: Sequence[Recipe]) -> tuple[dict[str, int], int]:
    """Where each initializer starts in the data file, and the file's size in bytes.

    Each begins aligned, and not at a page: that would cost a small model more than its weights.
    """
    offsets, end = {}, 0
    for recipe in recipes:
        offsets[recipe.name] = aligned(end)
        end = offsets[recipe.name] + recipe.size_bytes
    return offsets, end


def write(
    path: Path,
    recipes: Sequence[Recipe],
    source: WeightSource,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> DataFile:
    """Write every initializer to `path`, reading, casting and writing one tensor at a time.

    Args:
        path: the data file, which must not exist.
        recipes: what to write, in this order.
        source: the checkpoint's tensors, which fit the recipes.
        progress: is told the bytes of each initializer once it is written.

    Raises:
        WeightsError: something is to be folded into one, which is done only when weights are loaded.
    """
    if folded := [recipe.name for recipe in recipes if recipe.fold is not None]:
        raise WeightsError(
            f"weights are written as they are, but something is folded into {', '.join(folded)}",
            hint="write the weights of a graph in stock operators",
        )
    offsets, size = layout(recipes)
    losses: dict[str, CastLoss] = {}
    with path.open("xb") as file, _Writer(file) as writer:
        for recipe, array, loss in _made(recipes, source):
            writer.write(offsets[recipe.name], array)
            if loss != NO_LOSS:
                losses[recipe.name] = loss
            progress(recipe.size_bytes)
    return DataFile(offsets=offsets, size_bytes=size, sha256=writer.sha256, losses=losses)


def _made(recipes: Sequence[Recipe], source: WeightSource) -> Iterator[tuple[Recipe, Array, CastLoss]]:
    for recipe in recipes:
        with source.reading(recipe.source) as array:
            made, loss = carry_out(recipe, array, source.entry(recipe.source).dtype)
            # What is a view of the mapped file must be copied before its pages go.
            made = made.copy() if np.may_share_memory(made, array) else made
            del array
        yield recipe, made, loss


class _Writer:
    """Pads to each offset, and hashes in a second thread while the disk writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = 0
        self._hash = hashlib.sha256()
        # Two waiting tensors bound the memory; hashlib lets go of the interpreter lock.
        self._queue: queue.Queue[bytes | memoryview | None] = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._digest, daemon=True)
        self.sha256 = ""

    def write(self, offset: int, array: Array) -> None:
        padding = bytes(offset - self._end)
        content = array.reshape(-1).view(np.uint8).data
        self._queue.put(padding)
        self._queue.put(content)
        self._file.write(padding)
        self._file.write(content)
        self._end = offset + len(content)

    def _digest(self) -> None:
        while (piece := self._queue.get()) is not None:
            self._hash.update(piece)

    def __enter__(self) -> _Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        self.sha256 = self._hash.hexdigest()
