"""Measure what a change of size costs on a GPU: the first image of a size over the last, memory held.

Usage: python scripts/measure_sizes.py EXPORT [--sizes 1024,768] [--images 2] [--memory-limit 8GB]

EXPORT is what `onnxsd export MODEL EXPORT` wrote. One pipeline makes every image, size after size; the first
size's first image loads the weights too. "used" is what all processes hold of the GPU after the images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from one_line_errors import one_line_errors

from onnxsd import Pipeline
from onnxsd.cli.sizes import MemorySize
from onnxsd.session.driver import driver


@one_line_errors
def main() -> int:
    """Make the images and print a table; an error is one line and its own exit code."""
    asked = _arguments()
    limit = None if asked.memory_limit is None else MemorySize().convert(asked.memory_limit, None, None)
    pipeline = Pipeline.from_pretrained(asked.export, provider="cuda", memory_limit_bytes=limit)
    print("| size | seconds of each image | first over last, s | loading of each, s | used, MiB |")
    print("|---|---|---|---|---|")
    for size in map(int, asked.sizes.split(",")):
        seconds, loading = [], []
        for _ in range(asked.images):
            started = time.perf_counter()
            made = pipeline(
                "a lighthouse in a storm", height=size, width=size, num_inference_steps=asked.steps, seed=7
            )
            seconds.append(time.perf_counter() - started)
            loading.append(made.gpu.loading_s if made.gpu else 0.0)
        free, total = driver(0).memory()
        print(
            f"| {size}² | {_listed(seconds)} | {seconds[0] - seconds[-1]:.2f} | {_listed(loading)}"
            f" | {(total - free) >> 20:,} |"
        )
    return 0


def _listed(seconds: list[float]) -> str:
    return ", ".join(f"{one:.3f}" for one in seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path)
    parser.add_argument("--sizes", default="1024,768,512,832", help="pixels a side, separated by commas")
    parser.add_argument("--images", type=int, default=2, help="of each size")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--memory-limit", help="as of `onnxsd generate`")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
