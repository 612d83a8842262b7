"""Reading initializers back from an exported folder's data file."""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from onnxsd.artifact.manifest import ComponentRecord, InitializerRecord
from onnxsd.errors import BadInputError
from onnxsd.weights.recipe import Recipe
from onnxsd.weights.tensor_file import STORED_AS, Array
from onnxsd.weights.transform import convert


def initializers(
    folder: Path, record: ComponentRecord, wanted: Iterable[Recipe]
) -> Iterator[tuple[Recipe, Array]]:
    """Each wanted initializer in turn, converted from what the folder holds; else a view of the file.

    Raises:
        BadInputError: the folder has no such weight.
    """
    for recipe, read in readers(folder, record, wanted):
        yield recipe, read()


def readers(
    folder: Path, record: ComponentRecord, wanted: Iterable[Recipe]
) -> list[tuple[Recipe, Callable[[], Array]]]:
    """The wanted initializers as functions that read one each, from any thread.

    Raises:
        BadInputError: the folder has no such weight.
    """
    stored = {entry.recipe.name: entry for entry in record.initializers}
    with (folder / record.data.path).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    found: list[tuple[Recipe, Callable[[], Array]]] = []
    for recipe in wanted:
        # What has something folded into it is made of what is stored of its tensor.
        entry = stored.get(recipe.stored.name)
        if entry is None:
            raise BadInputError(
                f"{folder} has no weight {recipe.stored.name}", hint="export again with this version"
            )
        found.append((recipe, functools.partial(_read, mapped, entry, recipe)))
    return found


def _read(mapped: mmap.mmap, entry: InitializerRecord, recipe: Recipe) -> Array:
    held = STORED_AS[entry.recipe.dtype]
    flat = np.frombuffer(mapped, held, entry.recipe.elements, entry.offset)
    return convert(flat.reshape(entry.recipe.shape), entry.recipe, recipe)
