"""The cuda target and the engine on a GPU: real kernels against the bodies that stand for them on a CPU.

Run with `--run gpu`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from authoring import relative_error
from checkpoints import Workshop

from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.engine.pipeline import Pipeline
from onnxsd.models import catalogue
from onnxsd.models.components import COMPONENTS, Blueprint
from onnxsd.models.twin import narrow
from onnxsd.ops import EXPORTED, Target
from onnxsd.session import Optimization, Provider, Session, SessionSettings, to_device
from onnxsd.tensors import DType
from onnxsd.verify.bodies import with_reference_bodies
from onnxsd.verify.cases import cases
from onnxsd.verify.runnable import random_arrays, random_inputs, session_of

pytestmark = pytest.mark.gpu

Array = npt.NDArray[Any]
STATIC = SessionSettings(optimize=Optimization.DISABLED)
SYMBOLIC = SessionSettings(cpu_nodes=True)
# Of a whole model: float32 without TF32 against float32 (measured: 4e-6 at most), and fp16 against bodies
# that round after each node, two computations that each differ from float32 by up to 3e-3 (measured: 4.2e-3).
BOUNDS = {DType.FLOAT32: 1e-5, DType.FLOAT16: 6e-3}


def twins() -> list[Any]:
    """The narrow twin of every component of every pipeline that is known."""
    found = []
    for name in catalogue.names():
        pipeline = catalogue.load(name)
        for component in COMPONENTS:
            if component.source in pipeline.models:
                config = narrow(pipeline.models[component.source], depth=2)
                blueprint = Blueprint(component=component, config=config, time_ids=pipeline.time_ids)
                found.append(pytest.param(blueprint, id=f"{name}-{component.name}"))
    return found


def shipped_widths() -> Blueprint:
    """SDXL's UNet with its own widths and one block of each kind, so that BiasSplitGelu is met."""
    pipeline = catalogue.load("sdxl-base-1.0")
    config = {**pipeline.models["unet"], "layers_per_block": 1, "transformer_layers_per_block": 1}
    return Blueprint(component=COMPONENTS[2], config=config, time_ids=pipeline.time_ids)


def worst_error(blueprint: Blueprint, dtype: DType, *, static: bool) -> float:
    """The largest error of any output at any case, kernels against bodies."""
    symbolic = blueprint.author(Target.CUDA, dtype)
    arrays = random_arrays(symbolic.recipes)
    bodies = dataclasses.replace(symbolic, model=with_reference_bodies(symbolic.model))
    cpu = session_of(bodies, arrays, provider=Provider.CPU, label="bodies")
    errors = []
    for case in cases(blueprint):
        feeds = random_inputs(symbolic, case)
        exact = cpu.run(feeds)
        gpu = static_session(blueprint, dtype, case, arrays) if static else symbolic_session(symbolic, arrays)
        found = gpu.run(feeds)
        errors += [relative_error(found[name], exact[name]) for name in exact]
    return max(errors)


def static_session(blueprint: Blueprint, dtype: DType, case: Any, arrays: dict[str, Array]) -> Session:
    """As the engine makes it: fixed sizes, weights in place, nothing on the CPU."""
    weights = {name: to_device(array, Provider.CUDA) for name, array in arrays.items()}
    model = to_bytes(blueprint.author(Target.CUDA, dtype, case))
    return Session.create(model, provider=Provider.CUDA, options=STATIC, initializers=weights)


def symbolic_session(graph: Any, arrays: dict[str, Array]) -> Session:
    """As other programs load the exported file."""
    return Session.create(to_bytes(graph), provider=Provider.CUDA, options=SYMBOLIC, external=arrays)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16])
@pytest.mark.parametrize("blueprint", twins())
def test_kernels_agree_with_their_bodies(blueprint: Blueprint, dtype: DType) -> None:
    error = worst_error(blueprint, dtype, static=True)
    print(f"{blueprint.component.name} {dtype.numpy_name} static: {error:.1e}")

    assert error <= BOUNDS[dtype]


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16])
def test_shipped_widths_agree_too(dtype: DType) -> None:
    error = worst_error(shipped_widths(), dtype, static=True)
    print(f"shipped widths {dtype.numpy_name} static: {error:.1e}")

    assert error <= BOUNDS[dtype]


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16])
@pytest.mark.parametrize("blueprint", twins()[:5])
def test_the_exported_file_runs_at_every_size(blueprint: Blueprint, dtype: DType) -> None:
    error = worst_error(blueprint, dtype, static=False)
    print(f"{blueprint.component.name} {dtype.numpy_name} symbolic: {error:.1e}")

    assert error <= BOUNDS[dtype]


SAMPLERS = ["euler", "euler_a", "ddim", "pndm", "dpm++2m"]


def image(folder: Path, provider: str, **options: Any) -> Array:
    """One small picture."""
    pipeline = Pipeline.from_pretrained(folder, provider=provider)
    made = pipeline(
        "a lighthouse", height=72, width=104, num_inference_steps=5, seed=3, output_type="np", **options
    )
    return np.asarray(made.images[0])


def psnr(found: Array, exact: Array) -> float:
    """Peak signal-to-noise ratio in dB of pictures in 0…1."""
    return float(-10 * np.log10(np.mean((found - exact) ** 2)))


@pytest.mark.parametrize("target", EXPORTED)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_device_loop_is_the_host_loop(workshop: Workshop, sampler: str, target: Target) -> None:
    folder = workshop.export(target=target).path

    assert psnr(image(folder, "cuda", sampler=sampler), image(folder, "cpu", sampler=sampler)) > 60


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("name", ["sd-1.5", "sd-2.1"])
def test_other_families_on_a_gpu(workshop: Workshop, name: str, guidance_scale: float) -> None:
    folder = workshop.export(name).path

    on_gpu = image(folder, "cuda", guidance_scale=guidance_scale)
    assert psnr(on_gpu, image(folder, "cpu", guidance_scale=guidance_scale)) > 60


def test_images_of_changing_sizes_and_prompts_in_one_pipeline(workshop: Workshop) -> None:
    """A captured graph replays over its own buffers, so a second call must not see the first one's."""
    folder = workshop.export(target=Target.CUDA).path
    pipeline = Pipeline.from_pretrained(folder, provider="cuda")
    asked: list[dict[str, Any]] = [
        {"prompt": "a lighthouse", "height": 64, "width": 64, "seed": 1},
        {"prompt": "two boats", "height": 64, "width": 96, "seed": 2},
        {"prompt": "a storm", "height": 64, "width": 64, "seed": 3, "num_images_per_prompt": 2},
        {"prompt": "two boats", "height": 64, "width": 64, "seed": 4},
    ]
    for options in (*asked, *asked):
        fresh = Pipeline.from_pretrained(folder, provider="cpu")
        common = {"num_inference_steps": 3, "output_type": "np"}
        found, exact = pipeline(**options, **common).images, fresh(**options, **common).images
        assert all(psnr(a, b) > 60 for a, b in zip(found, exact, strict=True))


def test_without_a_cuda_graph_it_is_the_same_image(workshop: Workshop) -> None:
    folder = workshop.export(target=Target.CUDA).path
    made = []
    for captured in (True, False):
        pipeline = Pipeline.from_pretrained(folder, provider="cuda", cuda_graph=captured)
        output = pipeline("a boat", height=64, width=64, num_inference_steps=3, seed=1, output_type="np")
        made.append(output.images[0])

    assert psnr(made[0], made[1]) > 60
