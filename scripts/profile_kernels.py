"""Where the milliseconds of a step and of a decode go on a GPU: kernels by class, with each class's floor.

Usage: python scripts/profile_kernels.py EXPORT [--size 1024] [--runs 10] [--kernels 0] [--stock-kernels]

EXPORT is what `onnxsd export MODEL EXPORT` wrote. It needs torch, whose profiler sees every kernel of the
process. The floor of a class is its arithmetic over the rate of a large product on this card, measured first;
a class that only moves memory has none here. The first column sums to less than a run: the rest are gaps.
It runs on onnxsd's own kernels where they can be used, unless --stock-kernels is given, and says which.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_events import record
from one_line_errors import one_line_errors

from onnxsd.artifact.folder import open_folder
from onnxsd.bench.contenders.onnxsd_engine import work_for
from onnxsd.bench.inputs import TOKENS, unet_inputs, vae_inputs
from onnxsd.engine.decoding import decoder_for
from onnxsd.engine.engine import Engine
from onnxsd.engine.loop import loop_for, loop_shape
from onnxsd.kernels.choice import Kernels
from onnxsd.ops import Target
from onnxsd.ops.flops import Flops, count
from onnxsd.session import resolve

GUIDANCE_SCALE = 5.0
# By a part of a kernel's name, the first that is found; own kernels are called by lower-case words.
CLASSES: Mapping[str, tuple[str, ...]] = {
    "attention": ("sdpa", "fmha", "flash", "softmax"),
    "convolution": ("fprop", "convFwd", "conv2d", "cutlass__5x_cudnn"),
    "product": ("nvjet", "gemm", "splitKreduce", "cutlass"),
    "GEGLU": ("biasSplitGelu", "geglu"),
    "layer norm": ("LayerNorm", "layer_norm"),
    "group norm": ("GroupNorm", "group_norm_"),
    "bias, residual": ("BiasAdd", "BinaryElementWise", "op_generic_tensor", "addition"),
    "concatenation, upsampling": ("Concat", "Expand", "concatenation", "upsampling", "interleaving"),
    "copies": ("memcpy", "transpose", "Gather"),
    "memset": ("Memset", "memset"),
}
REST = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel in one run: its name, its time, and how often it ran."""

    name: str
    ms: float
    calls: float

    @property
    def kind(self) -> str:
        """Its class."""
        for kind, parts in CLASSES.items():
            if any(part in self.name for part in parts):
                return kind
        return REST


@one_line_errors
def main() -> int:
    """Profile both and print the tables; an error is one line and its own exit code."""
    asked = _arguments()
    kernels = Kernels.STOCK if asked.stock_kernels else Kernels.AUTO
    engine = Engine(open_folder(asked.export), resolve("cuda"), kernels=kernels)
    assert engine.gpu is not None
    print(f"kernels: {'own' if engine.kernels.own else 'stock'} ({engine.kernels.reason})")
    engine.gpu.worker.run(lambda: _profile(engine, asked))
    return 0


def _profile(engine: Engine, asked: argparse.Namespace) -> None:
    rate = _product_rate()
    print(f"one product of 8192 rows: {rate / 1e12:.0f} TFLOP/s")
    for title, call, flops in (_step(engine, asked.size), _decode(engine, asked.size)):
        ms = _milliseconds(call, asked.runs)
        _show(title, ms, _kernels(call, asked.runs), flops, rate, asked.kernels)


def _step(engine: Engine, size: int) -> tuple[str, Callable[[], None], Flops]:
    """A step of the loop; it is prepared anew after as many calls as its tables have."""
    assert engine.gpu is not None
    feeds = unet_inputs(engine.folder.path, size=size, rows=2)
    work = work_for(engine, feeds, GUIDANCE_SCALE)
    loop, calls = loop_for(engine.gpu, loop_shape(work)), len(work.table)
    done = [calls]

    def call() -> None:
        if done[0] == calls:
            loop.prepare(work)
            done[0] = 0
        loop.advance()
        done[0] += 1

    side = feeds["sample"].shape[-1]
    sizes = {"batch": 2, "height": side, "width": side, "sequence": TOKENS}
    return f"step of the loop, {size}², guidance", call, _flops(engine, "unet", sizes)


def _decode(engine: Engine, size: int) -> tuple[str, Callable[[], None], Flops]:
    assert engine.gpu is not None
    latents = vae_inputs(engine.folder.path, size=size, rows=1)["latent_sample"]
    bound = decoder_for(engine.gpu, latents.shape)
    bound.set("latents", latents)
    sizes = {"batch": 1, "height": latents.shape[2], "width": latents.shape[3]}
    return f"decode, {size}²", bound.run, _flops(engine, "vae_decoder", sizes)


def _flops(engine: Engine, component: str, sizes: dict[str, int]) -> Flops:
    return count(engine.folder.blueprint(component).author(Target.CUDA, engine.dtype, sizes))


def _product_rate(rows: int = 8192, calls: int = 100) -> float:
    import torch

    left, right = (torch.randn(rows, rows, device="cuda", dtype=torch.float16) for _ in range(2))
    for _ in range(calls):
        left @ right
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        left @ right
    torch.cuda.synchronize()
    return calls * 2 * rows**3 / (time.perf_counter() - started)


def _milliseconds(call: Callable[[], None], runs: int) -> float:
    times = []
    for _ in range(3 * runs):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def _kernels(call: Callable[[], None], runs: int) -> list[Kernel]:
    call()

    def several() -> None:
        for _ in range(runs):
            call()

    times: defaultdict[str, list[float]] = defaultdict(list)
    for event in record(several):
        times[event.name].append(event.us)
    return [Kernel(name=name, ms=sum(us) / runs / 1e3, calls=len(us) / runs) for name, us in times.items()]


def _show(title: str, ms: float, kernels: list[Kernel], flops: Flops, rate: float, most: int) -> None:
    by_kind: defaultdict[str, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        by_kind[kernel.kind].append(kernel)
    floors: dict[str, Any] = {
        "product": flops.linear, "convolution": flops.convolution, "attention": flops.attention,
    }  # fmt: skip
    total = sum(kernel.ms for kernel in kernels)
    print(f"\n{title}: {ms:.2f} ms a run, kernels {total:.2f} ms\n")
    print("| class | ms | kernels | floor, ms |\n|---|---|---|---|")
    for kind, members in sorted(by_kind.items(), key=lambda item: -_sum(item[1])):
        floor = f"{floors[kind] / rate * 1e3:.2f}" if kind in floors else ""
        calls = sum(kernel.calls for kernel in members)
        print(f"| {kind} | {_sum(members):.2f} | {calls:.0f} | {floor} |")
    for kernel in sorted(kernels, key=lambda kernel: -kernel.ms)[:most]:
        print(f"{kernel.ms:8.3f} ms {kernel.calls:6.0f}× {kernel.kind}: {kernel.name[:120]}")


def _sum(kernels: list[Kernel]) -> float:
    return sum(kernel.ms for kernel in kernels)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path)
    parser.add_argument("--size", type=int, default=1024, help="pixels a side (default 1024)")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--kernels", type=int, default=0, help="list so many kernels by name too")
    parser.add_argument(
        "--stock-kernels", action="store_true", help="ONNX Runtime's operators, not onnxsd's own kernels"
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
