"""Put a trained model into the package: FOLDER becomes onnxsd/builtin/NAME, with what only the package wants.

Usage: python scripts/ship_shapes.py FOLDER [--name NAME]

Takes the files that an export reads and no others, writes into model_index.json what suits the model, drops
paths of the machine that trained it, and keeps the model card that is there unless FOLDER brings one.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from one_line_errors import one_line_errors

from onnxsd import builtin
from onnxsd.errors import BadInputError
from onnxsd.export.placing import new_folder
from onnxsd.export.source import Source, resolve
from onnxsd.models.config import read_json
from onnxsd.models.families import OWN_DEFAULTS

HOME = Path(builtin.__file__).parent
LARGEST_BYTES = {"shapes": 14_000_000, "shapes-sd15": 8_000_000}
GUIDANCE = 5.0
# Euler needs no more than 20 steps; PLMS, Stable Diffusion 1.5's own, paints wrong colours below about 40.
STEPS = {"EulerDiscreteScheduler": 20, "PNDMScheduler": 50}
# transformers and diffusers write into it where a model was loaded from.
ORIGIN = "_name_or_path"


@one_line_errors
def main() -> int:
    """Ship what was asked for and say how large it is; an error is one line and its own exit code."""
    asked = _arguments()
    ship(asked.folder, HOME / asked.name, largest_bytes=LARGEST_BYTES[asked.name])
    print(f"{HOME / asked.name}: {_size_bytes(HOME / asked.name):,} bytes")
    return 0


def ship(folder: Path, out: Path, *, largest_bytes: int) -> None:
    """Make `out` the model of `folder`, whole or not at all; both may be the same folder.

    Raises:
        BadInputError: an export would miss a file, there is no model card, or the files are too large.
    """
    source = resolve(str(folder))
    if source.selection.size_bytes > largest_bytes:
        raise BadInputError(
            f"{folder} has {source.selection.size_bytes:,} bytes, and {largest_bytes:,} may be shipped",
            hint="save it in fp16, or train a narrower one",
        )
    card = _card(folder, out)
    needed_bytes = source.selection.size_bytes + card.stat().st_size
    with new_folder(out, needed_bytes=needed_bytes, force=True) as made:
        _copy(source, made)
        shutil.copyfile(card, made / builtin.CARD)


def _card(*folders: Path) -> Path:
    for folder in folders:
        if (folder / builtin.CARD).is_file():
            return folder / builtin.CARD
    raise BadInputError(
        f"neither {' nor '.join(str(folder) for folder in folders)} has a model card",
        hint=f"write {builtin.CARD}: what the model is, how it was made, its scores, its licence",
    )


def _copy(source: Source, made: Path) -> None:
    for file in source.selection.files:
        there = made / file.name
        there.parent.mkdir(exist_ok=True)
        if file.name.endswith("config.json") or file.name == builtin.MARKER:
            _write_json(there, _cleaned(file.name, read_json(source.folder / file.name)))
        else:
            # The content alone: weights are saved readable for nobody else.
            shutil.copyfile(source.folder / file.name, there)


def _cleaned(name: str, content: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in content.items() if key != ORIGIN}
    return {**kept, OWN_DEFAULTS: _defaults(content)} if name == builtin.MARKER else kept


def _defaults(index: dict[str, Any]) -> dict[str, Any]:
    """What suits the model: the steps that its own scheduler needs."""
    _, scheduler = index["scheduler"]
    return {"num_inference_steps": STEPS[scheduler], "guidance_scale": GUIDANCE}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a pipeline that was saved in fp16")
    parser.add_argument("--name", choices=LARGEST_BYTES, default="shapes", help="default: shapes")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
