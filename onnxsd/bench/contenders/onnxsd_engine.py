"""How the engine's denoiser and decoder are called for times and errors: all that the bench knows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.bench.contenders.contender import timed_blocks
from onnxsd.engine.conditions import Conditions
from onnxsd.engine.decoding import decoder_for
from onnxsd.engine.engine import Engine
from onnxsd.engine.gpu import Gpu
from onnxsd.engine.loop import loop_for, loop_shape
from onnxsd.engine.work import Denoising
from onnxsd.samplers import find, parse, table_for
from onnxsd.session import Provider

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
WARM_UP = 3
# Steps of the schedule whose graph is timed on a GPU.
STEPS = 30
LATENT = "latent_sample"


def unet_seconds(
    engine: Engine, feeds: Feeds, *, guidance_scale: float, calls: int, blocks: int
) -> list[float]:
    """Seconds of one call of the denoiser on these inputs, a mean for each block of calls.

    On a GPU a call is a step of the engine's loop: guidance and the sampler are in its graph.
    """
    gpu = engine.gpu
    if gpu is not None:
        return gpu.worker.run(lambda: _step_seconds(engine, gpu, feeds, guidance_scale, calls, blocks))
    return _seconds(_on_host(engine, engine.folder.manifest.latent.denoiser, feeds), calls, blocks)


def vae_seconds(engine: Engine, feeds: Feeds, *, calls: int, blocks: int) -> list[float]:
    """Seconds of decoding all latents, one image after another as the pipeline does.

    On a GPU it ends with a picture's bytes in the GPU's memory: the engine's graph goes so far.
    """
    gpu = engine.gpu
    if gpu is not None:
        return gpu.worker.run(lambda: _decode_seconds(gpu, feeds[LATENT], calls, blocks))
    rows = [_on_host(engine, "vae_decoder", {LATENT: row[None]}) for row in feeds[LATENT]]
    return _seconds(lambda: [row() for row in rows], calls, blocks)


def unet_output(engine: Engine, feeds: Feeds) -> Array:
    """What the denoiser gives."""
    return _output(engine, engine.folder.manifest.latent.denoiser, feeds)


def vae_output(engine: Engine, feeds: Feeds) -> Array:
    """What the decoder gives, image by image."""
    return np.concatenate([_output(engine, "vae_decoder", {LATENT: row[None]}) for row in feeds[LATENT]])


def _output(engine: Engine, component: str, feeds: Feeds) -> Array:
    if engine.choice.provider is Provider.CUDA:
        (found,) = engine.run(component, _sizes(feeds), feeds).values()
        return found
    return _on_host(engine, component, feeds)()


def _seconds(call: Callable[[], object], calls: int, blocks: int) -> list[float]:
    for _ in range(WARM_UP):
        call()
    # A call returns when the device has finished: there is nothing more to wait for.
    return timed_blocks(call, lambda: None, calls=calls, blocks=blocks)


def _on_host(engine: Engine, component: str, feeds: Feeds) -> Callable[[], Array]:
    session = engine.session(component, _sizes(feeds))
    given = {spec.name: feeds[spec.name].astype(spec.dtype) for spec in session.inputs}

    def run() -> Array:
        (found,) = session.run(given).values()
        return found

    return run


def _sizes(feeds: Feeds) -> dict[str, int]:
    latents = feeds["sample"] if "sample" in feeds else feeds[LATENT]
    sizes = dict(zip(("batch", "height", "width"), np.delete(latents.shape, 1).tolist(), strict=True))
    if "encoder_hidden_states" in feeds:
        sizes["sequence"] = feeds["encoder_hidden_states"].shape[1]
    return sizes


def _decode_seconds(gpu: Gpu, images: Array, calls: int, blocks: int) -> list[float]:
    decoder = decoder_for(gpu, images[:1].shape)
    decoder.set("latents", images[:1])
    one = _seconds(decoder.run, calls * len(images), blocks)
    return [seconds * len(images) for seconds in one]


def _step_seconds(
    engine: Engine, gpu: Gpu, feeds: Feeds, guidance_scale: float, calls: int, blocks: int
) -> list[float]:
    """Of the captured step; it counts its own steps, so that the loop begins anew before each block."""
    work = work_for(engine, feeds, guidance_scale)
    loop = loop_for(gpu, loop_shape(work))
    found = []
    for _ in range(blocks):
        loop.prepare(work)
        for _ in range(WARM_UP):
            loop.advance()
        found += timed_blocks(loop.advance, lambda: None, calls=calls, blocks=1)
    return found


def work_for(engine: Engine, feeds: Feeds, guidance_scale: float) -> Denoising:
    """The inputs as a run of the engine's loop; with guidance, the first half is unconditional."""
    names = {"hidden_states": "encoder_hidden_states", "pooled": "text_embeds", "time_ids": "time_ids"}
    given = {field: feeds[name] for field, name in names.items() if name in feeds}
    guided = guidance_scale > 1
    images = len(feeds["sample"]) // (2 if guided else 1)
    scheduler = engine.folder.json("scheduler/scheduler_config.json")
    sampler = find(parse(scheduler).scheduler_class)
    table = table_for(sampler, parse(scheduler, sampler.scheduler_class), STEPS, None)
    latents = feeds["sample"][:images]
    noise = np.zeros((len(table), *latents.shape), np.float32) if table.noise_rows.any() else None
    return Denoising(
        table=table,
        latents=latents,
        conditional=Conditions(**{field: value[-images:] for field, value in given.items()}),
        unconditional=Conditions(**{field: value[:images] for field, value in given.items()})
        if guided
        else None,
        guidance_scale=guidance_scale,
        noise=noise,
    )
