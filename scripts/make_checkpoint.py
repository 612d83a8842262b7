"""Write a checkpoint in diffusers' layout with seeded random weights: no download, no torch.

Usage: python scripts/make_checkpoint.py NAME OUT [--tiny] [--seed N] [--dtype fp16|fp32] [--force]

Whatever --dtype says, the names of the weights have no variant (`unet/diffusion_pytorch_model.safetensors`),
so that `from_pretrained(OUT, torch_dtype=...)` reads them without a `variant` argument. The full SDXL takes
7 GB in fp16; --tiny takes a few MB.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from one_line_errors import one_line_errors

from onnxsd.export import synthetic
from onnxsd.models import catalogue
from onnxsd.tensors import DType

DTYPES = {"fp16": DType.FLOAT16, "fp32": DType.FLOAT32}


@one_line_errors
def main() -> int:
    """Write what was asked for and say what it is; an error is one line and its own exit code."""
    asked = _arguments()
    checkpoint = synthetic.plan(asked.name, tiny=asked.tiny, seed=asked.seed, dtype=DTYPES[asked.dtype])
    synthetic.write(
        checkpoint, asked.out, force=asked.force, progress=lambda part: print(part, file=sys.stderr)
    )
    size = f"{checkpoint.size_bytes / 1e6:,.1f} MB of {asked.dtype} weights"
    print(f"{asked.out}: {checkpoint.pipeline.pipeline_class}, {size}, seed {asked.seed}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=f"NAME is one of {', '.join(catalogue.names())}."
    )
    parser.add_argument("name", metavar="NAME", help="whose architecture")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write")
    parser.add_argument("--tiny", action="store_true", help="its narrow twin: a few MB")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default 0)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp16", help="of the weights (default fp16)")
    parser.add_argument("--force", action="store_true", help="replace a checkpoint that is there")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
