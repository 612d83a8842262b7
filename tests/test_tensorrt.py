"""The TensorRT provider: why it does not run here, its options, its libraries, and nodes that it leaves."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import session_models as models
from packaging.version import Version

from onnxsd.errors import NotReadyError, ProviderFallbackError, UsageError
from onnxsd.session import (
    Package,
    Provider,
    Runtime,
    Session,
    SessionSettings,
    TensorrtOptions,
    loading,
    placement,
    resolve,
    runtime,
    tensorrt,
    tensorrt_libraries,
)

TENSORRT = Provider.TENSORRT
HAS_BUILD = TENSORRT.runtime_name in runtime.available().providers
# What onnxruntime-gpu 1.31.1 raises and logs where TensorRT is not installed, as it was seen.
RAISED = (
    "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void onnxruntime::python::"
    "RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::ProviderOptions&) "
    "Please install TensorRT libraries as mentioned in the GPU requirements page, make sure they're in the "
    "PATH or LD_LIBRARY_PATH, and that your GPU is supported.\n"
)
LOGGED = (
    "2026-11-21 19:32:58.685635004 [E:onnxruntime:Default, provider_bridge_ort.cc:2430 operator()] "
    "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& "
    "onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library "
    "/venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime_providers_tensorrt.so with error: "
    "libnvinfer.so.10: cannot open shared object file: No such file or directory\n"
)


def installed(version: str, cuda: str) -> Runtime:
    """A runtime with every provider of the GPU wheels."""
    return Runtime(
        version=Version(version),
        packages=(Package(name="onnxruntime-gpu", version=version),),
        cuda=cuda,
        providers=("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
    )


class TestWhereItDoesNotRun:
    @pytest.mark.skipif(HAS_BUILD, reason="this runtime was built for TensorRT")
    def test_a_build_without_it_is_named(self) -> None:
        with pytest.raises(ProviderFallbackError) as raised:
            resolve("tensorrt")

        assert raised.value.exit_code == 4
        assert f"asked for tensorrt, but {runtime.available()} was built without it" in str(raised.value)
        assert "CPUExecutionProvider" in raised.value.message
        assert "onnxruntime-gpu" in str(raised.value.hint)

    @pytest.mark.skipif(
        not HAS_BUILD or sys.platform != "linux", reason="this runtime was not built for TensorRT"
    )
    def test_a_machine_without_tensorrt_says_so(self) -> None:
        """No GPU is needed for it: the provider's libraries are loaded first."""
        if tensorrt_libraries.pip_folder() is not None:
            pytest.skip("TensorRT is installed")
        with pytest.raises(ProviderFallbackError, match=r"libnvinfer\.so\.\d+: cannot open shared object"):
            resolve("tensorrt")

    @pytest.mark.parametrize(
        ("build", "command"),
        [
            (installed("1.31.1", "13.0"), "pip install 'tensorrt-cu13<11,>=10'"),
            (installed("1.26.0", "12.8"), "pip install 'tensorrt-cu12<11,>=10'"),
        ],
    )
    def test_a_missing_library_is_the_reason_with_its_package(
        self, build: Runtime, command: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runtime, "available", lambda: build)

        told = loading.load_failure(RuntimeError(RAISED), LOGGED, "", TENSORRT, "a small model")

        assert isinstance(told, ProviderFallbackError)
        assert told.exit_code == 4
        assert told.message == (
            "asked for tensorrt, but its provider did not start: "
            "libnvinfer.so.10: cannot open shared object file: No such file or directory"
        )
        assert str(told.hint).startswith(command)
        assert "NVIDIA's own index" in str(told.hint)

    def test_a_library_of_pips_that_does_not_load_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        note = "/venv/tensorrt_libs/libnvinfer.so.10: invalid ELF header\n"
        monkeypatch.setattr(tensorrt_libraries, "preload", lambda: note)

        told = loading.load_failure(RuntimeError(RAISED), LOGGED, note, TENSORRT, "a small model")

        assert isinstance(told, ProviderFallbackError)
        assert told.message.endswith("libnvinfer.so.10: invalid ELF header")
        assert str(told.hint).startswith("pip install --force-reinstall 'tensorrt")

    def test_another_missing_library_is_the_doctors(self) -> None:
        log = LOGGED.replace("libnvinfer.so.10", "libcublas.so.13")

        told = loading.load_failure(RuntimeError(RAISED), log, "", TENSORRT, "a small model")

        assert "libcublas.so.13: cannot open shared object file" in str(told)
        assert str(told.hint).startswith("run `onnxsd doctor")

    def test_no_gpu_is_the_reason(self) -> None:
        error = RuntimeError("CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; hostname=h")

        told = loading.load_failure(error, "", "", TENSORRT, "a small model")

        assert isinstance(told, ProviderFallbackError)
        assert "no CUDA-capable device is detected" in told.message

    def test_auto_never_takes_it(self) -> None:
        assert resolve("auto").provider is not TENSORRT

    def test_a_captured_graph_is_refused(self) -> None:
        with pytest.raises(UsageError, match="a CUDA graph was asked of a session on tensorrt"):
            Session.create(models.scaled(), provider=TENSORRT, options=SessionSettings(cuda_graph=True))

    def test_its_options_are_refused_elsewhere(self) -> None:
        with pytest.raises(UsageError, match="options of TensorRT were given to a session on cpu"):
            Session.create(
                models.scaled(),
                provider=Provider.CPU,
                options=SessionSettings(tensorrt=TensorrtOptions(fp16=True)),
            )


