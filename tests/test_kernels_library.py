"""The native library as Python and ONNX Runtime see it, on the CPU: what it says, takes and refuses."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_cases import Launches, native_library

from onnxsd.errors import NotReadyError, OnnxsdError
from onnxsd.kernels.library import PATH, OperatorLibrary
from onnxsd.machine import built_from
from onnxsd.session import CustomOperators, Optimization, Provider, Session, SessionSettings, runtime
from onnxsd.session.loading import native_options

CPU = Provider.CPU.runtime_name
PACKAGE = PATH.parents[1]
SHAPE = (1, 2, 2, 8)


@pytest.fixture(scope="module")
def library() -> OperatorLibrary:
    return native_library()


def operators(library: OperatorLibrary, device: str) -> CustomOperators:
    return CustomOperators(library=library.path, entries=(("onnxsd.device", device),))


def addition() -> bytes:
    """A model of one operator of the library."""
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT16, SHAPE)

    node = helper.make_node("FusedAdd", ["x", "skip"], ["y"], domain="onnxsd")
    graph = helper.make_graph([node], "one", [value("x"), value("skip")], [value("y")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("onnxsd", 1)]
    return bytes(helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString())


def session(library: OperatorLibrary, device: int) -> Session:
    settings = SessionSettings(
        optimize=Optimization.DISABLED, custom_operators=operators(library, str(device))
    )
    return Session.create(addition(), provider=Provider.CPU, options=settings)


def run(made: Session) -> None:
    made.run({name: np.ones(SHAPE, np.float16) for name in ("x", "skip")})


class TestWhatItSays:
    def test_its_kernels_have_names_of_their_own(self, library: OperatorLibrary) -> None:
        assert {"geglu", "addition"} <= set(library.functions)
        assert len(set(library.functions)) == len(library.functions)

    def test_it_needs_an_api_that_the_supported_runtimes_have(self, library: OperatorLibrary) -> None:
        assert library.api_version == 24


class TestMissing:
    def test_one_that_was_not_built_is_named_so(self, tmp_path: Path) -> None:
        with pytest.raises(NotReadyError) as raised:
            OperatorLibrary(tmp_path / "_operators.so")
        assert raised.value.message == (
            "onnxsd's native library was not built when onnxsd was installed (was there a C++ compiler?)"
        )
        assert "ONNXSD_REQUIRE_NATIVE=1" in (raised.value.hint or "")

    def test_one_that_does_not_load_says_why(self, tmp_path: Path) -> None:
        path = tmp_path / "_operators.so"
        path.write_bytes(built_from.mark(PACKAGE).encode())

        with pytest.raises(NotReadyError, match=r"^onnxsd's native library cannot be loaded: .") as raised:
            OperatorLibrary(path)
        assert raised.value.hint

    def test_one_without_the_entries_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import _ctypes

        monkeypatch.setattr(built_from, "fits", lambda library, package: True)
        with pytest.raises(NotReadyError, match=r"cannot be loaded: .*onnxsd_api_version"):
            OperatorLibrary(Path(_ctypes.__file__))

    @pytest.mark.parametrize("content", [b"", b"another", b"onnxsd_built_from_0_0"])
    def test_one_from_other_sources_is_not_loaded(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "_operators.so"
        path.write_bytes(content)

        with pytest.raises(NotReadyError, match="was built from other sources than those that are") as raised:
            OperatorLibrary(path)
        assert "install onnxsd again" in (raised.value.hint or "")

    def test_sources_that_cannot_be_read_say_why(
        self, library: OperatorLibrary, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(library: Path, package: Path) -> bool:
            raise PermissionError(13, "Permission denied", "rows.cu")

        monkeypatch.setattr(built_from, "fits", refused)
        with pytest.raises(NotReadyError, match=r"sources cannot be read: .*rows\.cu"):
            OperatorLibrary(library.path)


class TestRegistering:
    @pytest.fixture(autouse=True)
    def _with_a_runtime_that_is_new_enough(self, library: OperatorLibrary) -> None:
        if (installed := runtime.available()).version.release[:2] < (1, library.api_version):
            pytest.skip(f"{installed} has not the API that the library needs: Python 3.10 has no newer one")

    def test_with_the_cpu_as_its_provider_it_launches_what_it_was_given(
        self, library: OperatorLibrary
    ) -> None:
        launches = Launches()
        addresses = range(1000, 1000 + len(library.functions))
        library.provide(7, CPU, launches.address, addresses)

        run(session(library, 7))
        assert launches.functions == [addresses[library.functions.index("addition")]]

    def test_each_device_has_its_own(self, library: OperatorLibrary) -> None:
        both = {device: Launches() for device in (8, 9)}
        for device, launches in both.items():
            library.provide(device, CPU, launches.address, [device] * len(library.functions))
        made = {device: session(library, device) for device in both}

        run(made[9])
        assert (both[8].functions, both[9].functions) == ([], [9])
        run(made[8])
        assert (both[8].functions, both[9].functions) == ([8], [9])

    def test_given_again_it_launches_the_new_ones(self, library: OperatorLibrary) -> None:
        old, new = Launches(), Launches()
        library.provide(10, CPU, old.address, [1] * len(library.functions))
        first = session(library, 10)
        library.provide(10, CPU, new.address, [2] * len(library.functions))
        run(first)
        run(session(library, 10))

        assert (old.functions, new.functions) == ([], [2, 2])

    def test_it_can_be_registered_for_many_sessions(self, library: OperatorLibrary) -> None:
        launches = Launches()
        library.provide(11, CPU, launches.address, [5] * len(library.functions))
        for made in [session(library, 11) for _ in range(5)]:
            run(made)

        assert launches.functions == [5] * 5

    def test_a_launch_that_fails_fails_the_run(self, library: OperatorLibrary) -> None:
        library.provide(12, CPU, Launches(status=700).address, [5] * len(library.functions))
        made = session(library, 12)

        with pytest.raises(OnnxsdError, match="700"):
            run(made)

    @pytest.mark.parametrize("device", ["13", "64", "-1", "first", "7x", ""])
    def test_a_device_without_kernels_is_refused(self, library: OperatorLibrary, device: str) -> None:
        settings = SessionSettings(custom_operators=operators(library, device))

        with pytest.raises(NotReadyError, match=r"^ONNX Runtime does not take the operators of ") as raised:
            native_options(settings, Provider.CPU)
        assert raised.value.message.endswith(f"onnxsd: no kernels were loaded for device {device}".rstrip())

    def test_a_session_that_names_no_device_is_refused(self, library: OperatorLibrary) -> None:
        settings = SessionSettings(custom_operators=CustomOperators(library=library.path))

        with pytest.raises(NotReadyError, match=r"does not take the operators of .*onnxsd"):
            native_options(settings, Provider.CPU)

    def test_a_library_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        settings = SessionSettings(custom_operators=CustomOperators(library=tmp_path / "none.so"))

        with pytest.raises(NotReadyError, match=r"does not take the operators of .*Failed to load"):
            native_options(settings, Provider.CPU)


class TestProviding:
    @pytest.mark.parametrize("slot", [-1, 64])
    def test_a_slot_out_of_range_is_refused(self, library: OperatorLibrary, slot: int) -> None:
        with pytest.raises(NotReadyError, match=f"no kernels for CPUExecutionProvider number {slot} "):
            library.provide(slot, CPU, 1, [1] * len(library.functions))

    def test_a_provider_that_it_does_not_know_is_refused(self, library: OperatorLibrary) -> None:
        with pytest.raises(NotReadyError, match="takes no kernels for TensorrtExecutionProvider number 0"):
            library.provide(0, "TensorrtExecutionProvider", 1, [1] * len(library.functions))

    def test_too_few_kernels_are_refused(self, library: OperatorLibrary) -> None:
        with pytest.raises(ValueError, match=f"{len(library.functions)} kernels are launched, and 1 were"):
            library.provide(0, CPU, 1, [1])


class OlderRuntime:
    """ONNX Runtime's entry point, of a version that has no table of functions as new as the one asked for.

    statuses: the error codes and messages that were made.
    """

    def __init__(self, newest: int) -> None:
        self.statuses: list[tuple[int, str]] = []
        self.asked: list[int] = []
        pointer = ctypes.c_void_p
        create = ctypes.CFUNCTYPE(pointer, ctypes.c_int, ctypes.c_char_p)(self._create_status)
        # Nothing but the first function, so that a call of any other one crashes.
        self._api = (pointer * 1)(ctypes.cast(create, pointer))
        get_api = ctypes.CFUNCTYPE(pointer, ctypes.c_uint32)(self._get_api)
        version = ctypes.create_string_buffer(f"1.{newest}.5".encode())
        get_version = ctypes.CFUNCTYPE(pointer)(lambda: ctypes.addressof(version))
        self.base = (pointer * 2)(ctypes.cast(get_api, pointer), ctypes.cast(get_version, pointer))
        self._kept = (create, get_api, get_version)
        self._newest = newest

    def _get_api(self, version: int) -> int | None:
        self.asked.append(version)
        return ctypes.addressof(self._api) if version <= self._newest else None

    def _create_status(self, code: int, message: bytes) -> int:
        self.statuses.append((code, message.decode()))
        return 0x1234


@pytest.mark.parametrize("newest", [1, 22, 23])
def test_an_older_runtime_gets_an_error_and_no_operators(library: OperatorLibrary, newest: int) -> None:
    base = OlderRuntime(newest)
    register = ctypes.CDLL(str(library.path)).RegisterCustomOps
    register.restype, register.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_void_p)

    assert register(None, base.base) == 0x1234
    assert base.statuses == [
        (9, f"onnxsd's operators need ONNX Runtime 1.24 or later, this is 1.{newest}.5"),
    ]
    assert base.asked == [24, 1]
