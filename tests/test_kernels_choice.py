"""Own or stock kernels: each thing that can be missing has its one sentence, or its error when demanded."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fake_cuda import CUBIN, FakeCuda
from kernel_cases import FakeNvrtc, native_library
from packaging.version import Version

from onnxsd.errors import DeviceMemoryError, NotReadyError, ProviderFallbackError
from onnxsd.kernels import choice as choices
from onnxsd.kernels import library as libraries
from onnxsd.kernels import source
from onnxsd.kernels.choice import KernelChoice, Kernels, choose
from onnxsd.kernels.library import OperatorLibrary
from onnxsd.kernels.nvrtc import Nvrtc
from onnxsd.session import CustomOperators, Provider, loading, runtime
from onnxsd.session.driver import Driver
from onnxsd.session.gpus import VisibleGpu
from onnxsd.tensors import DType

REGISTER = loading.register  # the real one, where a test replaces it
FUNCTIONS = ("first", "second")
H200 = VisibleGpu(name="NVIDIA H200", compute_capability=(9, 0))


@dataclass
class FakeLibrary:
    """A native library that notes what it was given."""

    path: Path = Path("operators.so")
    api_version: int = 24
    functions: tuple[str, ...] = FUNCTIONS
    given: list[tuple[int, str, int, list[int]]] = field(default_factory=list)

    def provide(self, slot: int, provider: str, launch: int, functions: list[int]) -> None:
        self.given.append((slot, provider, launch, functions))


@dataclass
class Place:
    """A machine on which own kernels run; each part can be taken away."""

    cuda: FakeCuda
    nvrtc: FakeNvrtc
    library: FakeLibrary | OperatorLibrary
    folder: Path
    gpus: tuple[VisibleGpu, ...] | None
    registered: list[CustomOperators]

    @property
    def given(self) -> list[tuple[int, str, int, list[int]]]:
        """What the native library was given."""
        assert isinstance(self.library, FakeLibrary)
        return self.library.given

    def choose(self, asked: Kernels = Kernels.AUTO, **other: Any) -> KernelChoice:
        wanted: dict[str, Any] = {"provider": Provider.CUDA, "device_id": 0, "precision": DType.FLOAT16}
        return choose(asked, **(wanted | other))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    cubin = CUBIN + b"\n".join(name.encode() for name in FUNCTIONS)
    found = Place(
        FakeCuda(devices=3), FakeNvrtc(cubin=cubin), FakeLibrary(), tmp_path / "kernels", (H200,) * 3, []
    )
    installed = runtime.Runtime(
        version=Version("1.31.1"),
        packages=(runtime.Package(name="onnxruntime-gpu", version="1.31.1"),),
        cuda="13.0",
        providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
    )
    monkeypatch.setattr(choices, "_loaded", {})
    monkeypatch.setattr(choices, "OperatorLibrary", lambda _: found.library)
    monkeypatch.setattr(choices.runtime, "available", lambda: installed)
    monkeypatch.setattr(choices, "find", lambda majors, path: Nvrtc(found.nvrtc))
    monkeypatch.setattr(choices.gpus, "visible_gpus", lambda: found.gpus)
    monkeypatch.setattr(choices, "driver", lambda ordinal: Driver(found.cuda, ordinal))
    monkeypatch.setattr(choices, "cache_folder", lambda: found.folder)
    monkeypatch.setattr(choices.loading, "require", lambda provider: "")
    monkeypatch.setattr(choices.loading, "register", lambda own, options: found.registered.append(own))
    return found


def refused(place: Place, **other: Any) -> str:
    """Why stock operators are used; where own kernels are demanded, the error says the same."""
    chosen = place.choose(**other)
    assert (chosen.own, chosen.operators, chosen.warnings) == (False, None, ())
    with pytest.raises(NotReadyError) as raised:
        place.choose(Kernels.OWN, **other)
    assert raised.value.message == f"own kernels were asked for, but {chosen.reason}"
    assert raised.value.hint
    assert "\n" not in chosen.reason
    return chosen.reason


class TestOwn:
    def test_are_loaded_given_and_registered(self, place: Place) -> None:
        chosen = place.choose(device_id=2)

        assert chosen.own
        assert chosen.operators == CustomOperators(
            library=place.library.path, entries=(("onnxsd.device", "2"),)
        )
        assert place.registered == [chosen.operators]
        ((slot, provider, launch, functions),) = place.given
        assert (slot, provider) == (2, "CUDAExecutionProvider")
        assert launch
        assert [place.cuda.functions[one] for one in functions] == list(FUNCTIONS)
        assert place.cuda.loaded == set(functions)
        assert not place.cuda.misused

    def test_say_whether_they_were_compiled(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        first = place.choose()
        monkeypatch.setattr(choices, "_loaded", {})
        again = place.choose()

        assert first.reason.startswith("own kernels for sm_90, compiled in ")
        assert again.reason == "own kernels for sm_90, from the cache"
        assert (first.warnings, again.warnings) == ((), ())
        assert place.nvrtc.compiled == 1

    def test_are_loaded_once_for_each_device(self, place: Place) -> None:
        chosen = [place.choose(device_id=number) for number in (0, 1, 0)]
        chosen += [place.choose(Kernels.OWN, device_id=number) for number in (1, 0)]

        assert all(one.own for one in chosen)
        assert [given[0] for given in place.given] == [0, 1]
        assert len(place.cuda.modules) == 2

    def test_are_loaded_once_by_many_threads(self, place: Place) -> None:
        begin = threading.Barrier(8)
        chosen: list[KernelChoice] = []

        def work() -> None:
            begin.wait()
            chosen.append(place.choose())

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [one.own for one in chosen] == [True] * 8
        assert len(place.given) == len(place.cuda.modules) == place.nvrtc.compiled == 1

    def test_are_loaded_when_what_was_missing_is_there(self, place: Place) -> None:
        place.cuda.fail("cuModuleLoadData", 209)
        assert not place.choose().own

        place.cuda.heal()
        assert place.choose().own

    def test_of_the_real_library_are_registered_with_the_real_runtime(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All but the compiler and the driver are real; the session options belong to a CPU build."""
        place.library = real = native_library()
        if Version(runtime.load().__version__).release[:2] < (1, real.api_version):
            pytest.skip("this ONNX Runtime is older than the library needs: Python 3.10 has no newer one")
        place.nvrtc.cubin = CUBIN + "\n".join(real.functions).encode()
        place.cuda.devices, place.gpus = 41, (H200,) * 41
        monkeypatch.setattr(choices.loading, "register", REGISTER)

        chosen = place.choose(Kernels.OWN, device_id=40)
        assert chosen.operators == CustomOperators(library=libraries.PATH, entries=(("onnxsd.device", "40"),))


