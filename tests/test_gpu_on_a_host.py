"""The engine's GPU path from weights to pictures over a fake device: what it holds, drops and survives."""

from __future__ import annotations

import dataclasses
import gc
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from checkpoints import Workshop
from fake_cuda import FakeCuda
from host_gpu import OWN, STOCK, HostGpu, pipeline_over

from onnxsd.artifact.folder import Folder
from onnxsd.engine.gpu import session_settings
from onnxsd.engine.memory import RUNTIME_BYTES
from onnxsd.engine.pipeline import Pipeline, PipelineOutput
from onnxsd.engine.pixel_graph import author_pixels
from onnxsd.engine.step_graph import LoopShape, author_loop
from onnxsd.errors import DeviceMemoryError, NotReadyError
from onnxsd.models import catalogue
from onnxsd.models.components import Blueprint, component
from onnxsd.ops import Target
from onnxsd.tensors import DType
from onnxsd.weights.recipe import Recipe
from onnxsd.weights.stream import layout

Array = npt.NDArray[Any]
COMPONENTS = ("text_encoder", "text_encoder_2", "unet", "vae_decoder")
SMALL: dict[str, Any] = {"height": 64, "width": 64}
WIDE: dict[str, Any] = {"height": 64, "width": 96}
# 9 rows of the latent, which are 5 and 3 further in.
ODD: dict[str, Any] = {"height": 72, "width": 64}
ABSURD: dict[str, Any] = {"height": 6400, "width": 6400}


