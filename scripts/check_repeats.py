"""Ask whether one seed is one image, to the last bit: of the latents and of the PNG.

Usage: python scripts/check_repeats.py FOLDER [--size 1024] [--images 50] [--steps N] [--stock-kernels]

FOLDER is an export, or the name of a built-in model. One seed is made --images times in one session, again
after other batches and sizes ran in between, in a second engine of the same process, and in two fresh
processes. Whether an image is the same in a batch as alone is told too, and not judged. The exit code is 1
when anything differs that is judged. It runs on onnxsd's own kernels where they can be used; --stock-kernels
shows what ONNX Runtime's operators do. `check_determinism.py` asks the same of each operator.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from determinism.pictures import Digest, Painter, Picture, Size
from determinism.repeats import SEED, Row, as_text, compared, in_one_engine, of_digests
from one_line_errors import one_line_errors

from onnxsd.cli.state import model_folder
from onnxsd.engine.pipeline import Pipeline
from onnxsd.errors import VerificationError
from onnxsd.session import available

PROCESSES = 2


@one_line_errors
def main() -> int:
    """Make the images and print the table; an error is one line and its own exit code."""
    asked = _arguments()
    return _once(asked) if asked.once else _check(asked)


def _check(asked: argparse.Namespace) -> int:
    started = time.perf_counter()
    pipeline = _pipeline(asked)
    kernels, choice = pipeline.engine.kernels, pipeline.engine.choice
    print(f"kernels: {'own' if kernels.own else 'stock'} ({kernels.reason})", flush=True)
    painter, size = Painter(pipeline, steps=asked.steps), (asked.size, asked.size)
    (first,) = painter.paint([SEED], size)
    rows = []
    for row in _rows(asked, painter, first, size):
        rows.append(row)
        print(f"[{time.perf_counter() - started:6.1f} s] {row.what}", file=sys.stderr)
    print(as_text(rows))
    print(f"latents sha256 {first.digest.latents}\nPNG     sha256 {first.digest.png}")
    passed = time.perf_counter() - started
    print(f"{asked.size}², {choice.provider.value}, onnxruntime {available().version}, {passed:.0f} s")
    return int(not all(row.sound for row in rows))


def _rows(asked: argparse.Namespace, painter: Painter, first: Picture, size: Size) -> Iterator[Row]:
    """Every way in which the image is made, one after another."""
    yield from in_one_engine(painter.paint, first, size, asked.images)
    second = Painter(_pipeline(asked), steps=asked.steps)
    # In turn, so that each runs after the other.
    made = [one.paint([SEED], size)[0] for one in (second, painter, second)]
    yield compared("in a second engine, and in turn", first, made)
    for one in (painter, second):
        one.pipeline.release()
    digests = [_in_a_process(asked, painter.pipeline) for _ in range(PROCESSES)]
    yield of_digests("in fresh processes", first.digest, digests)


def _pipeline(asked: argparse.Namespace) -> Pipeline:
    folder, _ = model_folder(asked.folder, lambda line: print(line, file=sys.stderr))
    return Pipeline.from_pretrained(
        folder, provider=asked.provider, device_id=asked.device, kernels=asked.kernels
    )


def _in_a_process(asked: argparse.Namespace, pipeline: Pipeline) -> Digest:
    """What a new process makes, on the same provider and kernels or not at all."""
    engine = pipeline.engine
    options = {
        "--size": asked.size,
        "--steps": asked.steps,
        "--provider": engine.choice.provider.value,
        "--device": engine.choice.device_id,
    }
    command = [sys.executable, __file__, str(engine.folder.path), "--once"]
    command += ["--own-kernels" if engine.kernels.own else "--stock-kernels"]
    command += [str(word) for pair in options.items() if pair[1] is not None for word in pair]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise VerificationError(f"a fresh process ended with exit code {done.returncode}: {last}")
    return Digest(**json.loads(done.stdout))


def _once(asked: argparse.Namespace) -> int:
    """Make the image once and print its hashes: what a fresh process does."""
    (picture,) = Painter(_pipeline(asked), steps=asked.steps).paint([SEED], (asked.size, asked.size))
    print(json.dumps(asdict(picture.digest)))
    return 0


def _positive(text: str) -> int:
    """No image at all would be the same every time."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="an exported folder, or a built-in model")
    parser.add_argument("--size", type=int, default=1024, help="pixels a side (default 1024)")
    parser.add_argument("--images", type=_positive, default=50, help="in one session (default 50)")
    parser.add_argument("--steps", type=int, help="by default the model's own")
    parser.add_argument("--provider", default="auto", help="cuda, cpu, tensorrt or auto (default auto)")
    parser.add_argument("--device", type=int, default=0, help="the GPU's number (default 0)")
    kernels = parser.add_mutually_exclusive_group()
    kernels.add_argument(
        "--own-kernels", dest="kernels", action="store_const", const="own", help="insist on onnxsd's own"
    )
    kernels.add_argument(
        "--stock-kernels", dest="kernels", action="store_const", const="stock", help="ONNX Runtime's alone"
    )
    parser.set_defaults(kernels="auto")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
