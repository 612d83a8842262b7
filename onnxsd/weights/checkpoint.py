"""The weights of one component of a checkpoint, over one file or its shards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from onnxsd.errors import WeightsError
from onnxsd.weights.recipe import Recipe
from onnxsd.weights.tensor_file import Array, TensorEntry, TensorFile

# How many names an error lists before it only counts.
LISTED = 5


class WeightSource:
    """A component's tensors by the names that models use today.

    Args:
        paths: the safetensors files, one or all shards.
        rename: what a tensor of an older checkpoint is called today.
        owns: which of the tensors, by today's names, are the component's.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        rename: Callable[[str], str] = str,
        owns: Callable[[str], bool] = bool,
    ) -> None:
        self.paths = tuple(paths)
        self._files = [TensorFile(path) for path in paths]
        self._places = {
            rename(name): (file, name) for file in self._files for name in file.entries if owns(rename(name))
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def entry(self, name: str) -> TensorEntry:
        """Type, shape and place of a tensor."""
        file, stored = self._places[name]
        return file.entries[stored]

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Array]:
        """A view of a tensor, whose pages are let go afterwards."""
        file, stored = self._places[name]
        yield file.read(stored)
        file.release(stored)

    def check(self, recipes: Sequence[Recipe]) -> None:
        """Make sure that the tensors are exactly those that the recipes ask for, in shape too.

        Raises:
            WeightsError: weights are missing, have other shapes, or are left over; each is named.
        """
        wanted = {recipe.source: recipe for recipe in recipes}
        missing = [
            f"{name} {list(recipe.source_shape)}"
            for name, recipe in wanted.items()
            if name not in self._places
        ]
        misfits = [
            f"{name}: expected {list(recipe.source_shape)}, found {list(self.entry(name).shape)}"
            for name, recipe in wanted.items()
            if name in self._places and not _fits(recipe.source_shape, self.entry(name).shape)
        ]
        unused = [f"{name} {list(self.entry(name).shape)}" for name in self if name not in wanted]
        where = ", ".join(str(path) for path in self.paths)
        hint = "is the config.json beside it the one that these weights were trained with?"
        for problem, names in (
            ("weights of another shape", misfits),
            ("missing weights", missing),
            ("unexpected weights", unused),
        ):
            if names:
                raise WeightsError(f"{where}: {problem}: {_listed(names)}", hint=hint)

    def close(self) -> None:
        """Unmap the files."""
        for file in self._files:
            file.close()

    def __enter__(self) -> WeightSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _fits(expected: tuple[int, ...], found: tuple[int, ...]) -> bool:
    """Equal, or a linear layer that an older checkpoint keeps as a 1×1 convolution (the VAE's attention)."""
    return found == expected or (len(expected) == 2 and found == (*expected, 1, 1))


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - LISTED
    return "; ".join(names[:LISTED]) + (f"; and {rest} more" if rest > 0 else "")
