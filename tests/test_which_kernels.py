"""Whose kernels make an image: what `generate` takes, says and refuses; the GPU is a fake one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Workshop, run
from click.testing import Result
from fake_cuda import FakeCuda
from host_gpu import CHOICE, OWN, STOCK, choose_always, put_in_place

from onnxsd import session
from onnxsd.cli.early import resolved_meanwhile
from onnxsd.engine.pipeline import Pipeline
from onnxsd.errors import DeviceMemoryError, NotReadyError, UsageError
from onnxsd.kernels import choice as choices
from onnxsd.kernels.choice import KernelChoice, Kernels
from onnxsd.session import Choice, Provider
from onnxsd.tensors import DType


@pytest.fixture
def model(workshop: Workshop) -> Path:
    """An SDXL export with fp16 weights."""
    return workshop.export(precision=DType.FLOAT16).path


def generate(model: Path, out: Path, *options: str) -> Result:
    return run("generate", "a cat", "--model", model, "--steps", "1", "--size", "64x64", "-o", out, *options)


def on_cuda(monkeypatch: pytest.MonkeyPatch, kernels: KernelChoice) -> list[Kernels]:
    """Let there be a GPU that has these kernels; what engines ask for is noted."""
    put_in_place(FakeCuda(), monkeypatch)
    monkeypatch.setattr(session, "resolve", lambda *_: CHOICE)
    monkeypatch.setattr(choices, "choose", lambda *_, **__: kernels)
    return choose_always(kernels, monkeypatch)


def lines_of_kernels(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("kernels: ")]


# On a CPU


@pytest.mark.parametrize("provider", ["cpu", "auto"])
def test_own_kernels_on_a_cpu_are_an_error(provider: str, model: Path, tmp_path: Path) -> None:
    if provider == "auto" and session.resolve("auto").provider is not Provider.CPU:
        pytest.skip("this machine has a GPU")
    result = generate(model, tmp_path / "x.png", "--provider", provider, "--own-kernels")

    assert result.exit_code == NotReadyError.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "error: own kernels were asked for, but onnxsd's own kernels run on cuda, and this session runs on"
        " cpu (leave --own-kernels out, and it runs on stock operators)"
    )
    assert result.stdout == ""
    assert not (tmp_path / "x.png").exists()


def test_both_at_once_are_wrong_usage(model: Path, tmp_path: Path) -> None:
    result = generate(model, tmp_path / "x.png", "--own-kernels", "--stock-kernels")

    assert result.exit_code == 2
    assert result.stderr == (
        "error: --own-kernels and --stock-kernels exclude each other (leave one of them out)\n"
    )


@pytest.mark.parametrize(
    ("options", "reason"), [((), "this session runs on cpu"), (("--stock-kernels",), "were asked for")]
)
def test_on_a_cpu_json_alone_says_it(
    options: tuple[str, ...], reason: str, model: Path, tmp_path: Path
) -> None:
    result = generate(model, tmp_path / "x.png", "--provider", "cpu", "--json", *options)

    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["schema"] == 1
    assert told["kernels"]["own"] is False
    assert reason in told["kernels"]["reason"]
    assert "kernels" not in result.stderr


def test_kernels_that_there_are_not(model: Path) -> None:
    with pytest.raises(UsageError, match="there are no fast kernels: it is one of auto, own, stock"):
        Pipeline.from_pretrained(model, provider="cpu", kernels="fast")


# On a GPU


def test_own_kernels_are_told_with_what_went_wrong(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unkept = "own kernels were compiled in 2.1 s and will be again: no space"
    kernels = dataclasses.replace(OWN, reason="own kernels for sm_90, compiled in 2.1 s", warnings=(unkept,))
    asked = on_cuda(monkeypatch, kernels)

    result = generate(model, tmp_path / "x.png", "--json")

    assert result.exit_code == 0, result.stderr
    assert lines_of_kernels(result) == ["kernels: onnxsd's own (own kernels for sm_90, compiled in 2.1 s)"]
    assert f"warning: {unkept}" in result.stderr.splitlines()
    told = json.loads(result.stdout)
    assert told["provider"] == "cuda"
    assert told["kernels"] == {"own": True, "reason": kernels.reason}
    assert told["warnings"] == [unkept]
    assert asked == [Kernels.AUTO]


def test_stock_operators_are_told_with_the_reason(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cuda(monkeypatch, dataclasses.replace(STOCK, reason="libnvrtc is not installed"))

    result = generate(model, tmp_path / "x.png")

    assert result.exit_code == 0, result.stderr
    assert lines_of_kernels(result) == ["kernels: ONNX Runtime's stock operators: libnvrtc is not installed"]


@pytest.mark.parametrize(
    ("option", "asked"), [("--own-kernels", Kernels.OWN), ("--stock-kernels", Kernels.STOCK)]
)
def test_each_option_asks_for_what_it_says(
    option: str, asked: Kernels, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = on_cuda(monkeypatch, OWN if asked is Kernels.OWN else STOCK)

    assert generate(model, tmp_path / "x.png", option).exit_code == 0
    assert found == [asked]


# While the rest is imported


@pytest.mark.parametrize(
    ("provider", "kernels", "loaded"),
    [("cuda", "auto", True), ("cuda", "own", True), ("cuda", "stock", False), ("cpu", "auto", False)],
)
def test_kernels_are_loaded_early_where_they_will_be_used(
    provider: str, kernels: str, loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Choice(provider=Provider(provider), device_id=3, reason="a test")
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(session, "resolve", lambda *_: found)
    monkeypatch.setattr(choices, "choose", lambda _, **options: asked.append(options))

    with resolved_meanwhile(provider, 3, kernels) as choice:
        pass

    assert choice() is found
    wanted = {"provider": Provider.CUDA, "device_id": 3, "precision": DType.FLOAT16}
    assert asked == ([wanted] if loaded else [])


def test_what_fails_early_is_left_to_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> KernelChoice:
        raise DeviceMemoryError("no room for kernels")

    monkeypatch.setattr(session, "resolve", lambda *_: CHOICE)
    monkeypatch.setattr(choices, "choose", refuse)
    with resolved_meanwhile("cuda", 0, "auto") as choice:
        pass

    assert choice() is CHOICE
