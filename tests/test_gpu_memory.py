"""What the engine does with a GPU's memory, and that bits repeat where they should. Run with `--run gpu`."""

from __future__ import annotations

import gc
import itertools
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from checkpoints import Workshop, run
from PIL import Image
from test_loop import DOUBLING, on_the_host, table_of, through, work_of

from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.engine.loop import Loop, loop_shape
from onnxsd.engine.memory import RUNTIME_BYTES
from onnxsd.engine.pipeline import Pipeline, PipelineOutput
from onnxsd.engine.step_graph import author_loop
from onnxsd.errors import DeviceMemoryError
from onnxsd.ops import Target
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.samplers.registry import SAMPLERS
from onnxsd.session import Optimization, Provider, Session, SessionSettings, to_device
from onnxsd.session.block import Block
from onnxsd.session.driver import driver
from onnxsd.session.gpus import visible_gpus
from onnxsd.tensors import DType
from onnxsd.verify.runnable import random_arrays

pytestmark = pytest.mark.gpu

Array = npt.NDArray[Any]
MIB = 1 << 20
COMPONENTS = ("text_encoder", "text_encoder_2", "unet", "vae_decoder")
SMALL: dict[str, Any] = {"height": 64, "width": 64}
SIZES: tuple[dict[str, Any], ...] = (SMALL, {"height": 96, "width": 64}, {"height": 128, "width": 136})
IMAGES = 200
# The driver gives memory out in pieces of 2 MiB.
A_FEW_BYTES = 16 * MIB


@pytest.fixture
def folder(workshop: Workshop) -> Path:
    return workshop.export(target=Target.CUDA).path


@pytest.fixture
def pipeline(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder, provider="cuda")


def make(pipeline: Pipeline, **options: Any) -> PipelineOutput:
    """A picture of three steps."""
    return pipeline("a lighthouse", **{"num_inference_steps": 3, "seed": 3, **SMALL, **options})


def picture(pipeline: Pipeline, **options: Any) -> Array:
    return pixels(make(pipeline, **options).images[0])


def pixels(image: Any) -> Array:
    return np.asarray(image).astype(np.float64) / 255


def psnr(found: Array, exact: Array) -> float:
    """Peak signal-to-noise ratio in dB of pictures in 0…1; 120 where they are the same."""
    return float(-10 * np.log10(max(np.mean((found - exact) ** 2), 1e-12)))


def free_bytes(ordinal: int = 0) -> int:
    """What the device has left once nothing waits to be collected."""
    gc.collect()
    return driver(ordinal).memory()[0]


def release_all(pipeline: Pipeline) -> None:
    for name in COMPONENTS:
        pipeline.engine.release(name)


def resident_bytes() -> int:
    """Host memory of this process that no file stands behind."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) << 10


# What is taken, and given back


@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is read from /proc")
def test_many_pictures_of_changing_sizes_leak_nothing(pipeline: Pipeline) -> None:
    asked = [
        {**size, "num_images_per_prompt": images, "sampler": sampler}
        for size, images, sampler in itertools.product(SIZES, (1, 2), ("euler", "euler_a", "dpm++2m"))
    ]
    for options in (*asked, *asked):
        make(pipeline, **options)
    device, host = free_bytes(), resident_bytes()

    made = 0
    for seed, options in enumerate(itertools.cycle(asked)):
        made += len(make(pipeline, **options, seed=seed).images)
        if made >= IMAGES:
            break

    assert abs(free_bytes() - device) <= A_FEW_BYTES
    assert resident_bytes() - host <= 32 * MIB


def test_sessions_that_come_and_go_leak_nothing(pipeline: Pipeline) -> None:
    """The same components let go and loaded again, ten times."""
    sizes = itertools.cycle(SIZES)
    for _ in range(3):
        make(pipeline, **next(sizes))
        release_all(pipeline)
    before = free_bytes()

    for _ in range(10):
        make(pipeline, **next(sizes))
        release_all(pipeline)

    assert abs(free_bytes() - before) <= A_FEW_BYTES


def test_what_is_released_is_given_back_but_for_what_cuda_keeps(pipeline: Pipeline) -> None:
    make(pipeline)
    release_all(pipeline)
    empty = free_bytes()
    make(pipeline, height=512, width=512)
    assert empty - free_bytes() > 64 * MIB

    release_all(pipeline)

    assert abs(free_bytes() - empty) <= A_FEW_BYTES


def test_what_cuda_keeps_is_what_is_counted_for_it(folder: Path) -> None:
    """In a process of its own, after everything was let go."""
    program = f"""
