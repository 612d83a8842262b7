"""Which GPU a device number means, and what is said of a number that no GPU has."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
from checkpoints import Workshop, run

from onnxsd.errors import ProviderFallbackError, UsageError
from onnxsd.session import Provider, gpus, resolve
from onnxsd.session.gpus import VisibleGpu

H200 = VisibleGpu(name="NVIDIA H200", compute_capability=(9, 0))
A10 = VisibleGpu(name="NVIDIA A10", compute_capability=(8, 6))


class Cuda:
    """The driver's library as far as it is asked, with the calling convention of the real one."""

    def __init__(self, found: tuple[VisibleGpu, ...], status: int = 0) -> None:
        self._found, self._status = found, status

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self._found)
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        device._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: ctypes.c_int) -> int:  # noqa: N802
        name.value = self._found[device.value].name.encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: ctypes.c_int) -> int:  # noqa: N802
        major, minor = self._found[device.value].compute_capability
        value._obj.value = {75: major, 76: minor}[which]
        return 0


@pytest.mark.parametrize("found", [(H200, A10), (A10,), ()])
def test_gpus_are_listed_in_cudas_order(found: tuple[VisibleGpu, ...]) -> None:
    assert gpus.ask(Cuda(found)) == found


@pytest.mark.parametrize(
    ("status", "seen"),
    [(100, ()), (3, None), (999, None)],  # no device; not initialised; unknown
)
def test_no_device_is_told_from_a_driver_that_fails(status: int, seen: tuple[()] | None) -> None:
    assert gpus.ask(Cuda((), status)) == seen


@pytest.mark.parametrize(
    ("device_id", "found"),
    [(0, (H200,)), (1, (H200, A10)), (0, ()), (0, None), (7, None)],
)
def test_a_number_that_may_be_there_is_left_to_a_session(
    device_id: int, found: tuple[VisibleGpu, ...] | None
) -> None:
    gpus.require_device("cuda", device_id, found)


@pytest.mark.parametrize(
    ("device_id", "found", "says"),
    [
        (1, (H200,), "asked for cuda on GPU 1, but CUDA sees 0: NVIDIA H200"),
        (2, (H200, A10), "asked for cuda on GPU 2, but CUDA sees 0: NVIDIA H200, 1: NVIDIA A10"),
        (1, (), "asked for cuda on GPU 1, but CUDA sees no GPU"),
    ],
)
def test_a_number_that_is_not_there_names_those_that_are(
    device_id: int, found: tuple[VisibleGpu, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(gpus.VARIABLE, raising=False)
    with pytest.raises(ProviderFallbackError) as raised:
        gpus.require_device("cuda", device_id, found)

    assert raised.value.exit_code == 4
    assert raised.value.message == says
    assert "CUDA_VISIBLE_DEVICES" in str(raised.value.hint)


def test_the_variable_that_hides_gpus_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpus.VARIABLE, "1")

    with pytest.raises(ProviderFallbackError, match=r"sees 0: NVIDIA A10 \(CUDA_VISIBLE_DEVICES is '1'\)"):
        gpus.require_device("tensorrt", 1, (A10,))


def test_the_cpu_is_no_device() -> None:
    assert resolve("cpu", 0).provider is Provider.CPU
    with pytest.raises(UsageError, match="the CPU and device 1 were asked for") as raised:
        resolve("cpu", 1)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("provider", ["cuda", "auto", "tensorrt"])
def test_a_gpu_by_its_number_is_not_replaced_by_the_cpu(provider: str) -> None:
    if len(gpus.visible_gpus() or ()) > 1:
        pytest.skip("GPU 1 is here")
    with pytest.raises(ProviderFallbackError, match=r"asked for (cuda|tensorrt)") as raised:
        resolve(provider, 1)
    assert raised.value.exit_code == 4


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--provider", "cpu", "--device", "1"), 2, "the CPU and device 1 were asked for"),
        (("--provider", "cuda", "--device", "99"), 4, "asked for cuda"),
        (("--device", "99"), 4, "asked for cuda"),
    ],
)
def test_generate_refuses_a_device_that_is_not_there(
    options: tuple[str, ...], code: int, said: str, workshop: Workshop
) -> None:
    model = workshop.export().path
    result = run("generate", "x", "--model", model, "--steps", "1", "--size", "64x64", *options)

    assert result.exit_code == code
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_the_help_says_whose_number_it_is() -> None:
    assert "CUDA_VISIBLE_DEVICES" in run("generate", "--help").stdout
