"""The step as one graph, on a CPU with bodies for the GPU's operators: the bits of the loop on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.engine.conditions import Conditions
from onnxsd.engine.denoise import with_guidance
from onnxsd.engine.loop import Loop, loop_shape
from onnxsd.engine.step_graph import author_loop
from onnxsd.engine.work import Denoising
from onnxsd.errors import ConfigurationError
from onnxsd.models import catalogue
from onnxsd.models.components import Blueprint, Component, Stepwise, component
from onnxsd.models.conditioning import Prepared, Projections, author_projections
from onnxsd.models.twin import narrow
from onnxsd.ops import EXPORTED, Ops, Scope, Target, Tensor
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.samplers import Table, find, parse, run, table_for
from onnxsd.samplers.registry import SAMPLERS
from onnxsd.session import Optimization, Provider, Session, SessionSettings
from onnxsd.tensors import DType
from onnxsd.verify.bodies import with_reference_bodies
from onnxsd.verify.runnable import random_arrays, session_of

Array = npt.NDArray[Any]
STATIC = SessionSettings(optimize=Optimization.DISABLED, threads=1)
SCHEDULER = catalogue.load("sdxl-base-1.0").scheduler
LATENT = (2, 4, 8, 12)
TOKENS, WIDTH = 5, 16


def table_of(sampler: str, steps: int) -> Table:
    found = find(sampler)
    return table_for(found, parse(SCHEDULER, found.scheduler_class), steps, None)


def work_of(table: Table, *, guidance: bool, width: int = WIDTH, pooled: int | None = None) -> Denoising:
    """Seeded random work for one table."""
    random = np.random.default_rng(7)

    def conditions() -> Conditions:
        return Conditions(
            hidden_states=random.standard_normal((LATENT[0], TOKENS, width), np.float32),
            pooled=random.standard_normal((LATENT[0], pooled), np.float32) if pooled else None,
            time_ids=np.array([[64, 96, 0, 0, 64, 96]] * LATENT[0], np.float32) if pooled else None,
        )

    noisy = bool(table.noise_rows.any())
    return Denoising(
        table=table,
        latents=random.standard_normal(LATENT, np.float32),
        conditional=conditions(),
        unconditional=conditions() if guidance else None,
        guidance_scale=4.5,
        noise=random.standard_normal((len(table), *LATENT), np.float32) if noisy else None,
    )


def doubling_body(ops: Ops, blueprint: Blueprint, sample: Tensor, prepared: Prepared) -> Tensor:
    """A denoiser whose output is exact in any arithmetic, x + x; what it asks of the text it leaves alone."""
    prepared.from_text(Scope("attention.to_k"), 4)
    return ops.add(sample, sample)


def doubling_conditions(
    ops: Ops, blueprint: Blueprint, wanted: Projections, sizes: Mapping[str, int]
) -> None:
    """What was asked for, of the inputs that every loop gives."""
    calls, batch = sizes["calls"], sizes["batch"]
    times = ops.input("timestep", (calls * batch,), dtype=DType.FLOAT32)
    context = ops.input("encoder_hidden_states", (batch, sizes["sequence"], WIDTH))
    time = ops.sinusoid(times, width=2, flip_sin_to_cos=False, freq_shift=0.0)
    author_projections(ops, wanted, time=time, context=context, calls=calls, batch=batch)


DOUBLING = Blueprint(
    component=Component(
        name="doubling",
        source="doubling",
        weights_name="none",
        author=lambda ops, blueprint, sizes: None,
        symbols=(),
        stepwise=Stepwise(body=doubling_body, conditions=doubling_conditions),
    ),
    config={},
)


def loop_of(
    blueprint: Blueprint,
    target: Target,
    work: Denoising,
    weights: Mapping[str, Array] | None = None,
    *,
    dtype: DType = DType.FLOAT32,
) -> Loop:
    """A loop on the CPU, by reference bodies, over given or random weights; nothing is captured here."""

    def make(graph: AuthoredGraph) -> Session:
        runnable = dataclasses.replace(graph, model=with_reference_bodies(graph.model))
        given = random_arrays(graph.recipes) if weights is None else weights
        arrays = {recipe.name: given[recipe.name] for recipe in graph.recipes}
        return Session.create(to_bytes(runnable), provider=Provider.CPU, options=STATIC, external=arrays)

    shape = loop_shape(work)
    graphs = author_loop(blueprint, target, dtype, shape)
    return Loop(make, (graphs.step, graphs.conditions), shape)


def through(loop: Loop, work: Denoising) -> Array:
    loop.prepare(work)
    for _ in range(len(work.table)):
        loop.advance()
    return loop.latents()


def on_the_host(work: Denoising) -> Array:
    """What the host's loop makes of the doubling denoiser."""

    def call(scaled: Array, timestep: float) -> Array:
        if work.unconditional is None:
            return scaled + scaled
        both = np.concatenate([scaled, scaled])
        return with_guidance(both + both, work.guidance_scale)

    noise = work.noise
    return run(work.table, call, work.latents, noise=None if noise is None else lambda index: noise[index])


