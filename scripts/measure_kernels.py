"""How close to this card's memory onnxsd's own kernels run, call by call, with stock operators beside them.

Usage: python scripts/measure_kernels.py EXPORT [--size 1024] [--runs 20] [--markdown] [--json FILE]

EXPORT is what `onnxsd export MODEL EXPORT` wrote; no weights of it are read. It needs torch, whose profiler
sees every kernel of the process. Every distinct call of an own operator in a step with guidance and in a
decode becomes a session of its own, and so does the same work by stock operators, the additions that own ones
absorb included; a bias that stock convolutions add by themselves costs them nothing here. A time is the
median over --runs of the sum of a call's kernels. What a call must move is each operand once and each output
once, and what a group norm normalizes once more, whatever its kernels read again. Where that exceeds the
GPU's cache, other memory is read before each run; else operands are in the cache, as what the node before has
just written is in a step.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from bandwidth.table import as_json, as_text, rows
from bandwidth.timing import measure
from bandwidth.work import works
from one_line_errors import one_line_errors

from onnxsd.artifact.folder import open_folder
from onnxsd.kernels.choice import Kernels, choose
from onnxsd.session import Provider, available, resolve, start_cuda

SCHEMA = 1


@one_line_errors
def main() -> int:
    """Measure and print; 1 where a call did not run, and an error's own code where nothing did."""
    asked = _arguments()
    return _measure(asked)


def _measure(asked: argparse.Namespace) -> int:
    started = time.perf_counter()
    folder = open_folder(asked.export)
    device_id = resolve(Provider.CUDA.value).device_id
    kernels = choose(
        Kernels.OWN, provider=Provider.CUDA, device_id=device_id, precision=folder.manifest.precision
    )
    assert kernels.operators is not None
    # ONNX Runtime's CUDA libraries first, then torch's.
    start_cuda(device_id)
    calls = works(folder.blueprint, folder.manifest.latent, asked.size)
    measured = measure(calls, kernels.operators, device_id, asked.runs)
    found = rows(calls, measured)
    print(as_text(found, measured, markdown=asked.markdown))
    seconds = round(time.perf_counter() - started, 1)
    facts = {
        "size": asked.size,
        "runs": asked.runs,
        "onnxruntime": str(available().version),
        "seconds": seconds,
    }
    print(f"{folder.manifest.pipeline}: {facts}", file=sys.stderr)
    if asked.json is not None:
        text = json.dumps({"schema": SCHEMA, **facts, **as_json(found, measured)}, indent=1)
        asked.json.write_text(f"{text}\n", encoding="utf-8")
    return int(any(row.own is None or row.stock is None for row in found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path, metavar="EXPORT", help="an exported folder")
    parser.add_argument("--size", type=int, default=1024, help="pixels a side (default 1024)")
    parser.add_argument("--runs", type=int, default=20, help="of each call (default 20)")
    parser.add_argument("--markdown", action="store_true", help="tables as documents have them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every call and its kernels there")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