from onnxsd.engine.pipeline import Pipeline
import gc
pipeline = Pipeline.from_pretrained({str(folder)!r}, provider="cuda")
pipeline("a lighthouse", height=256, width=256, num_inference_steps=2)
for name in {COMPONENTS!r}:
    pipeline.engine.release(name)
gc.collect()
from onnxsd.session.driver import driver
print("free", driver(0).memory()[0])
"""
    before = free_bytes()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    left = re.search(r"free (\d+)", done.stdout)
    assert left is not None
    taken = before - int(left[1])
    print(f"CUDA keeps {taken / MIB:.0f} MiB of a process that let everything go")

    assert 0 < taken <= RUNTIME_BYTES


# Too little memory


def test_a_limit_that_holds_only_some_sessions_makes_the_same_pictures(folder: Path) -> None:
    sizes: list[dict[str, Any]] = [
        {"height": height, "width": width} for height, width in ((256, 256), (256, 384), (256, 256))
    ]
    free = Pipeline.from_pretrained(folder, provider="cuda")
    exact = [picture(free, **size) for size in sizes]
    # Once more, now that CUDA has what it takes for itself: what the first size holds, and what both do.
    release_all(free)
    make(free, **sizes[0])
    assert free.engine.gpu is not None
    one = free.engine.gpu.memory.used_bytes
    make(free, **sizes[1])
    both = free.engine.gpu.memory.used_bytes
    release_all(free)

    limited = Pipeline.from_pretrained(folder, provider="cuda", memory_limit_bytes=one + (both - one) // 4)
    made = [make(limited, **size) for size in sizes]

    for output, pixels_of in zip(made, exact, strict=True):
        assert psnr(pixels(output.images[0]), pixels_of) > 60
    second = made[1].gpu
    assert second is not None
    # What the first size alone needed was used longest ago, then what every picture begins with.
    oldest_first = (
        "unet's activations", "vae_decoder's activations", "text_encoder", "text_encoder_2", "unet",
    )  # fmt: skip
    assert second.left
    assert second.left == oldest_first[: len(second.left)]


def test_memory_that_runs_out_is_told_and_breaks_nothing(
    pipeline: Pipeline, folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Another tenant leaves 900 MiB; for 3072² the decoder needs 2,520, more than all else gives up."""
    exact = picture(pipeline)
    tenant = Block(driver(0), free_bytes() - 900 * MIB)
    request.addfinalizer(tenant.close)

    result = run(
        "generate", "a lighthouse", "--model", folder, "--provider", "cuda", "--steps", "1",
        "--size", "3072x3072", "-o", tmp_path / "x.png",
    )  # fmt: skip

    assert result.exit_code == 5, result.stderr
    assert "out of memory" in result.stderr, result.stderr
    assert re.search(r"1 image of \d+×\d+ should fit", result.stderr), result.stderr
    assert list(tmp_path.iterdir()) == []
    assert psnr(picture(pipeline), exact) > 60
    with pytest.raises(DeviceMemoryError):
        make(pipeline, height=3072, width=3072)
    assert psnr(picture(pipeline), exact) > 60
    tenant.close()
    assert psnr(picture(pipeline), exact) > 60


def test_a_size_beyond_a_limit_is_told_before_anything_is_tried(folder: Path, tmp_path: Path) -> None:
    result = run(
        "generate", "a lighthouse", "--model", folder, "--provider", "cuda", "--steps", "1",
        "--size", "8192x8192", "--memory-limit", "2GiB", "-o", tmp_path / "x.png",
    )  # fmt: skip

    assert result.exit_code == 5, result.stderr
    assert re.search(r"cannot hold unet, .*: the memory limit is ", result.stderr)
    assert re.search(r"1 image of \d+×\d+ should fit", result.stderr)


# Interruptions and company


