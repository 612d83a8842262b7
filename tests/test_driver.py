"""The NVIDIA driver's memory, and tensors as views of it, over a libcuda that is host memory."""

from __future__ import annotations

import ctypes
import gc
import threading
from typing import Any

import numpy as np
import pytest
from fake_cuda import CUBIN, FakeCuda

from onnxsd.errors import DeviceMemoryError, NotReadyError, ProviderFallbackError, ResourceError
from onnxsd.session import block as blocks
from onnxsd.session import driver as drivers
from onnxsd.session import to_host, update
from onnxsd.session.block import Block
from onnxsd.session.device import ELEMENT_TYPES, DeviceArray, view
from onnxsd.session.driver import Driver
from onnxsd.tensors import aligned

MIB = 1 << 20
# DLPack's number for memory that the CPU reads.
DLPACK_CPU = 1


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda(total_bytes=64 * MIB)


@pytest.fixture
def driver(cuda: FakeCuda) -> Driver:
    return Driver(cuda, 0)


@pytest.fixture
def readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views are said to lie where they do, so that ONNX Runtime reads them."""
    monkeypatch.setattr(blocks, "_CUDA", DLPACK_CPU)


class TestDriver:
    def test_counts_what_is_taken_and_given_back(self, cuda: FakeCuda, driver: Driver) -> None:
        first, second = driver.allocate(MIB), driver.allocate(2 * MIB)

        assert driver.memory() == (61 * MIB, 64 * MIB)
        driver.free(first)
        assert driver.memory() == (62 * MIB, 64 * MIB)
        driver.free(second)
        assert not cuda.device

    def test_memory_that_is_not_there_is_named_with_its_size(self, driver: Driver) -> None:
        with pytest.raises(
            DeviceMemoryError, match="cannot hold 2,048 MiB: the GPU is out of memory"
        ) as raised:
            driver.allocate(2048 * MIB)

        assert raised.value.exit_code == 5
        assert raised.value.hint

    def test_what_did_not_fit_leaves_room_for_what_does(self, cuda: FakeCuda, driver: Driver) -> None:
        with pytest.raises(DeviceMemoryError):
            driver.allocate(65 * MIB)

        driver.free(driver.allocate(64 * MIB))
        assert not cuda.device

    def test_host_memory_that_cannot_be_pinned_is_named_so(self, cuda: FakeCuda, driver: Driver) -> None:
        cuda.fail("cuMemHostAlloc", 2)

        with pytest.raises(ResourceError, match="cannot pin 16 MiB of the machine's own memory"):
            driver.allocate_pinned(16 * MIB)

    @pytest.mark.parametrize(
        ("status", "name"), [(700, "CUDA_ERROR_ILLEGAL_ADDRESS"), (12345, "error 12345")]
    )
    def test_any_other_failure_has_its_name(
        self, cuda: FakeCuda, driver: Driver, status: int, name: str
    ) -> None:
        cuda.fail("cuMemAlloc_v2", status)

        with pytest.raises(NotReadyError, match=f"cuMemAlloc_v2 failed: {name}"):
            driver.allocate(MIB)

    def test_of_a_device_that_is_not_there_is_an_error(self, cuda: FakeCuda) -> None:
        with pytest.raises(NotReadyError, match="cuDeviceGet failed: CUDA_ERROR_INVALID_DEVICE"):
            Driver(cuda, 1)

    def test_works_on_a_thread_that_never_saw_the_device(self, cuda: FakeCuda, driver: Driver) -> None:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(driver.allocate(MIB)))
        thread.start()
        thread.join()

        assert list(cuda.device) == found

    def test_takes_no_context_away(self, cuda: FakeCuda, driver: Driver) -> None:
        """To make none current takes the one away that a program has on this thread."""
        driver.memory()

        assert not cuda.misused

    def test_copies_when_it_is_waited_for(self, cuda: FakeCuda, driver: Driver) -> None:
        target, source, stream = driver.allocate(8), driver.allocate_pinned(8), driver.stream()
        ctypes.memmove(source, b"12345678", 8)
        driver.copy_to_device(target, source, 8, stream)
        driver.wait(stream)

        assert ctypes.string_at(target, 8) == b"12345678"
        driver.destroy_stream(stream)
        driver.free_pinned(source)
        assert cuda.nothing_on_the_host

    def test_loads_kernels_before_they_are_launched(self, cuda: FakeCuda, driver: Driver) -> None:
        module = driver.load_module(CUBIN + b"first\nsecond\n")
        first, second = driver.function(module, "first"), driver.function(module, "second")

        assert cuda.functions == {first: "first", second: "second"}
        assert cuda.loaded == {first, second}
        driver.unload_module(module)
        assert not cuda.modules

    def test_takes_kernels_from_a_driver_that_loads_them_late_too(
        self, cuda: FakeCuda, driver: Driver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cuda, "absent", {"cuFuncLoad"})

        function = driver.function(driver.load_module(CUBIN + b"first"), "first")
        assert cuda.functions == {function: "first"}
        assert not cuda.loaded

    def test_refuses_kernels_of_another_gpu(self, driver: Driver) -> None:
        with pytest.raises(NotReadyError, match="cuModuleLoadData failed: CUDA_ERROR_NO_BINARY_FOR_GPU"):
            driver.load_module(b"\x7fELF")

    def test_refuses_a_kernel_that_is_not_there(self, driver: Driver) -> None:
        with pytest.raises(NotReadyError, match="cuModuleGetFunction failed: CUDA_ERROR_NOT_FOUND"):
            driver.function(driver.load_module(CUBIN + b"first"), "second")

    def test_says_where_kernels_are_launched(self, cuda: FakeCuda, driver: Driver) -> None:
        launch = ctypes.CFUNCTYPE(ctypes.c_int)(driver.launcher())

        assert launch() == cuda.cuLaunchKernelEx() != 0

    def test_is_too_old_to_launch_kernels(
        self, cuda: FakeCuda, driver: Driver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(cuda, "cuLaunchKernelEx")
        monkeypatch.setattr(cuda, "absent", {"cuLaunchKernelEx"})

        with pytest.raises(NotReadyError, match=r"no cuLaunchKernelEx, which came with CUDA 11\.8"):
            driver.launcher()

    def test_without_its_library_is_a_provider_that_cannot_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drivers, "LIBRARY", "libno-such-cuda.so.1")

        with pytest.raises(ProviderFallbackError, match=r"libno-such-cuda\.so\.1") as raised:
            drivers.driver(77)

        assert raised.value.exit_code == 4


class TestBlock:
    def test_is_given_back_with_its_last_reference(self, cuda: FakeCuda, driver: Driver) -> None:
        block = Block(driver, MIB)
        assert cuda.used_bytes == MIB

        del block
        assert not cuda.device

    def test_is_given_back_once(self, cuda: FakeCuda, driver: Driver) -> None:
        block = Block(driver, MIB)
        block.close()
        assert not cuda.device

        block.close()
        del block
        gc.collect()
        assert cuda.calls["cuMemFree_v2"] == 1

    def test_of_nothing_is_a_block_too(self, cuda: FakeCuda, driver: Driver) -> None:
        block = Block(driver, 0)

        assert (block.size_bytes, len(cuda.device)) == (0, 1)

    def test_that_did_not_fit_owns_nothing(self, cuda: FakeCuda, driver: Driver) -> None:
        with pytest.raises(DeviceMemoryError):
            Block(driver, 65 * MIB)

        assert "cuMemFree_v2" not in cuda.calls

    @pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 256), (256, 256), (257, 512)])
    def test_sizes_are_aligned(self, size: int, expected: int) -> None:
        assert aligned(size) == expected


@pytest.mark.usefixtures("readable")
class TestView:
    def test_keeps_the_memory_until_the_last_one_goes(self, cuda: FakeCuda, driver: Driver) -> None:
        views = self.halves(driver)

        views.pop()
        gc.collect()
        assert cuda.used_bytes == 512
        assert to_host(views[0]).shape == (2, 32)
        views.pop()
        assert not cuda.device

    def test_is_the_memory_and_no_copy_of_it(self, driver: Driver) -> None:
        first, second = self.halves(driver)
        numbers = np.arange(64, dtype=np.float32).reshape(2, 32)

        update(second, numbers)

        assert ctypes.string_at(second.address, 256) == numbers.tobytes()
        assert second.address == first.address + 256
        ctypes.memset(first.address, 0, 256)
        np.testing.assert_array_equal(to_host(first), np.zeros((2, 32), np.float32))
        np.testing.assert_array_equal(to_host(second), numbers)

    @pytest.mark.parametrize("name", sorted(set(ELEMENT_TYPES.values())))
    def test_has_its_type_in_the_runtime_as_well(self, driver: Driver, name: str) -> None:
        kind = np.dtype(name)
        numbers = np.array([[1, 0, 1], [0, 1, 1]]).astype(kind)
        block = Block(driver, 256)
        ctypes.memmove(block.address, numbers.tobytes(), numbers.nbytes)
        found = view(block, 0, (2, 3), kind, 0)

        assert ELEMENT_TYPES[found.value.data_type()] == name
        assert to_host(found).dtype == kind
        np.testing.assert_array_equal(to_host(found), numbers)

    @pytest.mark.parametrize("shape", [(), (0,), (1, 1, 1, 1, 1, 2)])
    def test_has_any_shape(self, driver: Driver, shape: tuple[int, ...]) -> None:
        block = Block(driver, 256)
        found = view(block, 0, shape, np.dtype(np.int64), 0)

        assert tuple(found.value.shape()) == found.shape == shape

    def test_may_be_dropped_by_another_thread(self, cuda: FakeCuda, driver: Driver) -> None:
        views: list[DeviceArray] = self.halves(driver)
        thread = threading.Thread(target=views.clear)
        thread.start()
        thread.join()

        assert not cuda.device
        assert not cuda.misused

    def halves(self, driver: Driver) -> list[Any]:
        """Two views of one block, which nothing else refers to."""
        block = Block(driver, 512)
        return [view(block, offset, (2, 32), np.dtype(np.float32), 0) for offset in (0, 256)]
