"""Reading initializers back from an exported folder's data file."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from onnxsd.artifact.manifest import ComponentRecord
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
    stored = {entry.recipe.name: entry for entry in record.initializers}
    with (folder / record.data.path).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for recipe in wanted:
        entry = stored.get(recipe.name)
        if entry is None:
            raise BadInputError(
                f"{folder} has no weight {recipe.name}", hint="export again with this version"
            )
        held = STORED_AS[entry.recipe.dtype]
        flat = np.frombuffer(mapped, held, entry.recipe.elements, entry.offset)
        yield recipe, convert(flat.reshape(entry.recipe.shape), entry.recipe, recipe)
