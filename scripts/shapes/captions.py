"""What a person might type for a scene: one of very many phrasings, drawn by lot from the tables of phrases.

Whatever a caption leaves out must be learnable, so it is decided first what is named and then what the
picture shows: an unnamed fill is plain, an unnamed place nearly always the center, the rest may be anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from shapes import phrases
from shapes.scene import (
    Fill,
    Position,
    Relation,
    Scene,
    Thing,
    pick,
    sample_pair,
    sample_single,
)

PAIR_SHARE = 0.3
SHORT_SHARE = 0.05  # "red", "on the left": a single attribute, so that negative prompts mean something
UNNAMED_CENTER_SHARE = 0.85
STRIPED_SHARE = 0.65  # of the fills that are named
CAPITAL_SHARE = 0.05

_OFF_CENTER = tuple(place for place in Position if place is not Position.CENTER)
_CONVERSE = {
    Relation.LEFT_OF: Relation.RIGHT_OF,
    Relation.RIGHT_OF: Relation.LEFT_OF,
    Relation.ABOVE: Relation.BELOW,
    Relation.BELOW: Relation.ABOVE,
}
_BEFORE_VOWEL = re.compile(r"\ba (?=[aeiou])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Which attributes a caption tells."""

    shape: bool = False
    colour: bool = False
    size: bool = False
    fill: bool = False
    position: bool = False
    background: bool = False


EVERYTHING = Named(shape=True, colour=True, size=True, fill=True, position=True, background=True)
# One attribute by lot, those that say most more often.
ALONE = (
    *(Named(colour=True),) * 4,
    *(Named(shape=True),) * 4,
    *(Named(background=True),) * 3,
    *(Named(fill=True),) * 2,
    *(Named(position=True),) * 2,
    Named(size=True),
)


