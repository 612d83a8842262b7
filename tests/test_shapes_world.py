"""The world of `shapes`: what its scenes hold, how they look, what captions say, which tokens they become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shapes import captions, packing, scene, vocabulary
from shapes.palette import BASE, STRIPE, Colour
from shapes.scene import Fill, Position, Relation, Scene, Shape, Size, Thing

from onnxsd.prompt.tokenizer import Tokenizer
from onnxsd.prompt.vocabulary import END


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def looks(seen: Scene) -> list[scene.Look]:
    return [(thing.shape, thing.colour, seen.background) for thing in seen.things]


def single(
    shape: Shape = Shape.CIRCLE,
    colour: Colour = Colour.RED,
    *,
    fill: Fill = Fill.PLAIN,
    position: Position = Position.CENTER,
) -> Scene:
    thing = Thing(shape=shape, colour=colour, size=Size.LARGE, fill=fill, position=position)
    return Scene(background=Colour.WHITE, things=(thing,), relation=None)


def test_no_training_scene_holds_a_held_out_combination() -> None:
    draw = rng()
    scenes = [scene.sample_scene(draw, pairs=0.5) for _ in range(2_000)]
    scenes += [captions.sample_captioned(draw)[0] for _ in range(2_000)]

    assert not any(scene.is_held_out(*look) for seen in scenes for look in looks(seen))


def test_each_held_out_scene_holds_such_a_combination() -> None:
    draw = rng()
    scenes = [scene.sample_scene(draw, pairs=0.5, held_out=True) for _ in range(1_000)]

    assert all(any(scene.is_held_out(*look) for look in looks(seen)) for seen in scenes)


def test_training_shows_every_shape_colour_background_and_size_often() -> None:
    draw = rng()
    scenes = [captions.sample_captioned(draw)[0] for _ in range(4_000)]
    things = [thing for seen in scenes for thing in seen.things]

    for kinds, found in (
        (Shape, [thing.shape for thing in things]),
        (Colour, [thing.colour for thing in things]),
        (Colour, [seen.background for seen in scenes]),
        (Size, [thing.size for thing in things]),
        (Position, [thing.position for thing in things]),
        (Fill, [thing.fill for thing in things]),
        (Relation, [seen.relation for seen in scenes if seen.relation]),
    ):
        shares = [found.count(kind) / len(found) for kind in kinds]
        assert min(shares) > 0.5 / len(kinds) * 0.7, kinds


def test_two_objects_differ_from_each_other_and_from_the_background() -> None:
    draw = rng()
    for seen in (scene.sample_pair(draw, held_out=index % 2 == 0) for index in range(1_000)):
        first, second = seen.things
        assert first.shape is not second.shape
        assert len({first.colour, second.colour, seen.background}) == 3
        assert seen.relation is not None
        assert (first.position, second.position) == scene.PLACES[seen.relation]


def test_the_same_seed_draws_the_same_scenes_and_captions() -> None:
    first, second = ([captions.sample_captioned(draw) for _ in range(50)] for draw in (rng(7), rng(7)))

    assert first == second


def test_all_sixteen_colours_are_well_apart() -> None:
    colours = np.array([*BASE.values(), *STRIPE.values()], dtype=float)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=2)

    assert apart[~np.eye(len(colours), dtype=bool)].min() >= 60


def test_packing_jitters_little_and_keeps_a_plain_object_plain() -> None:
    scenes = [single(), single(fill=Fill.STRIPED)] * 200
    exact, packed = packing.exact(scenes), packing.pack(scenes, rng())
    thing = packed[:, packing.BACKGROUND_COLUMNS :]

    assert packed.shape == (400, packing.PARAMETERS)
    assert packed.dtype == np.float32
    assert np.abs(thing[:, packing.X] - 0.5).max() <= packing.CENTER_JITTER + 1e-6
    assert np.unique(thing[:, packing.X]).size > 300
    base, shade = (thing[:, at : at + 3] for at in (packing.RGB, packing.SHADE))
    assert (base[::2] == shade[::2]).all()
    assert np.abs(base - exact[:, 3 + packing.RGB : 6 + packing.RGB]).max() <= packing.COLOUR_JITTER + 1e-6
    assert (np.abs(base - shade)[1::2].max(axis=1) > 0.1).all()


def test_every_word_of_a_caption_is_one_token() -> None:
    draw = rng()
    known = set(vocabulary.words().split())
    said = [captions.sample_captioned(draw)[1] for _ in range(2_000)]
    counts = (vocabulary.token_ids(vocabulary.words().split()) != vocabulary.token_ids([""])[0, 1]).sum(
        axis=1
    )

    assert {word.strip(",.:").lower() for text in said for word in text.split()} <= known
    assert (counts == 2).all()  # start and the word


@pytest.mark.parametrize("name", list(vocabulary.PAD_TOKENS))
def test_token_ids_are_those_of_the_tokenizer(name: str, tmp_path: Path) -> None:
    draw = rng()
    texts = [captions.sample_captioned(draw)[1] for _ in range(300)]
    texts += ["", "  A  pink\tunicorn's horn!! ", "é ünïcode 红色 <|endoftext|> red", "red " * 200]
    vocabulary.write_tokenizers(tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path / name)

    expected = [tokens.ids for tokens in tokenizer.encode_batch(texts)]

    found = vocabulary.token_ids(texts, pad_token=vocabulary.PAD_TOKENS[name])
    assert found.tolist() == [list(ids) for ids in expected]
    assert tokenizer.vocab_size == vocabulary.vocab_size() <= 1_000
    assert tokenizer.pad_id == (tokenizer.end_id if vocabulary.PAD_TOKENS[name] == END else 0)