class TestOptions:
    def test_keep_engine_and_timings(self) -> None:
        options = TensorrtOptions(
            fp16=True,
            shapes=(("sample", (2, 4, 64, 64)), ("time_ids", (2, 6))),
            engine_folder=Path("engines"),
            timing_folder=Path("timings"),
        )

        assert options.provider_options(3) == {
            "device_id": "3",
            "trt_fp16_enable": "True",
            "trt_weight_stripped_engine_enable": "False",
            "trt_engine_hw_compatible": "False",
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": "engines",
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": "timings",
            "trt_profile_min_shapes": "sample:2x4x64x64,time_ids:2x6",
            "trt_profile_opt_shapes": "sample:2x4x64x64,time_ids:2x6",
            "trt_profile_max_shapes": "sample:2x4x64x64,time_ids:2x6",
        }

    def test_of_a_small_model_keep_nothing(self) -> None:
        told = TensorrtOptions().provider_options(0)

        assert told["trt_engine_cache_enable"] == told["trt_timing_cache_enable"] == "False"
        assert not any("path" in name or "profile" in name for name in told)

    @pytest.mark.skipif(not HAS_BUILD, reason="this runtime was not built for TensorRT")
    def test_are_names_that_the_provider_has(self) -> None:
        capi = Path(runtime.load().__file__).parent / "capi"
        (provider,) = (path for path in capi.glob("*onnxruntime_providers_tensorrt.*"))
        known = provider.read_bytes()
        options = TensorrtOptions(shapes=(("x", (1,)),), engine_folder=Path("a"), timing_folder=Path("b"))

        for name in options.provider_options(0):
            assert name.encode() + b"\0" in known

    def test_cuda_stands_behind_only_where_it_is_said(self) -> None:
        def names(options: TensorrtOptions | None) -> list[str]:
            settings = SessionSettings(tensorrt=options)
            return [name for name, _ in loading.providers_for(settings, TENSORRT, 1)]

        assert names(None) == names(TensorrtOptions()) == ["TensorrtExecutionProvider"]
        assert names(TensorrtOptions(rest_on_cuda=True)) == [
            "TensorrtExecutionProvider",
            "CUDAExecutionProvider",
        ]