def sample_captioned(rng: np.random.Generator, *, pairs: float = PAIR_SHARE) -> tuple[Scene, str]:
    """A scene by lot, never of a held-out combination, and a caption of it."""
    if rng.random() < pairs:
        scene = sample_pair(rng)
        return scene, _finished(_pair(scene, rng, background=rng.random() < 0.8), rng)
    named = _named(rng)
    scene = sample_single(rng, fill=_fill(named, rng), position=_position(named, rng))
    return scene, phrase(scene, named, rng)


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A caption of a scene that is given; it names what would else be taken for granted."""
    if len(scene.things) == 2:
        return _finished(_pair(scene, rng, background=rng.random() < 0.8), rng)
    thing = scene.things[0]
    named = _named(rng)
    return phrase(
        scene,
        Named(
            shape=named.shape,
            colour=named.colour,
            size=named.size,
            fill=named.fill or thing.fill is Fill.STRIPED,
            position=named.position or thing.position is not Position.CENTER,
            background=named.background,
        ),
        rng,
    )


def phrase(scene: Scene, named: Named, rng: np.random.Generator) -> str:
    """A caption that tells just these attributes; of two objects always colour, shape and relation."""
    if len(scene.things) == 2:
        return _finished(_pair(scene, rng, background=named.background), rng)
    thing = scene.things[0]
    if named in ALONE:
        return _alone(scene, thing, named, rng)
    what = _object(thing, named, rng)
    place = phrases.POSITIONS[thing.position].draw(rng) if named.position else ""
    return _finished(_sentence(what, place, scene, rng, background=named.background), rng)


def _named(rng: np.random.Generator) -> Named:
    """What a caption of one object tells, by lot."""
    if rng.random() < SHORT_SHARE:
        return pick(rng, ALONE)
    shape, colour, size, fill, position, background = rng.random(6)
    return Named(
        shape=bool(shape < 0.95),
        colour=bool(colour < 0.92),
        size=bool(size < 0.45),
        fill=bool(fill < 0.4),
        position=bool(position < 0.5),
        background=bool(background < 0.78),
    )


def _fill(named: Named, rng: np.random.Generator) -> Fill:
    striped = named.fill and rng.random() < STRIPED_SHARE
    return Fill.STRIPED if striped else Fill.PLAIN


def _position(named: Named, rng: np.random.Generator) -> Position | None:
    """Where the object must be; None means anywhere."""
    if named.position:
        return None
    return Position.CENTER if rng.random() < UNNAMED_CENTER_SHARE else pick(rng, _OFF_CENTER)


def _pair(scene: Scene, rng: np.random.Generator, *, background: bool) -> str:
    """The sentence for two objects, said from either of them."""
    first, second = (
        _object(
            thing,
            Named(
                shape=True,
                colour=True,
                size=bool(rng.random() < 0.3),
                fill=thing.fill is Fill.STRIPED or bool(rng.random() < 0.05),
            ),
            rng,
        )
        for thing in scene.things
    )
    relation = scene.relation
    assert relation is not None  # a scene of two objects has one
    if rng.random() < 0.5:
        first, second, relation = second, first, _CONVERSE[relation]
    what = phrases.PAIRS[relation].draw(rng).format(a=first, b=second)
    return _sentence(what, "", scene, rng, background=background)


def _object(thing: Thing, named: Named, rng: np.random.Generator) -> str:
    """One object: "a large red circle", "circle, red, large", "red circle with stripes"."""
    noun = phrases.SHAPES[thing.shape].draw(rng) if named.shape else phrases.ANY_SHAPE.draw(rng)
    behind = named.fill and rng.random() < phrases.FILL_BEHIND_SHARE
    words = []
    if named.size:
        words.append(phrases.SIZES[thing.size].draw(rng))
    if named.fill and not behind:
        words.append(phrases.FILLS[thing.fill].draw(rng))
    if named.colour:
        words.append(phrases.COLOURS[thing.colour].draw(rng))
    if len(words) > 1 and rng.random() < 0.3:  # else size, fill, colour, as people say it
        words = [words[int(index)] for index in rng.permutation(len(words))]
    form = phrases.OBJECTS.draw(rng) if words else "{noun}"
    text = form.format(words=" ".join(words), noun=noun, listed=", ".join(words), joined=" and ".join(words))
    if behind:
        text += " " + phrases.FILLS_BEHIND[thing.fill].draw(rng)
    return phrases.ARTICLES.draw(rng) + text


def _sentence(what: str, place: str, scene: Scene, rng: np.random.Generator, *, background: bool) -> str:
    colour = phrases.COLOURS[scene.background].draw(rng) if background else ""
    form = phrases.SENTENCES[background, bool(place)].draw(rng)
    return form.format(
        what=what,
        place=place,
        on=phrases.BACKGROUNDS.draw(rng).format(colour=colour),
        behind=phrases.BACKGROUNDS_APART.draw(rng).format(colour=colour),
    )


def _alone(scene: Scene, thing: Thing, named: Named, rng: np.random.Generator) -> str:
    """A single attribute: "red", "a star", "striped", "on the left", "white background"."""
    if named.colour:
        return phrases.COLOURS[thing.colour].draw(rng)
    if named.shape:
        return _mended(phrases.ARTICLES.draw(rng) + phrases.SHAPES[thing.shape].draw(rng))
    if named.fill:
        table = phrases.FILLS if rng.random() < 0.7 else phrases.FILLS_BEHIND
        return table[thing.fill].draw(rng)
    if named.position:
        return phrases.POSITIONS[thing.position].draw(rng)
    if named.size:
        return phrases.SIZES[thing.size].draw(rng)
    colour = phrases.COLOURS[scene.background].draw(rng)
    return _mended(phrases.BACKGROUNDS_APART.draw(rng).format(colour=colour))


def _finished(sentence: str, rng: np.random.Generator) -> str:
    text = _mended(phrases.OPENINGS.draw(rng) + sentence + phrases.CLOSINGS.draw(rng))
    return text.capitalize() if rng.random() < CAPITAL_SHARE else text


def _mended(text: str) -> str:
    return _BEFORE_VOWEL.sub("an ", text)
