"""The scores of `shapes`: a painter that draws what is asked reaches every bar, one that does not misses."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import score_shapes
from checkpoints import Workshop
from shapes import cases as lists
from shapes import figures as tables
from shapes import scene as scenes
from shapes.cases import Case, Cases, make_cases
from shapes.figures import CARD_END, CARD_START, Figure, apart, share, write_card
from shapes.judge import Judgement, Pixels, Seen
from shapes.palette import Colour
from shapes.scene import Fill, Position, Scene, Shape, Size, Thing
from shapes.score import evaluate, verdict
from shapes_drawing import draw, rounded

from onnxsd.errors import BadInputError

FEW = make_cases(singles=30, pairs=12, colourless=12)


class Oracle:
    """Draws what the prompt asks; without guidance, or where it ignores negative prompts, it does worse."""

    def __init__(self, cases: Cases, *, heeds_negatives: bool = True) -> None:
        self.scenes = {case.prompt: case.scene for case in (*cases.singles, *cases.pairs)}
        self.heeds_negatives = heeds_negatives

    def __call__(
        self, prompts: Sequence[str], negative_prompts: Sequence[str], seeds: Sequence[int], guidance: float
    ) -> Pixels:
        asked = zip(prompts, negative_prompts, seeds, strict=True)
        return paint([self.scene(*one) if guidance > 1 else EMPTY_HANDED for one in asked])

    def scene(self, prompt: str, negative: str, seed: int) -> Scene:
        if prompt in self.scenes:
            return self.scenes[prompt]
        words = prompt.split()  # "a star on a black background"
        free = [
            colour for colour in Colour if colour.value not in (words[4], self.heeds_negatives and negative)
        ]
        return one(Shape(words[1]), free[seed % len(free)], Colour(words[4]))


def one(shape: Shape, colour: Colour, background: Colour, position: Position = Position.CENTER) -> Scene:
    thing = Thing(shape=shape, colour=colour, size=Size.LARGE, fill=Fill.PLAIN, position=position)
    return Scene(background=background, things=(thing,), relation=None)


EMPTY_HANDED = one(Shape.CIRCLE, Colour.RED, Colour.GREEN, Position.LEFT)


def paint(asked: Sequence[Scene]) -> Pixels:
    return rounded(draw(asked, np.random.default_rng(0)))


def test_the_cases_are_those_of_the_issue() -> None:
    cases = make_cases()
    held_out = [
        any(
            scenes.is_held_out(thing.shape, thing.colour, case.scene.background)
            for thing in case.scene.things
        )
        for case in (*cases.singles, *cases.pairs)
    ]

    assert (len(cases.singles), len(cases.pairs)) == (300, 100)
    assert held_out == [case.held_out for case in (*cases.singles, *cases.pairs)]
    assert sum(case.held_out for case in cases.singles) == 300 // lists.EVERY
    assert {len(case.scene.things) for case in cases.pairs} == {2}
    assert cases == make_cases()
    assert cases != make_cases(seed=1)


@pytest.mark.reference
def test_a_painter_that_draws_what_is_asked_reaches_every_bar() -> None:
    scores = evaluate(Oracle(FEW), FEW)

    assert scores.passed, tables.as_text(scores.figures)
    by_name = {figure.name: figure for figure in scores.figures}
    assert by_name["one object: all of these"].value == 100
    assert by_name["two objects: both right"].value == 100
    assert by_name["negative colour: kept all the same"].value == 0
    assert by_name["negative colour: shape unchanged"].value == 100
    assert by_name["guidance: gain"].value == 100
    assert len(scores.pictures) == 30 + 12 + 30 + 12 + 2 * 12


@pytest.mark.reference
def test_no_picture_is_painted_twice() -> None:
    asked: Counter[tuple[str, str, int, float]] = Counter()
    oracle = Oracle(FEW)

    def counting(
        prompts: Sequence[str], negative_prompts: Sequence[str], seeds: Sequence[int], guidance: float
    ) -> Pixels:
        asked.update((*one, guidance) for one in zip(prompts, negative_prompts, seeds, strict=True))
        return oracle(prompts, negative_prompts, seeds, guidance)

    evaluate(counting, FEW)

    assert asked.most_common(1)[0][1] == 1
    assert len(asked) == 2 * (30 + 12) + 3 * 12


@pytest.mark.reference
def test_a_painter_that_ignores_negative_prompts_is_found_out() -> None:
    scores = evaluate(Oracle(FEW, heeds_negatives=False), FEW)

    assert [figure.name for figure in scores.figures if not figure.passed] == [
        "negative colour: kept all the same"
    ]


@pytest.mark.reference
def test_a_painter_of_one_picture_misses_every_bar_of_the_prompts() -> None:
    def always(
        prompts: Sequence[str], negative_prompts: Sequence[str], seeds: Sequence[int], guidance: float
    ) -> Pixels:
        return paint([EMPTY_HANDED] * len(prompts))

    missed = {figure.name for figure in evaluate(always, FEW).figures if not figure.passed}

    assert missed == {
        "one object: colour",
        "one object: shape",
        "one object: background",
        "one object: position",
        "two objects: both right",
        "guidance: gain",
        "negative colour: kept all the same",
    }


def seen(**changes: object) -> Seen:
    right = Seen(
        shape=Shape.STAR,
        colour=Colour.RED,
        position=Position.TOP,
        x=0.5,
        y=0.27,
        radius=0.17,
        striped=False,
        overlap=0.95,
    )
    return dataclasses.replace(right, **changes)


def case_of(*things: tuple[Shape, Colour, Position]) -> Case:
    made = tuple(
        Thing(shape=shape, colour=colour, size=Size.MEDIUM, fill=Fill.PLAIN, position=position)
        for shape, colour, position in things
    )
    scene = Scene(background=Colour.WHITE, things=made, relation=None)
    return Case(prompt="", seed=0, scene=scene, held_out=False)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ([seen()], ()),
        ([seen(shape=Shape.CROSS)], ("shape",)),
        ([seen(shape=None)], ("shape",)),
        ([seen(colour=Colour.BLUE)], ("colour",)),
        ([seen(position=Position.LEFT)], ("position",)),
        ([seen(), seen(colour=Colour.BLUE)], ("count",)),
        ([], ("shape", "colour", "position", "count")),
    ],
)
def test_one_object_is_right_or_says_what_is_wrong(found: list[Seen], wrong: tuple[str, ...]) -> None:
    case = case_of((Shape.STAR, Colour.RED, Position.TOP))

    judged = verdict(case, Judgement(background=Colour.WHITE, things=tuple(found)))

    assert judged.wrong() == wrong


def test_two_objects_that_changed_places_are_wrong() -> None:
    case = case_of((Shape.STAR, Colour.RED, Position.LEFT), (Shape.RING, Colour.BLUE, Position.RIGHT))
    star, ring = (
        seen(position=Position.LEFT),
        seen(shape=Shape.RING, colour=Colour.BLUE, position=Position.RIGHT),
    )
    swapped = (
        dataclasses.replace(star, position=Position.RIGHT),
        dataclasses.replace(ring, position=Position.LEFT),
    )

    assert verdict(case, Judgement(background=Colour.WHITE, things=(ring, star))).wrong() == ()
    assert verdict(case, Judgement(background=Colour.BLACK, things=(ring, star))).wrong() == ("background",)
    assert verdict(case, Judgement(background=Colour.WHITE, things=swapped)).wrong() == ("shape", "colour")


def test_a_share_of_nothing_passes_no_bar() -> None:
    assert not share("x", [], at_least=1).passed
    assert not share("x", [], at_most=1).passed
    assert share("x", [True, False]).value == 50


def test_figures_survive_json() -> None:
    kept = [share("x", [True], at_least=97.0), Figure(name="y", value=3.5, unit="dB", at_most=4.0)]
    empty = share("z", [])

    found = tables.from_json(json.loads(json.dumps(tables.as_json([*kept, empty]), allow_nan=False)))

    assert found[:2] == tuple(kept)
    assert math.isnan(found[2].value)


def test_scores_of_two_runs_are_compared_to_the_point() -> None:
    def score(value: float) -> Figure:
        return Figure(name="colour", value=value, unit="%", count=300, at_least=97.0)

    assert apart([score(98.0)], [score(97.0)], 1.0) == ()
    assert apart([score(98.4)], [score(97.0)], 1.0) == ("colour: 98.4 %, 97.0 % in the other run",)
    assert apart([score(98.0)], [], 1.0) == ("colour: 98.0 %, not in the other run",)
    assert len(apart([score(98.0)], [score(math.nan)], 1.0)) == 1


def test_figures_replace_those_in_the_model_card(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"# A model\n\n{CARD_START}\nold\n{CARD_END}\n\nMore.\n", encoding="utf-8")
    figures = [share("one object: colour", [True], at_least=97.0)]

    write_card(card, figures, "In fp32:")
    write_card(card, figures, "In fp32:")

    text = card.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.count("| one object: colour | 100.0 % | ≥ 97 |") == 1
    assert text.startswith("# A model\n\n")
    assert text.endswith(f"{CARD_END}\n\nMore.\n")


def test_a_card_without_its_marks_is_refused(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# A model\n", encoding="utf-8")

    with pytest.raises(BadInputError, match="has no"):
        write_card(card, [], "")
    assert card.read_text(encoding="utf-8") == "# A model\n"


@pytest.mark.reference
def test_the_script_scores_an_export(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pictures"
    few = [
        "--prompts",
        "1",
        "--pairs",
        "1",
        "--negatives",
        "1",
        "--reconstructions",
        "1",
        "--size",
        "64",
        "--steps",
        "2",
        "--sampler",
        "dpm++2m",
        "--json",
    ]
    given = ["score_shapes.py", *few, "--model", str(workshop.export().path), "--pictures", str(out)]
    monkeypatch.setattr("sys.argv", given)

    assert score_shapes.main() == 1  # random weights reach no bar

    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert {"one object: colour", "two objects: both right", "VAE reconstruction: mean PSNR"} <= set(names)
    lines = (out / "prompts.txt").read_text(encoding="utf-8").splitlines()
    assert {path.stem for path in out.glob("*.png")} == {line.split("\t")[0] for line in lines}
    assert len(lines) == 6


@pytest.mark.reference
def test_a_sampler_that_is_not_known_is_wrong_usage(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["score_shapes.py", "--model", str(workshop.export().path), "--sampler", "eular"]
    monkeypatch.setattr("sys.argv", given)

    assert score_shapes.main() == 2
    assert "eular" in capsys.readouterr().err


def test_the_scripts_exit_code_says_whether_two_runs_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tmp_path / "before.json"
    low = share("one object: colour", [True, False], at_least=97.0)
    high = share("one object: colour", [True, True], at_least=97.0)
    before.write_text(json.dumps(tables.as_json([low])), encoding="utf-8")

    assert score_shapes.exit_code([low], None) == 1
    assert score_shapes.exit_code([high], None) == 0
    assert score_shapes.exit_code([low], before) == 0
    assert score_shapes.exit_code([high], before) == 1
    assert "100.0 %, 50.0 % in the other run" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["no figures", "[1]", '[{"name": "x"}]'])
def test_a_file_that_holds_no_figures_is_refused(content: str, tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    before.write_text(content, encoding="utf-8")

    with pytest.raises(BadInputError, match="holds no figures"):
        score_shapes.exit_code([], before)