@pytest.fixture
def folder(workshop: Workshop) -> Folder:
    return workshop.export()


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def pipeline(cuda: FakeCuda, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    return pipeline_over(cuda, folder, monkeypatch)


def make(pipeline: Pipeline, **options: Any) -> PipelineOutput:
    """A picture of two steps."""
    return pipeline("a lighthouse", **{"num_inference_steps": 2, "seed": 3, **SMALL, **options})


def picture(pipeline: Pipeline, **options: Any) -> Array:
    return np.stack([np.asarray(image) for image in make(pipeline, **options).images])


def test_it_is_the_picture_of_a_cpu(pipeline: Pipeline, folder: Folder) -> None:
    """Both compute in float32, in different orders."""
    on_cpu = Pipeline.from_pretrained(folder.path, provider="cpu")

    for options in (SMALL, {**WIDE, "num_images_per_prompt": 2, "sampler": "euler_a"}):
        found, exact = (picture(one, **options).astype(int) for one in (pipeline, on_cpu))
        assert np.abs(found - exact).max() <= 1


def test_own_kernels_make_the_pictures_of_stock_ones(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In graphs of their own for every component, by bodies that round to float16 at other places."""
    pictures, operators = {}, {}
    for name, kernels in (("own", OWN), ("stock", STOCK)):
        folder = workshop.export(precision=DType.FLOAT16)
        pipeline = pipeline_over(FakeCuda(), folder, monkeypatch, kernels=kernels)
        assert isinstance(pipeline.engine.gpu, HostGpu)
        as_array = make(pipeline, output_type="np").images[0] * 255
        pictures[name] = np.stack([as_array, picture(pipeline)[0].astype(np.float32)])
        operators[name] = set(pipeline.engine.gpu.operators)

    assert np.abs(pictures["own"] - pictures["stock"]).mean() < 1
    own_ones = {"FusedGroupNorm", "FusedLayerNorm", "GEGLU", "Interleave", "FusedConcat"}
    assert own_ones <= operators["own"]
    assert not own_ones & operators["stock"]
    assert not {"GroupNorm", "SkipGroupNorm", "LayerNormalization"} & operators["own"]


@pytest.fixture
def half(workshop: Workshop) -> Folder:
    """A folder whose graphs own kernels take; those of odd sizes ask for more of its weights."""
    return workshop.export(precision=DType.FLOAT16)


def test_a_size_of_another_kind_brings_the_weights_that_are_missing(
    half: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = picture(pipeline_over(FakeCuda(), half, monkeypatch, kernels=OWN), **ODD)
    cuda = FakeCuda()
    pipeline = pipeline_over(cuda, half, monkeypatch, kernels=OWN)
    even, before = picture(pipeline), len(cuda.allocated)
    odd = picture(pipeline, **ODD)
    brought, taken = cuda.allocated[before:], cuda.used_bytes

    np.testing.assert_array_equal(odd, alone)
    for exact, options in ((even, SMALL), (odd, ODD)):
        np.testing.assert_array_equal(picture(pipeline, **options), exact)
    assert cuda.used_bytes == taken
    # A UNet's upsamplers cut, a VAE's do not: one block of weights, and a session for each of three graphs.
    plain = [
        entry.recipe
        for entry in half.manifest.component("unet").initializers
        if entry.recipe.name.endswith(".upsamplers.0.conv.weight")
    ]
    assert len(plain) == 2
    assert (len(brought), brought[0]) == (4, layout(plain)[1])

    pipeline.engine.release("unet")
    gc.collect()
    text_encoders, decoder = cuda.allocated[:4], [*cuda.allocated[7:9], brought[-1]]
    assert cuda.used_bytes == sum([*text_encoders, *decoder])
    np.testing.assert_array_equal(picture(pipeline, **ODD), odd)
    pipeline.release()
    assert not cuda.device
    assert cuda.nothing_on_the_host, cuda.misused


def test_weights_of_two_kinds_that_do_not_fit_together_take_turns(
    half: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, needed = {}, []
    for name, options in (("even", SMALL), ("odd", ODD)):
        cuda = FakeCuda()
        exact[name] = picture(pipeline_over(cuda, half, monkeypatch, kernels=OWN), **options)
        # The UNet's weights and its two sessions.
        needed.append(sum(cuda.allocated[4:7]))
    limit = RUNTIME_BYTES + max(needed) + 1024
    limited = pipeline_over(FakeCuda(), half, monkeypatch, limit_bytes=limit, kernels=OWN)

    for name, options in (("even", SMALL), ("odd", ODD), ("even", SMALL), ("odd", ODD)):
        made = make(limited, **options)
        np.testing.assert_array_equal(np.asarray(made.images[0]), exact[name][0])
        assert made.gpu is not None
        assert made.gpu.peak_bytes <= limit


def test_weights_of_another_kind_leave_for_activations_too(
    half: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both kinds lie there, so nothing is missing; a large size fits beside its own alone."""

    def run_unet(pipeline: Pipeline, height: int, width: int) -> None:
        sizes = {"batch": 2, "height": height, "width": width, "sequence": 77}
        gpu = pipeline.engine.gpu
        assert gpu is not None
        blueprint = half.blueprint("unet")
        gpu.bound(
            ("unet", height, width), "unet", lambda: (blueprint.author(gpu.target, DType.FLOAT16, sizes),)
        )

    cuda = FakeCuda()
    run_unet(pipeline_over(cuda, half, monkeypatch, kernels=OWN), 32, 32)
    limit = RUNTIME_BYTES + sum(cuda.allocated) + 1024
    cuda = FakeCuda()
    limited = pipeline_over(cuda, half, monkeypatch, limit_bytes=limit, kernels=OWN)

    run_unet(limited, 8, 8)
    run_unet(limited, 9, 8)
    both = len(cuda.allocated)
    run_unet(limited, 32, 32)

    assert both == 4
    assert RUNTIME_BYTES + cuda.used_bytes <= limit


def test_where_more_weights_cannot_be_loaded_those_that_are_there_serve_on(
    half: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda()
    pipeline = pipeline_over(cuda, half, monkeypatch, kernels=OWN)
    even = picture(pipeline)
    cuda.fail("cuMemcpyHtoDAsync_v2", 700)
    with pytest.raises(NotReadyError, match="cuMemcpyHtoDAsync_v2 failed"):
        make(pipeline, **ODD)
    cuda.heal()
    before = len(cuda.allocated)

    np.testing.assert_array_equal(picture(pipeline), even)
    assert len(cuda.allocated) == before
    assert picture(pipeline, **ODD).shape == (1, 72, 64, 3)


def test_a_session_on_own_kernels_is_given_them() -> None:
    given, stock = (
        session_settings("unet", DType.FLOAT16, cuda_graph=True, operators=operators)
        for operators in (OWN.operators, None)
    )

    assert given.custom_operators == OWN.operators
    assert stock == dataclasses.replace(given, custom_operators=None)


def test_what_is_released_is_given_back(pipeline: Pipeline, cuda: FakeCuda) -> None:
    """Weights with every session over them, exactly."""
    first = picture(pipeline)
    pipeline.engine.release("vae_decoder")
    without_decoder = cuda.used_bytes
    weights_bytes = pipeline.engine.folder.manifest.component("vae_decoder").data.size_bytes

    np.testing.assert_array_equal(picture(pipeline), first)
    assert cuda.used_bytes > without_decoder + weights_bytes
    make(pipeline, output_type="np")
    pipeline.engine.release("vae_decoder")
    gc.collect()
    assert cuda.used_bytes == without_decoder
    for name in COMPONENTS:
        pipeline.engine.release(name)

    gc.collect()
    assert not cuda.device
    assert cuda.nothing_on_the_host, cuda.misused


def test_a_pipeline_that_nobody_has_any_more_holds_nothing(
    cuda: FakeCuda, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: memory that waits for a garbage collection is missing for the next pipeline."""
    dropped = pipeline_over(cuda, folder, monkeypatch)
    make(dropped)
    assert cuda.device
    gc.collect()
    gc.disable()
    try:
        del dropped
        assert not cuda.device
    finally:
        gc.enable()


def test_a_pipeline_that_gave_all_back_makes_the_same_picture(pipeline: Pipeline, cuda: FakeCuda) -> None:
    exact = picture(pipeline)

    pipeline.release()

    assert not cuda.device
    np.testing.assert_array_equal(picture(pipeline), exact)


def test_a_second_round_of_sizes_takes_nothing_more(pipeline: Pipeline, cuda: FakeCuda) -> None:
    asked: list[dict[str, Any]] = [
        SMALL,
        WIDE,
        {"num_images_per_prompt": 2},
        {"sampler": "euler_a"},
        {"guidance_scale": 1.0},
        {"sampler": "dpm++2m", "num_inference_steps": 4},
        {"output_type": "np"},
        {"output_type": "latent"},
    ]
    first = [make(pipeline, **options).images for options in asked]
    taken = cuda.used_bytes

    for images, options in zip(first, asked, strict=True):
        again = make(pipeline, **options)
        for one, other in zip(images, again.images, strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert again.gpu is not None
        assert again.gpu.loading_s == 0
    assert cuda.used_bytes == taken


def test_a_limit_makes_the_same_pictures_in_less(
    pipeline: Pipeline, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (SMALL, WIDE, SMALL)
    exact = [picture(pipeline, **size) for size in sizes]
    needed = make(pipeline)
    assert needed.gpu is not None
    assert needed.gpu.left == ()

    cuda = FakeCuda()
    probe = pipeline_over(cuda, folder, monkeypatch)
    make(probe)
    limit = RUNTIME_BYTES + cuda.used_bytes + (800 << 10)
    assert limit < needed.gpu.peak_bytes
    limited = pipeline_over(FakeCuda(), folder, monkeypatch, limit_bytes=limit)
    made = [make(limited, **size) for size in sizes]

    for found, pixels in zip(made, exact, strict=True):
        np.testing.assert_array_equal(np.asarray(found.images[0]), pixels[0])
        assert found.gpu is not None
        assert found.gpu.peak_bytes <= limit
    left = [found.gpu.left for found in made if found.gpu is not None]
    assert left[0] == ()
    # What the first size alone needed was used longest ago.
    assert left[1][:2] == ("unet's activations", "vae_decoder's activations")
    assert left[2]


def test_pictures_are_made_on_a_device_that_holds_one_model_at_a_time(
    pipeline: Pipeline, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a limit, models leave when memory has run out."""
    exact = picture(pipeline)
    size_bytes = pipeline.engine.folder.manifest.component("unet").data.size_bytes
    cuda = FakeCuda(total_bytes=size_bytes + (3 << 20))
    tight = pipeline_over(cuda, folder, monkeypatch)

    for _ in range(2):
        made = make(tight)
        np.testing.assert_array_equal(np.asarray(made.images[0]), exact[0])
        assert made.gpu is not None
        assert "unet" in made.gpu.left


def test_what_cannot_fit_says_what_can_and_breaks_nothing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda(total_bytes=1200 << 20)
    pipeline = pipeline_over(cuda, folder, monkeypatch)
    first = picture(pipeline)

    with pytest.raises(DeviceMemoryError) as raised:
        make(pipeline, **ABSURD)

    assert raised.value.exit_code == 5
    assert re.search(r"1 image of \d+×\d+ should fit", raised.value.hint or "")
    np.testing.assert_array_equal(picture(pipeline), first)
    assert cuda.nothing_on_the_host, cuda.misused


def test_a_limit_that_holds_nothing_says_so(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pipeline_over(FakeCuda(), folder, monkeypatch, limit_bytes=RUNTIME_BYTES + (1 << 20))

    with pytest.raises(DeviceMemoryError, match="cannot hold unet") as raised:
        make(pipeline)

    assert "raise the memory limit" in (raised.value.hint or "")


def test_an_error_keeps_no_memory_of_what_failed(
    pipeline: Pipeline, cuda: FakeCuda, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's second session finds no room: whoever still looks at the error has not the first one's."""
    make(pipeline)
    # Weights and a session of each text encoder, then the denoiser's.
    weights_bytes, step_bytes, conditions_bytes = cuda.allocated[4:7]
    tight = FakeCuda(total_bytes=weights_bytes + step_bytes + conditions_bytes // 2)
    failing = pipeline_over(tight, folder, monkeypatch)

    with pytest.raises(DeviceMemoryError) as raised:
        make(failing)

    assert raised.value.__traceback__ is not None
    # Nothing was left by then that could have left.
    assert tight.allocated[4:] == [weights_bytes, step_bytes]
    assert tight.used_bytes == weights_bytes


def test_to_stop_in_the_middle_leaves_no_trace(pipeline: Pipeline, cuda: FakeCuda) -> None:
    exact = picture(pipeline, num_inference_steps=4)
    taken = cuda.used_bytes

    def stop(done: int, steps: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(pipeline, num_inference_steps=4, seed=9, callback_on_step_end=stop)

    np.testing.assert_array_equal(picture(pipeline, num_inference_steps=4), exact)
    assert cuda.used_bytes == taken


@pytest.mark.parametrize("name", ["cuMemcpyHtoDAsync_v2", "cuStreamCreate"])
def test_a_failing_upload_leaves_nothing_and_may_be_tried_again(
    pipeline: Pipeline, cuda: FakeCuda, name: str
) -> None:
    cuda.fail(name, 700)
    with pytest.raises(NotReadyError, match=f"{name} failed: CUDA_ERROR_ILLEGAL_ADDRESS"):
        make(pipeline)
    gc.collect()
    assert not cuda.device
    assert cuda.nothing_on_the_host, cuda.misused
    cuda.heal()

    assert picture(pipeline).shape == (1, 64, 64, 3)


def weights_of_the_loop(unet: Blueprint, target: Target, *, side: int, guided: bool) -> frozenset[Recipe]:
    """What a folder holds of what both graphs of a loop over latents of this size ask for."""
    shape = LoopShape(
        images=1, channels=4, height=side, width=side, sequence=77, calls=32, kept=1, guided=guided,
        noisy=False,
    )  # fmt: skip
    graphs = author_loop(unet, target, DType.FLOAT16, shape)
    return frozenset(recipe.stored for graph in (graphs.step, graphs.conditions) for recipe in graph.recipes)


@pytest.mark.parametrize("target", [Target.CUDA, Target.OWN])
def test_every_graph_of_a_component_asks_for_weights_of_the_same_tensors(target: Target) -> None:
    """So that any exported folder has what the graphs of every size ask for."""
    models = catalogue.load("sdxl-base-1.0").models
    unet = Blueprint(component=component("unet"), config=models["unet"], time_ids=6)
    vae = Blueprint(component=component("vae_decoder"), config=models["vae"])

    loops = {
        weights_of_the_loop(unet, target, side=side, guided=guided)
        for side, guided in ((8, True), (9, True), (256, False))
    }
    decoders = {
        frozenset(
            recipe.stored
            for recipe in author_pixels(
                vae, target, DType.FLOAT16, latent=(1, 4, side, side), scaling_factor=0.5
            ).recipes
        )
        for side in (8, 9, 256)
    }

    assert loops == {frozenset(unet.author(target, DType.FLOAT16).recipes)}
    assert decoders == {frozenset(vae.author(target, DType.FLOAT16).recipes)}
