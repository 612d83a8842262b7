"""What `generate` does between its options and its output: load, make batch by batch, save each at once."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from onnxsd.cli.folder_text import print_object
from onnxsd.cli.progress import StepProgress, step_progress
from onnxsd.cli.state import model_folder
from onnxsd.engine.engine import Engine
from onnxsd.engine.noise import check_seed
from onnxsd.engine.pipeline import Pipeline, PipelineOutput
from onnxsd.engine.request import RANDOM_SEED_BITS
from onnxsd.imaging.carrier import ImageFormat
from onnxsd.imaging.grid import grid
from onnxsd.imaging.metadata import GenerationRecord, format_parameters
from onnxsd.imaging.output import OutputPlan, grid_path, plan_output, save
from onnxsd.session import Choice, Provider

# A1111 shows the first ten hex digits of a model's hash.
SHORT_HASH = 10
SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for."""

    prompt: str
    negative_prompt: str | None
    steps: int | None
    guidance_scale: float | None
    width: int | None
    height: int | None
    seed: int | None
    sampler: str | None
    noise_schedule: str | None
    batch_size: int
    batch_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made: each image's file and seed, and how long each phase took in all."""

    files: tuple[Path, ...]
    seeds: tuple[int, ...]
    grid: Path | None
    seconds: dict[str, float]
    pipeline: Pipeline
    # Of the last batch.
    output: PipelineOutput
    # What left the GPU to make room, over all batches, and the seconds that went into loading.
    left_gpu: tuple[str, ...] = ()
    loading_s: float = 0.0


def destination(output: str | None, image_format: str | None) -> OutputPlan:
    """Where images go; `prepare` it once there is a model to make them."""
    return plan_output(output, None if image_format is None else ImageFormat(image_format))


def load(
    model: Path | None,
    *,
    choice: Callable[[], Choice],
    cuda_graph: bool,
    memory_limit_bytes: int | None,
    kernels: str,
) -> Pipeline:
    """The pipeline of the folder that is meant, with what was decided told on stderr."""
    folder, named_by = model_folder(model, lambda line: click.echo(line, err=True))
    found = choice()
    pipeline = Pipeline.from_pretrained(
        folder,
        provider=found,
        cuda_graph=cuda_graph,
        memory_limit_bytes=memory_limit_bytes,
        kernels=kernels,
    )
    click.echo(f"{folder} ({named_by}) on {found.provider.value}: {found.reason}", err=True)
    _tell_kernels(pipeline.engine)
    return pipeline


def _tell_kernels(engine: Engine) -> None:
    """Whose kernels run on CUDA and why; elsewhere there is nothing to choose."""
    kernels = engine.kernels
    if engine.choice.provider is Provider.CUDA:
        used = (
            f"onnxsd's own ({kernels.reason})"
            if kernels.own
            else f"ONNX Runtime's stock operators: {kernels.reason}"
        )
        click.echo(f"kernels: {used}", err=True)
    for warning in kernels.warnings:
        click.echo(f"warning: {warning}", err=True)


def make(pipeline: Pipeline, request: Request, plan: OutputPlan, *, with_grid: bool) -> Made:
    """Make every batch, and save its images before the next begins."""
    first = secrets.randbits(RANDOM_SEED_BITS) if request.seed is None else request.seed
    seeds = range(first, first + request.batch_count * request.batch_size)
    # The last image's seed too: a refusal comes before the work, not after half of it.
    check_seed(seeds[-1])
    # Chosen names are told apart over the whole run: else a batch would replace the images of the one before.
    chosen = _paths(plan, request.prompt, seeds) if plan.replaces else ()
    files: list[Path] = []
    images: list[Any] = []
    seconds: dict[str, float] = defaultdict(float)
    left_gpu: list[str] = []
    loading_s = 0.0
    with step_progress() as progress:
        for begin in range(0, len(seeds), request.batch_size):
            batch = slice(begin, begin + request.batch_size)
            output = _call(pipeline, request, seeds[batch][0], progress)
            for phase, passed in output.seconds.items():
                seconds[phase] += passed
            if output.gpu is not None:
                left_gpu += output.gpu.left
                loading_s += output.gpu.loading_s
            if begin == 0:
                _warn(output)
            started = time.perf_counter()
            paths = chosen[batch] or _paths(plan, request.prompt, seeds[batch])
            files += _save(pipeline, request, output, plan, paths)
            seconds["save"] += time.perf_counter() - started
            images += output.images
    overview = None
    if with_grid and len(images) > 1:
        overview = save(grid(images), grid_path(files[0]), plan.image_format, None, replace=plan.replaces)
    return Made(
        files=tuple(files),
        seeds=tuple(seeds),
        grid=overview,
        seconds=dict(seconds),
        pipeline=pipeline,
        output=output,
        left_gpu=tuple(left_gpu),
        loading_s=loading_s,
    )


