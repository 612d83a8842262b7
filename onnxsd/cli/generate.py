"""`onnxsd generate`: images from a prompt."""

from __future__ import annotations

from pathlib import Path

import click

from onnxsd.cli.sizes import MemorySize


def _size(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """WIDTHxHEIGHT as two numbers."""
    if value is None:
        return None
    width, times, height = value.lower().replace("×", "x").partition("x")
    if not (times and width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT, as 1024x768")
    return int(width), int(height)


@click.command("generate")
@click.argument("prompt")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="An exported folder or a built-in model; by default $ONNXSD_MODEL, the last export, else `shapes`.",
)
@click.option("-n", "--negative-prompt", help="What the image should not show.")
@click.option("--steps", "--num-inference-steps", type=click.IntRange(min=1), help="Denoising steps.")
@click.option(
    "--guidance-scale", "--cfg-scale", type=float, help="How strictly to follow the prompt; 1 is off."
)
@click.option("--width", type=click.IntRange(min=1), help="Pixels, a multiple of 8.")
@click.option("--height", type=click.IntRange(min=1), help="Pixels, a multiple of 8.")
@click.option("--size", callback=_size, metavar="WxH", help="Width and height at once.")
@click.option(
    "--seed", type=click.IntRange(min=0), help="The same seed gives the same image; random if not given."
)
@click.option(
    "--sampler", "--scheduler", help="A name of `onnxsd samplers`; by default the checkpoint's own."
)
@click.option("--noise-schedule", help="normal or karras; by default the checkpoint's own.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Images at once."
)
@click.option(
    "--batch-count", type=click.IntRange(min=1), default=1, show_default=True, help="Batches in turn."
)
@click.option("--provider", default="auto", show_default=True, help="cuda, cpu, tensorrt or auto.")
@click.option(
    "--device",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Which GPU of those that CUDA_VISIBLE_DEVICES leaves, counted from 0 in its order.",
)
@click.option(
    "--memory-limit",
    "memory_limit_bytes",
    type=MemorySize(),
    help="The most GPU memory to take, as 8GB; models then leave the GPU for one another where they must.",
)
@click.option("--no-cuda-graph", is_flag=True, help="Launch each kernel from the host.")
@click.option(
    "--own-kernels",
    is_flag=True,
    help="Insist on onnxsd's own CUDA kernels; by default where they can be used.",
)
@click.option("--stock-kernels", is_flag=True, help="Use ONNX Runtime's operators alone.")
@click.option("-o", "--output", help="A file, a folder, or a pattern with {seed}, {index}, {prompt}.")
@click.option(
    "--format", "image_format", type=click.Choice(["png", "jpeg", "webp"]), help="By default what -o says."
)
@click.option("--grid", "with_grid", is_flag=True, help="Write an overview of several images too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    prompt: str,
    model: Path | None,
    negative_prompt: str | None,
    steps: int | None,
    guidance_scale: float | None,
    width: int | None,
    height: int | None,
    size: tuple[int, int] | None,
    seed: int | None,
    sampler: str | None,
    noise_schedule: str | None,
    batch_size: int,
    batch_count: int,
    provider: str,
    device: int,
    memory_limit_bytes: int | None,
    no_cuda_graph: bool,
    own_kernels: bool,
    stock_kernels: bool,
    output: str | None,
    image_format: str | None,
    with_grid: bool,
    as_json: bool,
) -> None:
    """Make images from PROMPT."""
    from onnxsd.cli.early import resolved_meanwhile
    from onnxsd.errors import UsageError

    if own_kernels and stock_kernels:
        raise UsageError("--own-kernels and --stock-kernels exclude each other", hint="leave one of them out")
    kernels = "own" if own_kernels else "stock" if stock_kernels else "auto"
    # Starting CUDA and importing the graph's libraries take a second or two each.
    with resolved_meanwhile(provider, device, kernels) as choice:
        from onnxsd.cli import making

    if size is not None:
        if width is not None or height is not None:
            raise UsageError("--size says what --width and --height say", hint="leave one of them out")
        width, height = size
    request = making.Request(
        prompt=prompt,
        negative_prompt=negative_prompt,
        steps=steps,
        guidance_scale=guidance_scale,
        width=width,
        height=height,
        seed=seed,
        sampler=sampler,
        noise_schedule=noise_schedule,
        batch_size=batch_size,
        batch_count=batch_count,
    )
    destination = making.destination(output, image_format)
    pipeline = making.load(
        model,
        choice=choice,
        cuda_graph=not no_cuda_graph,
        memory_limit_bytes=memory_limit_bytes,
        kernels=kernels,
    )
    destination.prepare()
    made = making.make(pipeline, request, destination, with_grid=with_grid)
    making.tell(made, as_json=as_json)