class TestNodesElsewhere:
    """A session on the CPU stands for one of which TensorRT took nothing."""

    def recorded(self) -> Any:
        module = runtime.load()
        options = module.SessionOptions()
        options.add_session_config_entry(placement.RECORD, "1")
        return module.InferenceSession(models.scaled(), options, providers=["CPUExecutionProvider"])

    @pytest.fixture(autouse=True)
    def needs_the_record(self) -> None:
        if not hasattr(runtime.load().InferenceSession, "get_provider_graph_assignment_info"):
            pytest.skip("this runtime does not say where nodes run")

    def test_are_named_in_an_error(self) -> None:
        with pytest.raises(
            ProviderFallbackError, match="it does not take all of unet: 1 on CPUExecutionProvider: Mul"
        ):
            loading.require_all_nodes(self.recorded(), SessionSettings(), "unet")

    def test_are_named_in_a_warning_where_they_are_allowed(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            loading.require_all_nodes(self.recorded(), SessionSettings(cpu_nodes=True), "unet")

        assert "unet: TensorRT does not take all of it: 1 on CPUExecutionProvider: Mul" in caplog.text

    def test_on_cuda_are_not_those_on_the_cpu(self) -> None:
        only_cuda = SessionSettings(tensorrt=TensorrtOptions(rest_on_cuda=True))

        with pytest.raises(ProviderFallbackError, match="CPUExecutionProvider"):
            loading.require_all_nodes(self.recorded(), only_cuda, "unet")

    def test_are_none_on_the_provider_asked_for(self) -> None:
        assert placement.elsewhere(self.recorded(), Provider.CPU) == {}

    def test_are_not_guessed_where_the_runtime_is_too_old_to_say(self) -> None:
        with pytest.raises(NotReadyError, match="cannot say which provider runs a node"):
            placement.elsewhere(SimpleNamespace(), TENSORRT)

    def test_are_told_shortly(self) -> None:
        found = {"CUDAExecutionProvider": tuple(f"Conv c{n}" for n in range(7))}

        assert placement.told(found) == (
            "7 on CUDAExecutionProvider: Conv c0, Conv c1, Conv c2, Conv c3, Conv c4, …"
        )


class TestLibraries:
    def test_are_named_by_the_provider(self) -> None:
        linux = b"\0libnvonnxparser.so.10\0libcudart.so.13\0libnvinfer.so.10\0libnvinfer_plugin.so.10\0"
        windows = b"\0nvonnxparser_10.dll\0nvinfer_10.dll\0KERNEL32.dll\0"

        assert tensorrt_libraries.names_in(linux) == (
            "libnvinfer.so.10",
            "libnvinfer_plugin.so.10",
            "libnvonnxparser.so.10",
        )
        assert tensorrt_libraries.names_in(windows) == ("nvinfer_10.dll", "nvonnxparser_10.dll")
        assert tensorrt_libraries.names_in(b"libcudart.so.13") == ()

    def test_that_are_damaged_are_told(self, tmp_path: Path) -> None:
        damaged = tmp_path / "libnvinfer.so.10"
        damaged.write_bytes(b"not a library")

        notes = tensorrt_libraries.load_from(tmp_path, ("libnvinfer.so.10", "libnvonnxparser.so.10"))

        assert notes.startswith(str(damaged))
        assert "libnvonnxparser" not in notes

    @pytest.mark.skipif(sys.platform != "linux", reason="a library of Linux")
    def test_that_load_have_nothing_to_say(self, tmp_path: Path) -> None:
        capi = Path(runtime.load().__file__).parent / "capi"
        library = next(capi.glob("onnxruntime_pybind11_state*.so"), None)
        assert library is not None
        shutil.copy(library, tmp_path / "libnvinfer.so.10")

        assert tensorrt_libraries.load_from(tmp_path, ("libnvinfer.so.10",)) == ""

    def test_say_their_version(self) -> None:
        library = SimpleNamespace(getInferLibVersion=lambda: 101601, getInferLibBuildVersion=lambda: 11)

        assert tensorrt_libraries.version_of(library) == "10.16.1.11"

    @pytest.mark.skipif(HAS_BUILD, reason="this runtime was built for TensorRT")
    def test_without_the_provider_have_no_version(self) -> None:
        assert tensorrt_libraries.names() == ()
        with pytest.raises(NotReadyError, match="names no libnvinfer"):
            tensorrt_libraries.version()


def test_the_install_command_is_of_this_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA that the matrix does not know still names a package."""
    monkeypatch.setattr(runtime, "available", lambda: installed("9.0.0", "14.0"))

    assert tensorrt.install_command().startswith("pip install 'tensorrt-cu14<11,>=10'")