class TestStock:
    def test_that_was_asked_for_looks_at_nothing(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(choices, "OperatorLibrary")

        assert place.choose(Kernels.STOCK) == KernelChoice(
            operators=None, reason="stock operators were asked for"
        )

    @pytest.mark.parametrize("provider", [Provider.CPU, Provider.TENSORRT])
    def test_on_another_provider(self, place: Place, provider: Provider) -> None:
        assert refused(place, provider=provider) == (
            f"onnxsd's own kernels run on cuda, and this session runs on {provider.value}"
        )

    @pytest.mark.parametrize("precision", [DType.FLOAT32, DType.BFLOAT16])
    def test_in_another_precision(self, place: Place, precision: DType) -> None:
        assert refused(place, precision=precision) == (
            f"onnxsd's own kernels compute in float16, and this model is {precision.name.lower()}"
        )

    def test_without_the_native_library(
        self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(choices, "OperatorLibrary", libraries.OperatorLibrary)
        monkeypatch.setattr(libraries, "PATH", tmp_path / "_operators.so")

        assert refused(place) == (
            "onnxsd's native library was not built when onnxsd was installed (was there a C++ compiler?)"
        )

    def test_with_an_older_runtime(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        older = runtime.Runtime(
            version=Version("1.23.2"),
            packages=(runtime.Package(name="onnxruntime", version="1.23.2"),),
            cuda=None,
            providers=(),
        )
        monkeypatch.setattr(choices.runtime, "available", lambda: older)

        assert refused(place) == ("onnxruntime 1.23.2 is older than 1.24, which onnxsd's own kernels need")

    @pytest.mark.parametrize(
        ("version", "enough"),
        [("1.24", True), ("1.24.0.dev20260101", True), ("1.23.9", False), ("2.0", True), ("1.9", False)],
    )
    def test_the_version_of_the_runtime_is_compared_as_one(
        self, place: Place, version: str, enough: bool
    ) -> None:
        installed = replace(runtime.available(), version=Version(version))
        if enough:
            choices.require_runtime(place.library, installed)  # type: ignore[arg-type]
            return
        with pytest.raises(NotReadyError, match=r"older than 1\.24"):
            choices.require_runtime(place.library, installed)  # type: ignore[arg-type]

    def test_without_nvrtc(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        def find(majors: tuple[int, ...], path: list[str]) -> Nvrtc:
            assert majors == (13, 12)
            assert path is sys.path
            raise NotReadyError("NVRTC was not found: nowhere", hint="pip install it")

        monkeypatch.setattr(choices, "find", find)

        assert refused(place) == "NVRTC was not found: nowhere"

    def test_where_no_gpu_can_be_asked(self, place: Place) -> None:
        place.gpus = None

        assert refused(place) == "the NVIDIA driver does not say which GPUs there are"

    def test_on_a_gpu_that_is_too_old(self, place: Place) -> None:
        place.gpus = (VisibleGpu(name="Tesla V100-SXM2-16GB", compute_capability=(7, 0)),)

        assert refused(place) == (
            "the GPU (Tesla V100-SXM2-16GB, compute capability 7.0) is older than 7.5, "
            "which onnxsd's own kernels need"
        )

    def test_on_a_gpu_that_is_newer_than_nvrtc(self, place: Place) -> None:
        place.gpus = (VisibleGpu(name="NVIDIA B200", compute_capability=(10, 0)),)

        assert refused(place) == (
            "NVRTC 13.5 compiles nothing for a GPU of compute capability 10.0: "
            "it knows sm_75, sm_80, sm_90, sm_120"
        )

    def test_where_compiling_fails(self, place: Place) -> None:
        place.nvrtc.status, place.nvrtc.log = 6, "a.cu(1): error: no\n1 error detected"

        assert refused(place) == "NVRTC 13.5 cannot compile onnxsd_kernels.cu for sm_90: a.cu(1): error: no"

    def test_where_the_driver_takes_no_kernels(self, place: Place) -> None:
        place.cuda.fail("cuModuleLoadData", 209)

        assert refused(place) == "the NVIDIA driver's cuModuleLoadData failed: CUDA_ERROR_NO_BINARY_FOR_GPU"

    def test_where_a_kernel_is_missing(self, place: Place) -> None:
        place.library.functions = (*FUNCTIONS, "third")

        assert refused(place) == "the NVIDIA driver's cuModuleGetFunction failed: CUDA_ERROR_NOT_FOUND"
        assert not place.cuda.modules

    def test_where_the_driver_is_too_old_to_launch(self, place: Place) -> None:
        del place.cuda.cuLaunchKernelEx
        place.cuda.absent.add("cuLaunchKernelEx")

        assert refused(place) == "the NVIDIA driver has no cuLaunchKernelEx, which came with CUDA 11.8"

    def test_where_the_library_takes_no_more_devices(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise NotReadyError("onnxsd's native library takes no kernels for it")

        monkeypatch.setattr(place.library, "provide", refuse)

        assert refused(place) == "onnxsd's native library takes no kernels for it"
        assert not place.cuda.modules

    def test_where_registering_fails(
        self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.library.path = tmp_path / "none.so"
        monkeypatch.setattr(choices.loading, "register", REGISTER)

        assert refused(place).startswith(
            f"ONNX Runtime does not take the operators of {place.library.path}: Failed to load library"
        )


class TestErrors:
    def test_of_a_device_that_is_not_there_is_no_reason_for_stock(self, place: Place) -> None:
        with pytest.raises(
            ProviderFallbackError, match="asked for cuda on GPU 3, but CUDA sees 0: NVIDIA H200"
        ):
            place.choose(device_id=3)

    def test_of_a_gpu_without_room_is_no_reason_for_stock(self, place: Place) -> None:
        """The image would depend on what other programs hold."""
        place.cuda.fail("cuModuleLoadData", 2)

        with pytest.raises(DeviceMemoryError, match="cannot load kernels: the GPU is out of memory"):
            place.choose()


class TestCache:
    def test_that_cannot_be_written_is_a_warning_and_no_reason_for_stock(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.folder.write_text("a file")
        chosen = place.choose()

        assert chosen.own
        (warning,) = chosen.warnings
        assert re.fullmatch(
            rf"own kernels were compiled in \d+\.\d s and will be again: {re.escape(str(place.folder))}: .+",
            warning,
        )
        assert place.choose(Kernels.OWN).warnings == (warning,)
        monkeypatch.setattr(choices, "_loaded", {})
        assert place.choose().own
        assert place.nvrtc.compiled == 2

    def test_with_a_damaged_entry_is_mended_with_a_warning(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.choose()
        (entry,) = place.folder.iterdir()
        whole = entry.read_bytes()
        entry.write_bytes(whole[:-3])
        monkeypatch.setattr(choices, "_loaded", {})
        (warning,) = place.choose().warnings

        assert re.fullmatch(
            rf"own kernels were compiled anew in \d+\.\d s: {re.escape(str(entry))} is damaged", warning
        )
        assert entry.read_bytes() == whole
        monkeypatch.setattr(choices, "_loaded", {})
        assert place.choose().warnings == ()

    @pytest.mark.parametrize(
        "change",
        [
            lambda place: setattr(place.nvrtc, "version", (13, 6)),
            lambda place: setattr(place, "gpus", (replace(H200, compute_capability=(8, 0)),)),
        ],
        ids=["compiler", "gpu"],
    )
    def test_holds_nothing_for_another_machine(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, change: Callable[[Place], None]
    ) -> None:
        place.choose()
        change(place)
        monkeypatch.setattr(choices, "_loaded", {})
        place.choose()

        assert place.nvrtc.compiled == len(list(place.folder.iterdir())) == 2

    def test_holds_nothing_for_another_text(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        place.choose()
        monkeypatch.setattr(choices, "_loaded", {})
        monkeypatch.setattr(source, "translation_unit", lambda: "another")
        place.choose()

        assert place.nvrtc.compiled == 2