def test_to_stop_in_the_middle_leaves_no_trace(pipeline: Pipeline) -> None:
    exact = picture(pipeline, num_inference_steps=5)

    def stop(done: int, steps: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(pipeline, num_inference_steps=5, seed=9, callback_on_step_end=stop)

    assert psnr(picture(pipeline, num_inference_steps=5), exact) > 60


@pytest.mark.parametrize("sampler", ["euler", "dpm++2m"])
def test_a_pipeline_works_in_another_thread_than_it_began_in(pipeline: Pipeline, sampler: str) -> None:
    """ONNX Runtime captures a graph for each thread, and executes it more than once when it does."""
    exact = picture(pipeline, sampler=sampler)

    with ThreadPoolExecutor(1) as other:
        found = [other.submit(picture, pipeline, sampler=sampler).result() for _ in range(2)]

    assert [psnr(one, exact) > 60 for one in (*found, picture(pipeline, sampler=sampler))] == [True] * 3


def test_two_processes_share_a_gpu(pipeline: Pipeline, folder: Path, tmp_path: Path) -> None:
    exact = picture(pipeline)
    command = [
        sys.executable, "-m", "onnxsd", "generate", "a lighthouse", "--model", str(folder),
        "--provider", "cuda", "--steps", "3", "--size", "64x64", "--seed", "3", "-o",
    ]  # fmt: skip
    files = [tmp_path / name for name in ("first.png", "second.png")]

    running = [
        subprocess.Popen([*command, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for file in files
    ]
    told = [process.communicate(timeout=300) for process in running]

    assert [process.returncode for process in running] == [0, 0], told
    for file in files:
        with Image.open(file) as image:
            assert psnr(pixels(image.convert("RGB")), exact) > 60


def test_a_device_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    result = run(
        "generate",
        "a cat",
        "--model",
        folder,
        "--provider",
        "cuda",
        "--device",
        "99",
        "-o",
        tmp_path / "x.png",
    )

    assert result.exit_code == 4, result.stderr
    assert "GPU 99" in result.stderr


def test_each_device_holds_its_own(folder: Path) -> None:
    """All devices there are: pictures made on one leave the others' memory alone."""
    ordinals = range(len(visible_gpus() or ()))
    assert ordinals
    exact = picture(Pipeline.from_pretrained(folder, provider="cuda"))
    for ordinal in ordinals:
        # A device's context takes memory, and so does asking for its memory the first time.
        others = {other: free_bytes(other) for other in ordinals if other != ordinal}
        before = free_bytes(ordinal)
        pipeline = Pipeline.from_pretrained(folder, provider="cuda", device_id=ordinal)

        assert psnr(picture(pipeline), exact) > 60
        make(pipeline, height=512, width=512)

        assert before - free_bytes(ordinal) > 64 * MIB
        for other, bytes_before in others.items():
            assert abs(free_bytes(other) - bytes_before) <= A_FEW_BYTES
        release_all(pipeline)


# Bits that repeat


@pytest.mark.parametrize("precision", [DType.FLOAT32, DType.FLOAT16])
@pytest.mark.parametrize("name", ["sdxl-base-1.0", "sd-2.1"])
def test_text_encoders_give_the_same_bits_each_time(workshop: Workshop, name: str, precision: DType) -> None:
    """From run to run, and from session to session."""
    folder = workshop.export(name, target=Target.CUDA, precision=precision).path
    prompts = ["a lighthouse in a storm, oil on canvas", ""]
    time_ids = (64, 64, 0, 0, 64, 64) if name.startswith("sdxl") else None
    found = []
    for _ in range(2):
        text = Pipeline.from_pretrained(folder, provider="cuda")._text
        found += [text.encode(prompts, time_ids) for _ in range(3)]

    first, *others = found
    assert np.abs(first.hidden_states).max() > 0
    for other in others:
        for key, value in first.feeds().items():
            np.testing.assert_array_equal(other.feeds()[key], value)


def loop_on_the_gpu(work: Any, *, captured: bool) -> Loop:
    """The loop of a denoiser whose output is exact, as the engine makes it."""
    shape = loop_shape(work)
    graphs = author_loop(DOUBLING, Target.CUDA, DType.FLOAT32, shape)

    def session(graph: AuthoredGraph) -> Session:
        weights = {
            name: to_device(array, Provider.CUDA) for name, array in random_arrays(graph.recipes).items()
        }
        settings = SessionSettings(optimize=Optimization.DISABLED, cuda_graph=captured, lean=True)
        return Session.create(to_bytes(graph), provider=Provider.CUDA, options=settings, initializers=weights)

    return Loop(session, (graphs.step, graphs.conditions), shape)


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize("sampler", [sampler.key for sampler in SAMPLERS])
def test_a_samplers_part_gives_the_bits_of_the_host(sampler: str, captured: bool) -> None:
    """Each operation is one IEEE operation in the host's order, so a GPU may not differ by a bit."""
    work = work_of(table_of(sampler, 7), guidance=True)
    loop = loop_on_the_gpu(work, captured=captured)

    for _ in range(2):
        np.testing.assert_array_equal(through(loop, work), on_the_host(work))