@pytest.mark.parametrize("target", EXPORTED)
@pytest.mark.parametrize("guidance", [True, False])
@pytest.mark.parametrize("sampler", [sampler.key for sampler in SAMPLERS])
def test_every_sampler_in_the_graph_gives_the_bits_of_the_host(
    sampler: str, guidance: bool, target: Target
) -> None:
    work = work_of(table_of(sampler, 7), guidance=guidance)

    np.testing.assert_array_equal(through(loop_of(DOUBLING, target, work), work), on_the_host(work))


def test_a_loop_serves_other_steps_prompts_and_guidance_one_after_another() -> None:
    first = work_of(table_of("dpm++2m", 7), guidance=True)
    longer = dataclasses.replace(work_of(table_of("dpm++2m", 12), guidance=True), guidance_scale=2.0)
    loop = loop_of(DOUBLING, Target.CUDA, first)

    for work in (first, longer, first):
        np.testing.assert_array_equal(through(loop, work), on_the_host(work))


def test_what_an_abandoned_loop_left_does_not_show() -> None:
    work = work_of(table_of("dpm++2m", 7), guidance=True)
    loop = loop_of(DOUBLING, Target.CUDA, work)
    loop.prepare(work)
    loop.advance()

    np.testing.assert_array_equal(through(loop, work), on_the_host(work))


def twin(name: str) -> Blueprint:
    pipeline = catalogue.load(name)
    return Blueprint(component=component("unet"), config=narrow(pipeline.models["unet"], depth=2), time_ids=6)


@pytest.mark.parametrize("target", EXPORTED)
@pytest.mark.parametrize("name", ["sdxl-base-1.0", "sd-1.5"])
@pytest.mark.parametrize("guidance", [True, False])
def test_what_is_computed_before_the_loop_is_what_each_call_would_compute(
    name: str, guidance: bool, target: Target
) -> None:
    blueprint = twin(name)
    whole = blueprint.author(target, DType.FLOAT32)
    inputs = {entry[0]: entry[2] for entry in whole.inputs}
    context = inputs["encoder_hidden_states"][2]
    assert isinstance(context, int)
    pooled = inputs["text_embeds"][1] if "text_embeds" in inputs else None
    assert pooled is None or isinstance(pooled, int)
    work = work_of(table_of("euler", 3), guidance=guidance, width=context, pooled=pooled)
    bodies = dataclasses.replace(whole, model=with_reference_bodies(whole.model))
    weights = random_arrays(whole.recipes)
    session = session_of(bodies, weights, provider=Provider.CPU, label="whole")

    def call(scaled: Array, timestep: float) -> Array:
        sample = scaled if work.unconditional is None else np.concatenate([scaled, scaled])
        feeds = {**work.conditions.feeds(), "sample": sample, "timestep": np.float32(timestep)}
        output = session.run({name: np.asarray(value, np.float32) for name, value in feeds.items()})
        found = output["out_sample"]
        return found if work.unconditional is None else with_guidance(found, work.guidance_scale)

    exact = run(work.table, call, work.latents)
    found = through(loop_of(blueprint, target, work, weights), work)
    assert np.linalg.norm(found - exact) <= 1e-5 * np.linalg.norm(exact)


def test_a_component_that_is_no_denoiser_is_refused() -> None:
    blueprint = Blueprint(component=component("vae_decoder"), config={})
    work = work_of(table_of("euler", 3), guidance=True)

    with pytest.raises(ConfigurationError, match="vae_decoder is not a denoiser"):
        author_loop(blueprint, Target.CUDA, DType.FLOAT32, loop_shape(work))
