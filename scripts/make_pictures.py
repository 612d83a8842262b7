"""Paint the README's picture: sixteen prompts by the built-in model, each below what came of it.

Usage: python scripts/make_pictures.py [--model NAME_OR_FOLDER] [--seed N] [--out FILE]

Every prompt is painted once, with one seed and the model's own defaults: nothing is picked out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from one_line_errors import one_line_errors
from PIL import Image, ImageDraw, ImageFont

from onnxsd import Pipeline
from onnxsd.cli.state import model_folder
from onnxsd.imaging.grid import grid

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "images" / "shapes.png"
PROMPTS = (
    "a red circle on a white background",
    "a large striped yellow star on a blue background",
    "a blue square left of a green star on white",
    "white background, small black cross",
    "purple donut on the left, yellow backdrop",
    "a tiny orange ball at the top, on black",
    "a red ring above a blue square, white background",
    "on green: a big yellow plus",
    "black triangle, orange background",
    "a striped green square on a purple background",
    "a white star to the right of a purple circle on red",
    "a picture of a small blue ring in the lower part, on white",
    "a giant violet pyramid on white",
    "orange hoop on the right, blue backdrop",
    "a yellow box below a red star, black background",
    "striped red cross on yellow",
)
MARGIN = 6  # pixels around each picture
LABEL_LINES = 3  # enough for the longest prompt
LABEL_SIZE = 11
LINE_HEIGHT = 14
PAPER = (255, 255, 255)
INK = (40, 40, 40)
FRAME = (200, 200, 200)


@one_line_errors
def main() -> int:
    """Paint the picture and say where it is; an error is one line and its own exit code."""
    asked = _arguments()
    folder, _ = model_folder(asked.model, _tell)
    images = paint(Pipeline.from_pretrained(folder), PROMPTS, asked.seed)
    sheet = grid([labelled(image, text) for image, text in zip(images, PROMPTS, strict=True)])
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(asked.out, optimize=True)
    print(f"{asked.out}: {len(PROMPTS)} prompts, seed {asked.seed}")
    return 0


def paint(pipeline: Pipeline, prompts: Sequence[str], seed: int) -> list[Image.Image]:
    """One picture of each prompt, all with the same seed."""
    images = []
    for at, prompt in enumerate(prompts, start=1):
        _tell(f"{at} of {len(prompts)}: {prompt}")
        images += pipeline(prompt, seed=seed).images
    return images


def labelled(image: Image.Image, text: str) -> Image.Image:
    """The picture on paper, with a thin frame and the prompt below it."""
    width, height = image.width + 2 * MARGIN, image.height + 3 * MARGIN + LABEL_LINES * LINE_HEIGHT
    paper = Image.new("RGB", (width, height), PAPER)
    paper.paste(image, (MARGIN, MARGIN))
    draw = ImageDraw.Draw(paper)
    draw.rectangle((MARGIN - 1, MARGIN - 1, MARGIN + image.width, MARGIN + image.height), outline=FRAME)
    font = ImageFont.load_default(LABEL_SIZE)
    for at, line in enumerate(wrapped(text, lambda line: draw.textlength(line, font) <= image.width)):
        draw.text((MARGIN, image.height + 2 * MARGIN + at * LINE_HEIGHT), line, fill=INK, font=font)
    return paper


def wrapped(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text in lines that fit, broken between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and fits(longer):
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("shapes"), help="an export, or a built-in's name")
    parser.add_argument("--seed", type=int, default=1, help="of every picture (default 1)")
    parser.add_argument("--out", type=Path, default=OUT, help="the file to write")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
