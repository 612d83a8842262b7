"""Score a model of shapes on a CPU: what its pictures get right, by a judge that reads pixels alone.

Usage: python scripts/score_shapes.py [--model NAME_OR_FOLDER] [--precision fp32|fp16] [--json]
       python scripts/score_shapes.py --compare FIGURES.json

Exports the checkpoint (the built-in `shapes` unless another is named; an export is taken as it is), paints
each prompt in 20 steps at guidance 5, and prints each figure with its bar. The exit code is 1 when a bar is
missed, or with --compare when a figure that has one is more than a point away from that of the run whose
--json output the file holds. About 750 pictures: six minutes on two cores. Needs onnxsd[cpu,reference,test].
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from one_line_errors import one_line_errors
from PIL import Image
from shapes.cases import make_cases
from shapes.figures import Figure, apart, as_json, as_text, from_json, write_card
from shapes.judge import Pixels
from shapes.score import GUIDANCE, Scores, evaluate

from onnxsd import Pipeline, builtin
from onnxsd.artifact import manifest
from onnxsd.cli.progress import export_progress
from onnxsd.errors import BadInputError
from onnxsd.export.export import export
from onnxsd.export.source import resolve
from onnxsd.ops import Target
from onnxsd.tensors import DType

STEPS = 20
COMPARE_POINTS = 1.0


@one_line_errors
def main() -> int:
    """Score what was asked for; an error is one line and its own exit code."""
    asked = _arguments()
    with tempfile.TemporaryDirectory(prefix="score-shapes-") as scratch:
        return _score(asked, Path(scratch))


def _score(asked: argparse.Namespace, scratch: Path) -> int:
    from shapes.reconstruction import reconstruction  # torch draws the pictures; the options need none

    folder = _exported(asked.model, asked.precision, scratch / "onnx")
    started = time.perf_counter()
    painter = PipelinePainter(folder, asked.size, asked.steps, asked.sampler)
    painter(["a red circle"], [""], [0], 5.0)  # sessions are made when they are first needed
    loaded = time.perf_counter() - started
    painter.seconds.clear()
    cases = make_cases(singles=asked.prompts, pairs=asked.pairs, colourless=asked.negatives, seed=asked.seed)
    scores = evaluate(painter, cases, report=_tell)
    _tell("reconstructions")
    figures = (
        *scores.figures,
        reconstruction(
            painter.pipeline.engine, count=asked.reconstructions, size=asked.size, seed=asked.seed
        ),
        Figure(name="seconds until the first picture, load included", value=loaded, unit="s"),
        Figure(name="seconds a picture, median", value=statistics.median(painter.seconds), unit="s"),
    )
    print(json.dumps(as_json(figures), indent=2) if asked.as_json else as_text(figures))
    if asked.pictures:
        _save(scores, asked.pictures)
    if asked.write_card:
        write_card(
            _card(asked.model),
            figures,
            f"{asked.precision} on a CPU, {painter.said}, guidance {GUIDANCE:g}, seed {asked.seed}:",
        )
    return exit_code(figures, asked.compare)


class PipelinePainter:
    """Paints with an exported folder on the CPU, one picture at a time, as `onnxsd generate` does.

    seconds: what each picture took.
    """

    def __init__(self, folder: Path, size: int, steps: int, sampler: str | None) -> None:
        self.pipeline = Pipeline.from_pretrained(folder, provider="cpu")
        self.size = size
        self._steps, self._sampler = steps, sampler
        self.seconds: list[float] = []

    @property
    def said(self) -> str:
        """Steps and sampler in words."""
        return f"{self._steps} steps" + (f" of {self._sampler}" if self._sampler else "")

    def __call__(
        self, prompts: Sequence[str], negative_prompts: Sequence[str], seeds: Sequence[int], guidance: float
    ) -> Pixels:
        """The pictures of the prompts."""
        wanted = zip(prompts, negative_prompts, seeds, strict=True)
        return np.stack([self._picture(*one, guidance) for one in wanted])

    def _picture(self, prompt: str, negative_prompt: str, seed: int, guidance: float) -> Pixels:
        started = time.perf_counter()
        made = self.pipeline(
            prompt,
            negative_prompt=negative_prompt or None,
            height=self.size,
            width=self.size,
            num_inference_steps=self._steps,
            sampler=self._sampler,
            guidance_scale=guidance,
            seed=seed,
        )
        self.seconds.append(time.perf_counter() - started)
        return np.asarray(made.images[0], dtype=np.uint8)


def _exported(model: str, precision: str, out: Path) -> Path:
    """The model as an export: itself, or a portable one that is made here."""
    if (Path(model) / manifest.NAME).is_file():
        return Path(model)
    # Not by the command line, which would remember a folder that soon goes as this user's last export.
    wanted = {"fp16": DType.FLOAT16, "fp32": DType.FLOAT32}[precision]
    with export_progress() as report:
        export(resolve(model), out, target=Target.PORTABLE, precision=wanted, choice=None, report=report)
    return out


def _save(scores: Scores, folder: Path) -> None:
    """Every picture, and a text with the prompts and what is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for picture in scores.pictures:
        Image.fromarray(picture.pixels).save(folder / f"{picture.name}.png")
        lines.append("\t".join((picture.name, picture.prompt, ", ".join(picture.wrong))))
    (folder / "prompts.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _card(model: str) -> Path:
    """The model card of a built-in model or of a checkpoint's folder."""
    folder = builtin.folder(model) if model in builtin.names() else Path(model)
    card = folder / builtin.CARD
    if not card.is_file():
        raise BadInputError(f"{model} has no model card {card}", hint="leave --write-card out")
    return card


def exit_code(figures: Sequence[Figure], before: Path | None) -> int:
    """1 where a bar is missed, or a figure is not that of the other run."""
    if before is None:
        return 0 if all(figure.passed for figure in figures) else 1
    try:
        others = from_json(json.loads(before.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInputError(f"{before} holds no figures: {error}", hint="write it with --json") from error
    lines = apart(figures, others, COMPARE_POINTS)
    for line in lines:
        print(f"more than {COMPARE_POINTS:g} apart: {line}", file=sys.stderr)
    return 1 if lines else 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes", help="a built-in model, a checkpoint or an export")
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp32", help="of the export made")
    parser.add_argument("--prompts", type=int, default=300, help="of one object (default 300)")
    parser.add_argument("--pairs", type=int, default=100, help="prompts of two objects (default 100)")
    parser.add_argument("--negatives", type=int, default=48, help="pairs of pictures for negative prompts")
    parser.add_argument("--reconstructions", type=int, default=200, help="pictures for the VAE (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts (default 0)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each picture (default {STEPS})")
    parser.add_argument("--sampler", help="by its name in `onnxsd samplers` (default: the model's own)")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side (default 128)")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the figures as JSON")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="save every picture here")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="figures of another run, from --json")
    parser.add_argument("--write-card", action="store_true", help="put the figures into the model card")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