def _call(pipeline: Pipeline, request: Request, seed: int, progress: StepProgress) -> PipelineOutput:
    return pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt,
        height=request.height,
        width=request.width,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        num_images_per_prompt=request.batch_size,
        seed=seed,
        sampler=request.sampler,
        noise_schedule=request.noise_schedule,
        callback_on_step_end=progress.step,
    )


def _warn(output: PipelineOutput) -> None:
    for warning in output.warnings:
        click.echo(f"warning: {warning}", err=True)


def _paths(plan: OutputPlan, prompt: str, seeds: Sequence[int]) -> tuple[Path, ...]:
    return plan.paths(seeds=seeds, prompts=[prompt] * len(seeds))


def _save(
    pipeline: Pipeline, request: Request, output: PipelineOutput, plan: OutputPlan, paths: Sequence[Path]
) -> list[Path]:
    settings, manifest = output.settings, pipeline.engine.folder.manifest
    denoiser = manifest.component(manifest.latent.denoiser)
    saved = []
    for path, image, seed in zip(paths, output.images, settings.seeds, strict=True):
        record = GenerationRecord(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt or "",
            steps=settings.num_inference_steps,
            sampler=settings.sampler.title,
            noise_schedule=settings.schedule_title,
            guidance_scale=settings.guidance_scale,
            seed=seed,
            width=settings.width,
            height=settings.height,
            model_hash=denoiser.data.sha256[:SHORT_HASH],
            model=Path(manifest.source).name,
            rng="CPU",
        )
        saved.append(save(image, path, plan.image_format, format_parameters(record), replace=plan.replaces))
    return saved


def tell(made: Made, *, as_json: bool) -> None:
    """The files on stdout, with seeds and seconds."""
    if as_json:
        print_object(_as_object(made))
        return
    for path, seed in zip(made.files, made.seeds, strict=True):
        click.echo(f"{path} (seed {seed})")
    if made.grid is not None:
        click.echo(str(made.grid))
    phases = ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in made.seconds.items())
    click.echo(phases, err=True)
    if made.left_gpu:
        names = ", ".join(dict.fromkeys(made.left_gpu))
        click.echo(
            f"to make room, {names} left the GPU ({len(made.left_gpu)} times something did);"
            f" {made.loading_s:.2f} s of the above went into loading",
            err=True,
        )


def _as_object(made: Made) -> dict[str, Any]:
    settings, engine = made.output.settings, made.pipeline.engine
    return {
        "schema": SCHEMA,
        "files": [str(path) for path in made.files],
        "grid": None if made.grid is None else str(made.grid),
        "seeds": list(made.seeds),
        "seconds": {phase: round(seconds, 4) for phase, seconds in made.seconds.items()},
        "provider": engine.choice.provider.value,
        "kernels": {"own": engine.kernels.own, "reason": engine.kernels.reason},
        "peak_memory_bytes": peak_memory_bytes(),
        "gpu": _gpu_object(made),
        "width": settings.width,
        "height": settings.height,
        "steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "sampler": settings.sampler.key,
        "warnings": [*engine.kernels.warnings, *made.output.warnings],
    }


def _gpu_object(made: Made) -> dict[str, Any] | None:
    """What the GPU's memory held at most, and what had to leave it; None on a CPU."""
    use = made.output.gpu
    if use is None:
        return None
    return {
        "peak_memory_bytes": use.peak_bytes,
        "left": list(made.left_gpu),
        "loading_seconds": round(made.loading_s, 4),
    }


def peak_memory_bytes() -> int | None:
    """The most memory that this process held on the host; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
