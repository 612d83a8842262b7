"""NVML in every state, through a stand-in for its bindings, and what the kernel module shows."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onnxsd.machine import Gpu, nvidia
from onnxsd.machine.nvidia import Driver, Nvml, kernel_module_version
from onnxsd.machine.reader import Reader
from onnxsd.records import Dotted

KERNEL = Dotted.parse("580.95.05")


class NVMLError(Exception):
    """The bindings' own error."""


class NotSupportedError(NVMLError):
    """A question that this GPU cannot answer."""


class FunctionNotFoundError(NVMLError):
    """A question that this driver does not know."""


class LibraryNotFoundError(NVMLError):
    """No driver is installed."""


class FabricInfo(ctypes.Structure):
    """The part of NVML's answer that is read."""

    _fields_ = [("state", ctypes.c_uint)]


def raising(error: Exception) -> Callable[..., Any]:
    """A question that fails."""

    def ask(*_: Any) -> Any:
        raise error

    return ask


def fabric(state: int) -> Callable[..., Any]:
    """The question for a fabric's state."""

    def ask(_: Any, info: Any) -> None:
        info._obj.state = state

    return ask


def bindings(**changed: Any) -> Any:
    """NVML of a machine with one H200, but for what is changed."""
    answers: dict[str, Any] = {
        "NVMLError_LibraryNotFound": LibraryNotFoundError,
        "NVMLError_NotSupported": NotSupportedError,
        "NVMLError_FunctionNotFound": FunctionNotFoundError,
        "c_nvmlGpuFabricInfo_t": FabricInfo,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.95.05",
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 13000,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda at: at,
        "nvmlDeviceGetCudaComputeCapability": lambda device: (9, 0),
        "nvmlDeviceGetName": lambda device: "NVIDIA H200",
        "nvmlDeviceGetMemoryInfo": lambda device: SimpleNamespace(total=150754820096),
        "nvmlDeviceGetMigMode": lambda device: [0, 0],
        "nvmlDeviceGetMinorNumber": lambda device: device,
        "nvmlDeviceGetGpuFabricInfo": fabric(3),
        **changed,
    }
    return SimpleNamespace(**answers)


def ask(kernel_driver: Dotted | None = None, **changed: Any) -> tuple[Driver, dict[str, str]]:
    """What NVML says, and the facts that it could not say, with the reasons."""
    reader = Reader()
    driver = Nvml(bindings(**changed)).driver(reader, kernel_driver)
    return driver, {one.fact: one.reason for one in reader.unreadable}


def test_a_gpu_is_described() -> None:
    driver, unreadable = ask()

    assert unreadable == {}
    assert (str(driver.version), str(driver.cuda)) == ("580.95.05", "13.0")
    assert driver.gpus == (
        Gpu(
            name="NVIDIA H200",
            memory_bytes=150754820096,
            compute_capability=(9, 0),
            mig=False,
            fabric="completed",
            minor=0,
        ),
    )


def test_what_a_gpu_cannot_say_is_absent_and_no_fault() -> None:
    nothing = raising(NotSupportedError())
    driver, unreadable = ask(
        nvmlDeviceGetName=lambda device: b"Orin",
        nvmlDeviceGetMemoryInfo=nothing,
        nvmlDeviceGetMigMode=nothing,
        nvmlDeviceGetMinorNumber=nothing,
        nvmlDeviceGetGpuFabricInfo=raising(FunctionNotFoundError()),
    )

    assert unreadable == {}
    assert driver.gpus == (Gpu(name="Orin", memory_bytes=None, compute_capability=(9, 0)),)


@pytest.mark.parametrize(
    ("state", "expected"), [(0, None), (1, "not-started"), (2, "in-progress"), (9, None)]
)
def test_the_fabric_has_states(state: int, expected: str | None) -> None:
    driver, _ = ask(nvmlDeviceGetGpuFabricInfo=fabric(state), nvmlDeviceGetMigMode=lambda device: [1, 1])

    assert driver.gpus[0].fabric == expected
    assert driver.gpus[0].mig is True


def test_a_lost_gpu_is_on_record_and_the_others_are_described() -> None:
    def handle(at: int) -> int:
        if at == 1:
            raise NVMLError("GPU is lost")
        return at

    driver, unreadable = ask(nvmlDeviceGetCount=lambda: 3, nvmlDeviceGetHandleByIndex=handle)

    assert [gpu.minor for gpu in driver.gpus] == [0, 2]
    assert unreadable == {"gpus": "NVMLError: GPU is lost"}


def test_without_the_library_there_is_no_driver() -> None:
    assert ask(nvmlInit=raising(LibraryNotFoundError())) == (Driver(), {})


def test_a_kernel_module_without_its_library_is_a_fault() -> None:
    driver, unreadable = ask(KERNEL, nvmlInit=raising(LibraryNotFoundError()))

    assert driver == Driver(version=KERNEL)
    assert "its NVML library was not found" in unreadable["gpus"]


def test_a_library_that_does_not_fit_the_module_makes_all_unreadable() -> None:
    driver, unreadable = ask(KERNEL, nvmlInit=raising(NVMLError("Driver/library version mismatch")))

    assert driver == Driver(version=KERNEL)
    assert set(unreadable) == {"driver", "driver_cuda", "gpus"}
    assert all("Driver/library version mismatch" in reason for reason in unreadable.values())


def test_a_driver_that_says_garbage_keeps_the_gpus() -> None:
    driver, unreadable = ask(
        nvmlSystemGetDriverVersion=lambda: "n/a", nvmlSystemGetCudaDriverVersion_v2=raising(NVMLError("no"))
    )

    assert (driver.version, driver.cuda, len(driver.gpus)) == (None, None, 1)
    assert set(unreadable) == {"driver", "driver_cuda"}


def test_a_driver_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "NVML_TIMEOUT_S", 0.1)
    end = threading.Event()
    driver, unreadable = ask(KERNEL, nvmlInit=end.wait)
    end.set()

    assert driver == Driver(version=KERNEL)
    assert all("no answer within 0.1 s" in reason for reason in unreadable.values())


def test_the_kernel_module_tells_its_version(tmp_path: Path) -> None:
    path = tmp_path / "version"
    assert kernel_module_version(path) is None

    path.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder)\n"
        "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
    )
    assert kernel_module_version(path) == KERNEL

    path.write_bytes(b"\xff\xff")
    with pytest.raises(ValueError, match="names no version"):
        kernel_module_version(path)
