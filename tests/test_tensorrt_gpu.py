"""TensorRT on a GPU: its error where its libraries are missing, and its results where they are not.

Run with `--run gpu`, and with `--run tensorrt` where TensorRT is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from authoring import relative_error
from checkpoints import Workshop

from onnxsd.artifact.folder import Folder
from onnxsd.engine.pipeline import Pipeline
from onnxsd.engine.tensorrt import cache_folder, tensorrt_session
from onnxsd.errors import BadInputError, ProviderFallbackError
from onnxsd.session import Provider, Session, gpus, resolve, tensorrt_libraries
from onnxsd.tensors import DType
from onnxsd.verify.runnable import random_inputs

Array = npt.NDArray[Any]
SIZES = {"batch": 2, "height": 8, "width": 16, "sequence": 77}
# TensorRT computes float32 convolutions and products in TF32, whose mantissa has 10 bits, as fp16's has.
BOUND = 2e-2


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def feeds(folder: Folder, component: str) -> dict[str, Array]:
    """Inputs of a component at `SIZES`."""
    graph = folder.blueprint(component).author(folder.target, folder.manifest.precision)
    return random_inputs(graph, SIZES)


@pytest.mark.gpu
def test_without_its_libraries_it_names_the_missing_one() -> None:
    if tensorrt_libraries.pip_folder() is not None:
        assert resolve("tensorrt").provider is Provider.TENSORRT
        return
    # Where the wheel was made smaller, the provider's own library is what is missing.
    whole = bool(tensorrt_libraries.names())
    missing = "libnvinfer" if whole else "libonnxruntime_providers_tensorrt"
    with pytest.raises(ProviderFallbackError, match=missing) as raised:
        resolve("tensorrt")
    assert raised.value.exit_code == 4
    assert ("pip install 'tensorrt-cu" in str(raised.value.hint)) is whole


@pytest.mark.gpu
@pytest.mark.parametrize("provider", ["cuda", "auto"])
def test_a_gpu_number_that_is_not_there_names_those_that_are(provider: str) -> None:
    found = gpus.visible_gpus()
    assert found

    with pytest.raises(ProviderFallbackError, match="asked for cuda on GPU 99, but CUDA sees 0: ") as raised:
        resolve(provider, 99)
    assert raised.value.exit_code == 4
    assert all(gpu.name in raised.value.message for gpu in found)
    assert all(gpu.name and gpu.compute_capability >= (5, 0) for gpu in found)


@pytest.mark.gpu
def test_the_driver_says_its_version() -> None:
    assert int(gpus.driver_version().partition(".")[0]) >= 500


@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", [DType.FLOAT16, DType.FLOAT32])
@pytest.mark.parametrize("component", ["text_encoder", "unet", "vae_decoder"])
def test_components_agree_with_the_cpu(workshop: Workshop, component: str, precision: DType) -> None:
    folder = workshop.export("sd-1.5", precision=precision)
    given = feeds(folder, component)
    model = folder.path / folder.manifest.component(component).model.path

    found = tensorrt_session(folder, component, SIZES).run(given)

    exact = Session.create(model, provider=Provider.CPU).run(given)
    for name, expected in exact.items():
        error = relative_error(found[name], expected)
        print(f"{component} {precision.numpy_name} {name}: {error:.1e}")
        assert error <= BOUND


@pytest.mark.tensorrt
def test_an_engine_is_built_once(workshop: Workshop) -> None:
    folder = workshop.export("sd-1.5", precision=DType.FLOAT16)

    def built() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in cache_folder().rglob("*.engine")}

    first = tensorrt_session(folder, "text_encoder", SIZES)
    after_first = built()
    second = tensorrt_session(folder, "text_encoder", SIZES)

    assert len(after_first) == 1
    assert built() == after_first
    given = feeds(folder, "text_encoder")
    np.testing.assert_array_equal(
        first.run(given)["last_hidden_state"], second.run(given)["last_hidden_state"]
    )


@pytest.mark.tensorrt
def test_a_session_takes_its_own_size_only(workshop: Workshop) -> None:
    session = tensorrt_session(workshop.export("sd-1.5"), "text_encoder", SIZES)

    with pytest.raises(BadInputError, match="input_ids is int64"):
        session.run({"input_ids": np.zeros((3, 77), np.int64)})


@pytest.mark.tensorrt
def test_an_image_is_the_cpus(workshop: Workshop) -> None:
    images = []
    for provider in ("tensorrt", "cpu"):
        pipeline = Pipeline.from_pretrained(
            workshop.export("sd-1.5", precision=DType.FLOAT16).path, provider=provider
        )
        made = pipeline("a boat", height=64, width=72, num_inference_steps=3, seed=1, output_type="np")
        images.append(np.asarray(made.images[0]))

    assert float(-10 * np.log10(np.mean((images[0] - images[1]) ** 2))) > 40
