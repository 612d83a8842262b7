"""The fixed list of prompts that a model is scored on, each with the scene that it asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shapes.captions import Named, phrase
from shapes.palette import Colour
from shapes.scene import Fill, Scene, Shape, sample_pair, sample_single

EVERY = 3  # one case of so many is of a combination that the training never showed


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A prompt, the seed of its picture, and what the picture must show."""

    prompt: str
    seed: int
    scene: Scene
    held_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A prompt that leaves the colour open."""

    prompt: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """Prompts of one object, which name everything that is scored, and of two objects.

    colourless: prompts that leave the colour open, to see what a negative prompt takes away.
    """

    singles: tuple[Case, ...]
    pairs: tuple[Case, ...]
    colourless: tuple[Open, ...]


def make_cases(*, singles: int = 300, pairs: int = 100, colourless: int = 48, seed: int = 0) -> Cases:
    """The prompts of a seed; their pictures' seeds count up from 0."""
    rng = np.random.default_rng(seed)
    return Cases(
        singles=tuple(_single(rng, index) for index in range(singles)),
        pairs=tuple(_pair(rng, index) for index in range(pairs)),
        colourless=tuple(_colourless(index) for index in range(colourless)),
    )


def _single(rng: np.random.Generator, index: int) -> Case:
    held_out = index % EVERY == 0
    scene = sample_single(rng, held_out=held_out)
    named = Named(
        shape=True,
        colour=True,
        size=bool(rng.random() < 0.5),
        fill=scene.things[0].fill is Fill.STRIPED or bool(rng.random() < 0.1),
        position=True,
        background=True,
    )
    return Case(prompt=phrase(scene, named, rng), seed=index, scene=scene, held_out=held_out)


def _pair(rng: np.random.Generator, index: int) -> Case:
    held_out = index % EVERY == 0
    scene = sample_pair(rng, held_out=held_out)
    return Case(prompt=phrase(scene, Named(background=True), rng), seed=index, scene=scene, held_out=held_out)


def _colourless(index: int) -> Open:
    """Each shape in turn, on white and on black."""
    shapes = tuple(Shape)
    background = Colour.WHITE if index % 2 else Colour.BLACK
    shape = shapes[index // 2 % len(shapes)]
    return Open(prompt=f"a {shape.value} on a {background.value} background", seed=index)
