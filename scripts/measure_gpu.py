"""Measure an exported SDXL on a GPU beside diffusers: times of UNet and VAE, errors, an image end to end.

Usage: python scripts/measure_gpu.py CHECKPOINT EXPORT [--size 1024] [--steps 30] [--repeats 60]
       python scripts/measure_gpu.py CHECKPOINT EXPORT --initialise

CHECKPOINT is in diffusers' layout; `scripts/make_checkpoint.py sdxl-base-1.0 CHECKPOINT` makes one, and
--initialise gives its UNet and VAE the weights that diffusers' own classes start with (seed 0), which is what
the errors in docs/performance.md are measured with; export after it. EXPORT is what `onnxsd export CHECKPOINT
EXPORT --target cuda` wrote. It needs the `reference` extra. Every time is taken twice, so that the difference
shows the noise.
"""

from __future__ import annotations

import argparse
import functools
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.artifact.folder import open_folder
from onnxsd.engine.bound import Bound
from onnxsd.engine.engine import Engine
from onnxsd.engine.pipeline import Pipeline
from onnxsd.session import available, resolve, to_host

Array = npt.NDArray[Any]
WARM_UP = 5
TOKENS = 77
Row = tuple[str, str]


def main() -> None:
    """Measure everything and print the table."""
    asked = _arguments()
    if asked.initialise:
        _initialise(asked.checkpoint)
        return
    runtime = available()
    rows: list[Row] = [("onnxruntime", f"{runtime.version}, CUDA {runtime.cuda}")]
    rows += _measure_engine(asked)
    rows += _measure_pipeline(asked)
    print("\n".join(f"| {name} | {value} |" for name, value in rows))


def _initialise(checkpoint: Path) -> None:
    """Overwrite the weights of UNet and VAE with those that diffusers' classes are born with."""
    import diffusers
    import torch

    torch.manual_seed(0)
    for kind, folder in ((diffusers.UNet2DConditionModel, "unet"), (diffusers.AutoencoderKL, "vae")):
        with torch.device("cuda"):
            model = kind.from_config(kind.load_config(checkpoint / folder))
        model.half().cpu().save_pretrained(checkpoint / folder, max_shard_size="20GB")


def _measure_engine(asked: argparse.Namespace) -> Iterator[Row]:
    """UNet and VAE: loading, a session over loaded weights, time, and error against float32."""
    engine = Engine(open_folder(asked.export), resolve("cuda"))
    latent = asked.size // engine.folder.manifest.latent.factor
    sizes = {"batch": 2, "height": latent, "width": latent, "sequence": TOKENS}
    for component, wanted in (("unet", sizes), ("vae_decoder", {**_without_text(sizes), "batch": 1})):
        started = time.perf_counter()
        bound = engine.bound(component, wanted)
        yield f"{component}: weights to GPU and first session", _seconds(started)
        feeds = _feeds(bound)
        for name, value in feeds.items():
            bound.set(name, value)
        started = time.perf_counter()
        bound.run()
        yield f"{component}: first run (warm-up, capture)", _seconds(started)
        first, second = (_run_ms(bound, asked.repeats) for _ in range(2))
        yield f"{component}: one run, ms (twice)", f"{first:.2f}, {second:.2f}"
        yield from _errors(asked.checkpoint, component, bound, feeds)
        started = time.perf_counter()
        engine.bound(component, {**wanted, "width": latent - 16})
        yield f"{component}: session of another size over loaded weights", _seconds(started)
    del bound, engine
    gc.collect()


def _without_text(sizes: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if name != "sequence"}


def _feeds(bound: Bound) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    feeds = {
        name: generator.standard_normal(target.shape, np.float32) for name, target in bound.inputs.items()
    }
    if "timestep" in feeds:
        feeds["timestep"] = np.array(501.0, np.float32)
    if "time_ids" in feeds:
        feeds["time_ids"] = np.tile(np.array([1024, 1024, 0, 0, 1024, 1024], np.float32), (2, 1))
    return feeds


