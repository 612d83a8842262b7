"""Ask of each operator of an exported folder's graphs whether it gives the same bits every time.

Usage: python scripts/check_determinism.py FOLDER [--size 1024] [--runs 5] [--provider cuda|cpu] [--json FILE]

Every distinct node (operator, attributes, shapes and types of its operands) of every component, authored for
the provider at fixed sizes, becomes a model of its own and runs over random operands, --runs times in each of
two sessions (--large-runs where its outputs are large), with its outputs filled with NaN before each run. The
exit code is 1 when a node varies from run to run or from session to session, leaves part of an output
unwritten, or does not run. Graphs are those of the engine: with onnxsd's own kernels where they can be used,
unless --stock-kernels is given. `check_repeats.py` asks the same of whole images.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from determinism.calls import Found, distinct
from determinism.table import as_json, as_text
from determinism.trial import Outcome, Trial
from one_line_errors import one_line_errors

from onnxsd.artifact.folder import Folder, open_folder
from onnxsd.engine.gpu import session_settings
from onnxsd.errors import UsageError
from onnxsd.kernels.choice import KernelChoice, Kernels, choose
from onnxsd.models import clip
from onnxsd.models.components import Blueprint
from onnxsd.ops import Target
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.prompt.tokenizer import CONTEXT_TOKENS
from onnxsd.session import Provider, SessionSettings, available, resolve
from onnxsd.tensors import DType

SCHEMA = 1


@one_line_errors
def main() -> int:
    """Try every distinct node and print the table; an error is one line and its own exit code."""
    asked = _arguments()
    return _check(asked)


def _check(asked: argparse.Namespace) -> int:
    started = time.perf_counter()
    folder = open_folder(asked.folder)
    choice = resolve(asked.provider, device_id=asked.device)
    kernels = choose(
        Kernels.STOCK if asked.stock_kernels else Kernels.AUTO,
        provider=choice.provider,
        device_id=choice.device_id,
        precision=folder.manifest.precision,
    )
    runs = {"runs": asked.runs, "large_runs": asked.large_runs}
    calls = [
        (Trial(choice=choice, settings=settings, **runs), found)
        for settings, graphs in _graphs(folder, choice.provider, kernels, asked).items()
        for found in distinct(graphs)
    ]
    outcomes = tuple(_tried(calls))
    facts = {
        "schema": SCHEMA,
        "provider": choice.provider.value,
        "kernels": {"own": kernels.own, "reason": kernels.reason},
        "onnxruntime": str(available().version),
        "size": asked.size,
        **runs,
        "seconds": round(time.perf_counter() - started, 1),
    }
    faulty = sum(not outcome.sound for outcome in outcomes)
    print(as_text(outcomes))
    print(f"{len(outcomes)} distinct nodes, {faulty} not sound; {facts}")
    if asked.json is not None:
        text = json.dumps({**facts, **as_json(outcomes)}, indent=1)
        asked.json.write_text(f"{text}\n", encoding="utf-8")
    return int(faulty > 0)


def _tried(calls: Sequence[tuple[Trial, Found]]) -> Iterator[Outcome]:
    """Each outcome in turn; those that took long are told, for the one who waits."""
    for index, (trial, found) in enumerate(calls):
        started = time.perf_counter()
        yield trial.of(found)
        passed = time.perf_counter() - started
        if passed > 1.0:
            print(f"{index + 1}/{len(calls)} {found.call}: {passed:.1f} s", file=sys.stderr)


def _graphs(
    folder: Folder, provider: Provider, kernels: KernelChoice, asked: argparse.Namespace
) -> dict[SessionSettings, list[tuple[str, AuthoredGraph]]]:
    """Each wanted component (all, if none is named) at fixed sizes, by the settings of its sessions."""
    target, dtype = Target.OWN if kernels.own else Target.CUDA, folder.manifest.precision
    if provider is Provider.CPU:
        target, dtype = Target.PORTABLE, DType.FLOAT32
    wanted: list[str] = asked.component
    names = [record.name for record in folder.manifest.components]
    if unknown := [name for name in wanted if name not in names]:
        raise UsageError(f"{folder.path} has no {', '.join(unknown)}; it has {', '.join(names)}")
    graphs: dict[SessionSettings, list[tuple[str, AuthoredGraph]]] = {}
    for name in wanted or names:
        blueprint = folder.blueprint(name)
        graph = blueprint.author(target, dtype, _sizes(folder, blueprint, asked.size))
        settings = session_settings(name, dtype, cuda_graph=False, operators=kernels.operators)
        graphs.setdefault(settings, []).append((name, graph))
    return graphs


def _sizes(folder: Folder, blueprint: Blueprint, size: int) -> dict[str, int]:
    """What the component's symbols are when one image of `size` pixels a side is made with guidance."""
    name, factor = blueprint.component.name, folder.manifest.latent.factor
    if name.startswith("text_encoder"):
        return {"batch": 1, "sequence": clip.parse(blueprint.config).max_positions}
    side = size if name == "vae_encoder" else size // factor
    rows = 2 if name == folder.manifest.latent.denoiser else 1
    sizes = {"batch": rows, "height": side, "width": side, "sequence": CONTEXT_TOKENS}
    return {symbol: sizes[symbol] for symbol in blueprint.component.symbols}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="an exported folder")
    parser.add_argument("--size", type=int, default=1024, help="pixels a side (default 1024)")
    parser.add_argument("--runs", type=int, default=5, help="in each session (default 5)")
    parser.add_argument(
        "--large-runs", type=int, default=2, help="the same where outputs are above 64 MiB (default 2)"
    )
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--device", type=int, default=0, help="the GPU's number (default 0)")
    parser.add_argument("--component", action="append", default=[], help="this one only; repeatable")
    parser.add_argument(
        "--stock-kernels", action="store_true", help="ONNX Runtime's operators, not onnxsd's own kernels"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome there")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
