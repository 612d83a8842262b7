"""How well a model draws what it is asked for: figures from a painter's pictures, as the judge sees them.

A painter is any function from prompts to pictures: a pipeline of onnxsd, of diffusers, or one in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shapes.cases import Case, Cases
from shapes.figures import Figure, share
from shapes.guidance import guidance_effect
from shapes.judge import Judgement, Seen, judge
from shapes.negatives import negative_effect
from shapes.painter import Painter, Picture, painted
from shapes.scene import Thing

GUIDANCE = 5.0
UNGUIDED = 1.0
UNGUIDED_CASES = 100  # of one object, beside all pairs; each costs a picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a picture got right; of a pair, of both objects."""

    shape: bool
    colour: bool
    background: bool
    position: bool
    count: bool

    @property
    def all(self) -> bool:
        """Whether nothing is wrong."""
        return self.shape and self.colour and self.background and self.position and self.count

    def wrong(self) -> tuple[str, ...]:
        """The names of what is wrong."""
        return tuple(name for name in self.__slots__ if not getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What was counted, and the pictures it was counted on."""

    figures: tuple[Figure, ...]
    pictures: tuple[Picture, ...]

    @property
    def passed(self) -> bool:
        """Whether every figure that has a bar reaches it."""
        return all(figure.passed for figure in self.figures)


def evaluate(paint: Painter, cases: Cases, report: Callable[[str], None] = lambda text: None) -> Scores:
    """Every figure that needs pictures of prompts. report: is told what is being painted."""
    report(f"{len(cases.singles)} prompts of one object")
    singles, pictures = _judged(paint, cases.singles, "single", GUIDANCE)
    report(f"{len(cases.pairs)} prompts of two objects")
    pairs, more = _judged(paint, cases.pairs, "pair", GUIDANCE)
    first = (*cases.singles[:UNGUIDED_CASES], *cases.pairs)
    report(f"{len(first)} prompts without guidance")
    unguided, loose = _judged(paint, first, "unguided", UNGUIDED)
    report(f"{len(cases.colourless)} prompts that name neither place nor colour")
    guided = painted(paint, cases.colourless, GUIDANCE)
    report("the same without guidance")
    centered = guidance_effect(paint, cases.colourless, guided, GUIDANCE, UNGUIDED)
    report("the same with a negative prompt")
    negative, without = negative_effect(paint, cases.colourless, guided, GUIDANCE)
    figures = (
        *_single_figures(cases.singles, singles),
        *_pair_figures(cases.pairs, pairs),
        *_unguided_figures([*singles[:UNGUIDED_CASES], *pairs], unguided),
        *centered,
        *negative,
    )
    return Scores(figures=figures, pictures=(*pictures, *more, *loose, *without))


def verdict(case: Case, found: Judgement) -> Verdict:
    """What of the scene that was asked for is on the picture.

    One object is held against the largest that is seen. Two are held against whichever is where they should
    be, and then position says that both are in their places.
    """
    wanted = case.scene.things
    seen = [_seen_as(thing, found, alone=len(wanted) == 1) for thing in wanted]
    matched = list(zip(wanted, seen, strict=True))
    return Verdict(
        shape=all(one is not None and one.shape is thing.shape for thing, one in matched),
        colour=all(one is not None and one.colour is thing.colour for thing, one in matched),
        background=found.background is case.scene.background,
        position=all(one is not None and one.position is thing.position for thing, one in matched),
        count=len(found.things) == len(wanted),
    )


def _seen_as(thing: Thing, found: Judgement, *, alone: bool) -> Seen | None:
    if alone:
        return found.things[0] if found.things else None
    return next((seen for seen in found.things if seen.position is thing.position), None)


def _judged(
    paint: Painter, cases: Sequence[Case], name: str, guidance: float
) -> tuple[list[Verdict], list[Picture]]:
    """A verdict and a picture for each case."""
    pixels = painted(paint, cases, guidance)
    verdicts = [verdict(case, judge(picture)) for case, picture in zip(cases, pixels, strict=True)]
    pictures = [
        Picture(name=f"{name}-{case.seed:03}", prompt=case.prompt, pixels=picture, wrong=one.wrong())
        for case, picture, one in zip(cases, pixels, verdicts, strict=True)
    ]
    return verdicts, pictures


def _single_figures(cases: Sequence[Case], verdicts: Sequence[Verdict]) -> list[Figure]:
    """Each attribute over all cases, which have the bars; then seen and held-out combinations apart."""
    bars = {"colour": 97.0, "shape": 93.0, "background": 97.0, "position": 90.0}
    groups = {
        "": list(verdicts),
        ", seen combinations": [one for case, one in zip(cases, verdicts, strict=True) if not case.held_out],
        ", held-out combinations": [one for case, one in zip(cases, verdicts, strict=True) if case.held_out],
    }
    figures = []
    for group, among in groups.items():
        for name, bar in bars.items():
            rights = [getattr(one, name) for one in among]
            figures.append(share(f"one object: {name}{group}", rights, at_least=None if group else bar))
        figures.append(share(f"one object: alone{group}", [one.count for one in among]))
        figures.append(share(f"one object: all of these{group}", [one.all for one in among]))
    return figures


def _pair_figures(cases: Sequence[Case], verdicts: Sequence[Verdict]) -> list[Figure]:
    """Both right: colours, shapes, places, and no third; the background is counted for itself."""
    both = [one.shape and one.colour and one.position and one.count for one in verdicts]
    held_out = [right for case, right in zip(cases, both, strict=True) if case.held_out]
    seen = [right for case, right in zip(cases, both, strict=True) if not case.held_out]
    return [
        share("two objects: both right", both, at_least=80.0),
        share("two objects: both right, seen combinations", seen),
        share("two objects: both right, held-out combinations", held_out),
        share("two objects: background", [one.background for one in verdicts]),
    ]


def _unguided_figures(guided: Sequence[Verdict], unguided: Sequence[Verdict]) -> list[Figure]:
    """All attributes of one and of two objects with guidance and without: the same prompts and seeds."""
    return [
        share(f"guidance {GUIDANCE:g}: all right", [one.all for one in guided]),
        share(f"guidance {UNGUIDED:g}: all right", [one.all for one in unguided]),
    ]
