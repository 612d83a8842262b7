"""The contenders of onnxsd run on the kernels that their names say, and say which; the GPU is a fake one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import Workshop
from fake_cuda import FakeCuda
from host_gpu import CHOICE, OWN, STOCK, choose_always, put_in_place

from onnxsd.bench.contenders import onnxsd_pipeline
from onnxsd.bench.inputs import unet_inputs, vae_inputs
from onnxsd.engine import pipeline as pipelines
from onnxsd.kernels.choice import KernelChoice, Kernels
from onnxsd.tensors import DType


@pytest.mark.parametrize(
    ("name", "asked", "found", "told"),
    [
        ("onnxsd", Kernels.AUTO, OWN, "own (a test asks for own kernels)"),
        ("onnxsd-again", Kernels.AUTO, STOCK, "stock (stock operators were asked for)"),
        ("onnxsd-stock", Kernels.STOCK, STOCK, "stock (stock operators were asked for)"),
    ],
)
def test_a_contender_says_on_whose_kernels_it_runs(
    name: str, asked: Kernels, found: KernelChoice, told: str, workshop: Workshop, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = workshop.export(precision=DType.FLOAT16).path
    put_in_place(FakeCuda(), monkeypatch)
    monkeypatch.setattr(pipelines, "resolve", lambda *_: CHOICE)
    wanted = choose_always(found, monkeypatch)

    contender, answer = onnxsd_pipeline.load(name=name, export=str(folder), provider="cuda", device_id=0)

    assert wanted == [asked]
    assert answer["kernels"] == told
    inputs = {"unet": unet_inputs(folder, size=64, rows=2), "vae": vae_inputs(folder, size=64, rows=1)}
    for component, arrays in inputs.items():
        given, out = tmp_path / "in.npz", tmp_path / f"{component}.npy"
        np.savez(given, **arrays)
        getattr(contender, f"{component}_output")(inputs=str(given), out=str(out))
        assert np.isfinite(np.load(out)).all()
    for timed in (
        contender.denoise(size=64, batch=1, guidance=5.0, calls=1, blocks=2),
        contender.decode(size=64, batch=1, calls=1, blocks=2),
    ):
        assert len(timed["seconds"]) == 2


def test_on_a_cpu_there_is_nothing_to_say(workshop: Workshop) -> None:
    folder = workshop.export(precision=DType.FLOAT16).path
    _, answer = onnxsd_pipeline.load(name="onnxsd", export=str(folder), provider="cpu", device_id=0)

    assert answer["kernels"] is None
