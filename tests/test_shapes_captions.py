"""Captions of `shapes`: they say what is on the picture, and leave out only what can be taken for granted."""

from __future__ import annotations

import re

import numpy as np
import pytest
from shapes import captions, phrases
from shapes.captions import EVERYTHING, caption, phrase, sample_captioned
from shapes.palette import Colour
from shapes.scene import PLACES, Fill, Position, Relation, Scene, Shape, sample_pair, sample_single
from shapes.ways import Ways, ways


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def says(text: str, table: Ways) -> bool:
    return any(re.search(rf"\b{re.escape(said)}\b", text.lower()) for said in table.texts)


def says_any(text: str, *tables: Ways) -> bool:
    return any(says(text, table) for table in tables)


SAMPLES = [sample_captioned(draw) for draw in (rng(),) for _ in range(4_000)]
SINGLES = [(scene, text) for scene, text in SAMPLES if len(scene.things) == 1]
PAIRS = [(scene, text) for scene, text in SAMPLES if len(scene.things) == 2]


def test_captions_are_of_very_many_phrasings() -> None:
    assert len({text.lower() for _, text in SAMPLES}) > 0.9 * len(SAMPLES)
    assert sum(text == text.lower() for _, text in SAMPLES) / len(SAMPLES) > 0.93
    assert 0.25 < len(PAIRS) / len(SAMPLES) < 0.35


def test_a_striped_object_is_called_so_and_a_plain_one_never() -> None:
    striped = (phrases.FILLS[Fill.STRIPED], phrases.FILLS_BEHIND[Fill.STRIPED])
    for scene, text in SAMPLES:
        assert says_any(text, *striped) == any(thing.fill is Fill.STRIPED for thing in scene.things), text


def test_an_object_whose_place_is_not_named_is_nearly_always_in_the_center() -> None:
    silent = [scene for scene, text in SINGLES if not says_any(text, *phrases.POSITIONS.values())]
    shares = [scene.things[0].position is Position.CENTER for scene in silent]

    assert len(silent) > 500
    assert 0.8 < np.mean(shares) < 0.9


def test_a_place_that_is_named_is_the_right_one() -> None:
    for scene, text in SINGLES:
        for position in Position:
            # "on the left side" holds "on the left", but no place of another position.
            if says(text, phrases.POSITIONS[position]):
                assert scene.things[0].position is position, text


def test_single_attributes_are_captions_too() -> None:
    short = {text for _, text in SINGLES if len(text.split()) == 1}

    assert {"red", "blue", "white"} <= short
    assert short & {"circle", "star", "ring", "square"}
    assert short & {"striped", "stripy", "plain"}


def test_an_article_fits_the_word_behind_it() -> None:
    for _, text in SAMPLES:
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text.lower()), text


def test_no_field_is_left_unfilled() -> None:
    assert not any(re.search(r"[{}]|  |^ | $", text) for _, text in SAMPLES)


def first_named(scene: Scene, text: str) -> int:
    """Which of two objects the text names first, by its colour."""
    starts = [
        min(
            found.start()
            for said in phrases.COLOURS[thing.colour].texts
            if (found := re.search(rf"\b{said}\b", text))
        )
        for thing in scene.things
    ]
    return int(starts[1] < starts[0])


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("left of", "left side of"), Position.LEFT),
        (("right of", "right side of"), Position.RIGHT),
        (("above", "over", "higher than", "on top of"), Position.TOP),
        (("below", "under", "underneath", "beneath"), Position.BOTTOM),
    ],
)
def test_relations_are_true_from_either_side(words: tuple[str, ...], place: Position) -> None:
    draw = rng(1)
    said = 0
    for _ in range(600):
        scene = sample_pair(draw)
        text = phrase(scene, captions.Named(), draw).lower()
        if says(text, ways(dict.fromkeys(words, 1.0))):
            said += 1
            assert scene.things[first_named(scene, text)].position is place, text
    assert said > 20


def test_two_objects_without_a_relation_are_named_from_left_to_right() -> None:
    draw = rng(2)
    said = 0
    for _ in range(600):
        scene = sample_pair(draw)
        text = phrase(scene, captions.Named(), draw).lower()
        if not re.search(r"left|right|above|over|top|high|below|under|beneath|bottom", text):
            said += 1
            assert scene.things[first_named(scene, text)].position is Position.LEFT, text
    assert said > 20


@pytest.mark.parametrize("held_out", [False, True])
def test_naming_everything_names_everything(held_out: bool) -> None:
    draw = rng(3)
    for _ in range(300):
        scene = sample_single(draw, held_out=held_out)
        (thing,) = scene.things
        text = phrase(scene, EVERYTHING, draw)
        for table in (
            phrases.SHAPES[thing.shape],
            phrases.COLOURS[thing.colour],
            phrases.COLOURS[scene.background],
            phrases.SIZES[thing.size],
            phrases.POSITIONS[thing.position],
        ):
            assert says(text, table), text
        assert says_any(text, phrases.FILLS[thing.fill], phrases.FILLS_BEHIND[thing.fill]), text


def test_a_caption_of_a_given_scene_names_stripes_and_an_unusual_place() -> None:
    draw = rng(4)
    for _ in range(300):
        scene = sample_single(draw, fill=Fill.STRIPED, position=Position.TOP)
        text = caption(scene, draw)
        if len(text.split()) > 4:
            assert says(text, phrases.POSITIONS[Position.TOP]), text
            assert says_any(text, phrases.FILLS[Fill.STRIPED], phrases.FILLS_BEHIND[Fill.STRIPED]), text


def test_no_way_of_saying_one_thing_also_says_another() -> None:
    for table in (phrases.SHAPES, phrases.COLOURS, phrases.SIZES, phrases.FILLS, phrases.POSITIONS):
        said = [text for entry in table.values() for text in entry.texts]
        assert len(said) == len(set(said))


def test_each_kind_has_its_words() -> None:
    assert set(phrases.SHAPES) == set(Shape)
    assert set(phrases.COLOURS) == set(Colour)
    assert set(phrases.PAIRS) == set(Relation) == set(PLACES)


def test_ways_are_drawn_by_their_weights() -> None:
    draw, table = rng(), ways({"often": 9, "seldom": 1, "never": 0})
    drawn = [table.draw(draw) for _ in range(2_000)]

    assert drawn.count("never") == 0
    assert drawn.count("seldom") / len(drawn) == pytest.approx(0.1, abs=0.03)