def _run_ms(bound: Bound, repeats: int) -> float:
    """Milliseconds of one run: the median of synchronised runs after a warm-up."""
    for _ in range(WARM_UP):
        bound.run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        bound.run()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def _errors(checkpoint: Path, component: str, bound: Bound, feeds: dict[str, Array]) -> Iterator[Row]:
    """Relative error of ours and of torch's fp16 against diffusers in float32, from the same fp16 inputs."""
    import torch

    ((_, output),) = bound.outputs.items()
    bound.run()
    ours = to_host(output).astype(np.float64)
    bound.run()
    again = to_host(output).astype(np.float64)
    results = {}
    for dtype in (torch.float32, torch.float16):
        call = _reference(component, checkpoint, dtype)
        given = {name: value.astype(bound.inputs[name].dtype) for name, value in feeds.items()}
        run = functools.partial(call, {name: torch.from_numpy(value).cuda() for name, value in given.items()})
        results[dtype] = run().double().cpu().numpy()
        named = str(dtype).removeprefix("torch.")
        first, second = _torch_ms(run), _torch_ms(run)
        yield f"diffusers {component} {named}: one run, ms (twice)", f"{first:.2f}, {second:.2f}"
        del call, run
        gc.collect()
        torch.cuda.empty_cache()
    exact = results[torch.float32]
    yield f"{component}: relative error of onnxsd", f"{_relative(ours, exact):.2e}"
    yield f"{component}: relative error of torch fp16", f"{_relative(results[torch.float16], exact):.2e}"
    yield f"{component}: relative difference of two runs", f"{_relative(again, ours):.2e}"


def _reference(component: str, checkpoint: Path, dtype: Any) -> Callable[[dict[str, Any]], Any]:
    import diffusers
    import torch

    if component == "vae_decoder":
        vae = diffusers.AutoencoderKL.from_pretrained(checkpoint / "vae", torch_dtype=dtype).cuda()
        return torch.no_grad()(lambda x: vae.decode(x["latent_sample"].to(dtype)).sample)
    unet = diffusers.UNet2DConditionModel.from_pretrained(checkpoint / "unet", torch_dtype=dtype).cuda()

    def call(x: dict[str, Any]) -> Any:
        added = {name: x[name].to(dtype) for name in ("text_embeds", "time_ids") if name in x}
        hidden = x["encoder_hidden_states"].to(dtype)
        return unet(x["sample"].to(dtype), x["timestep"], hidden, added_cond_kwargs=added).sample

    return torch.no_grad()(call)


def _torch_ms(call: Callable[[], Any], repeats: int = 10) -> float:
    import torch

    for _ in range(3):
        call()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats * 1e3


def _relative(found: Array, exact: Array) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def _measure_pipeline(asked: argparse.Namespace) -> Iterator[Row]:
    """Prompt to pixels, three times; the first makes every session."""
    started = time.perf_counter()
    pipeline = Pipeline.from_pretrained(asked.export, provider="cuda")
    for attempt in ("first image, with loading", "second", "third"):
        begun = started if attempt.startswith("first") else time.perf_counter()
        made = pipeline(
            "a lighthouse in a storm",
            height=asked.size,
            width=asked.size,
            num_inference_steps=asked.steps,
            seed=7,
        )
        phases = ", ".join(f"{phase} {seconds:.3f}" for phase, seconds in made.seconds.items())
        yield f"{asked.steps} steps, {attempt}", f"{_seconds(begun)} ({phases})"
    made.images[0].save(asked.export.parent / "measured.png")


def _seconds(started: float) -> str:
    return f"{time.perf_counter() - started:.2f} s"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("export", type=Path, nargs="?")
    parser.add_argument("--size", type=int, default=1024, help="pixels a side (default 1024)")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--initialise", action="store_true", help="set the checkpoint's weights, and stop")
    parser.add_argument("--repeats", type=int, default=60)
    return parser.parse_args()


if __name__ == "__main__":
    main()
