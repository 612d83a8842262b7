"""What is said where CUDA, memory or the model is not what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import session_models as models
from onnx import helper
from packaging.version import Version

from onnxsd import session as onnxsd_session
from onnxsd.errors import (
    BadInputError,
    DeviceMemoryError,
    NotReadyError,
    ProviderFallbackError,
    UsageError,
)
from onnxsd.session import (
    Provider,
    Runtime,
    Session,
    SessionSettings,
    empty,
    failures,
    loading,
    runtime,
)

CPU = Provider.CPU
without_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" in runtime.available().providers, reason="this runtime was built for CUDA"
)


class TestUnusableModels:
    def test_too_new_an_ir_version_names_the_floor(self) -> None:
        with pytest.raises(
            NotReadyError, match=r"ONNX IR version 99, and onnxruntime .* needs onnxruntime >"
        ):
            Session.create(models.scaled(ir_version=99), provider=CPU, label="unet")

    def test_too_new_an_opset_names_the_floor(self) -> None:
        with pytest.raises(NotReadyError, match=r"opset 99 of ai\.onnx, .* reads up to \d+; it needs onnx"):
            Session.create(models.scaled(opset=99), provider=CPU, label="unet")

    def test_an_old_runtime_is_told_the_floor_for_sure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        old = Runtime(version=Version("1.25.0"), packages=(), cuda="12.8", providers=())
        monkeypatch.setattr(runtime, "available", lambda: old)
        error = RuntimeError("Unsupported model IR version: 12, max supported IR version: 11")

        told = failures.explain(error, doing="load unet", provider=CPU)

        assert isinstance(told, NotReadyError)
        assert "onnxruntime 1.25.0 reads up to 11; it needs onnxruntime >= 1.28" in str(told)

    @pytest.mark.parametrize("content", [b"this is no model", b""])
    def test_bytes_and_files_that_are_no_model(self, content: bytes, tmp_path: Path) -> None:
        file = tmp_path / "model.onnx"
        file.write_bytes(content)

        for source in (content, file):
            with pytest.raises(BadInputError):
                Session.create(source, provider=CPU)

    def test_a_file_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match=r"missing\.onnx"):
            Session.create(tmp_path / "missing.onnx", provider=CPU)

    @without_cuda
    def test_an_operator_without_a_kernel_is_named(self) -> None:
        only_cuda = models.model(
            [helper.make_node("NhwcConv", ["x", "w"], ["y"], domain="com.microsoft")],
            [models.value("x", [1, 4, 4, 4]), models.value("w", [4, 3, 3, 4])],
            [models.value("y", None)],
        )

        with pytest.raises(BadInputError, match="has no NhwcConv for cpu"):
            Session.create(only_cuda, provider=CPU)

    def test_weights_on_another_device_are_an_error(self) -> None:
        """What ONNX Runtime only warns of: the session would run with the weights of its file."""
        warning = (
            "20:15 [W:onnxruntime:, session_state_utils.cc:290 operator()] Cannot use user supplied"
            " initializer with name: (unet.weight) because the ORT planned memory location device"
            " Device:[GPU] is different"
        )

        with pytest.raises(UsageError, match=r"unet: 1 weights were not used in place, .*: unet\.weight"):
            loading.require_shared(warning, "unet")

    def test_settings_that_contradict_the_provider(self) -> None:
        with pytest.raises(UsageError, match="CUDA graph"):
            Session.create(models.scaled(), provider=CPU, options=SessionSettings(cuda_graph=True))


class TestOutOfMemory:
    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (
                RuntimeError(
                    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running"
                    " MatMul node. bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t,"
                    " bool) Failed to allocate memory for requested buffer of size 2147483648"
                ),
                "asked for 2,048 MiB more",
            ),
            (
                RuntimeError("Available memory of 1048576 is smaller than requested bytes of 5242880"),
                "asked for 5 MiB more",
            ),
            (RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; hostname=h"), "the GPU is out of memory"),
            (
                RuntimeError("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0"),
                "the GPU is out of memory",
            ),
            (RuntimeError("CUDNN_BACKEND: CUDNN_STATUS_ALLOC_FAILED"), "the GPU is out of memory"),
            (
                RuntimeError(
                    "CUDNN failure 4003: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0"
                ),
                "the GPU is out of memory",
            ),
            (
                RuntimeError("onnxsd GEGLU: launching geglu failed with CUDA error 2"),
                "the GPU is out of memory",
            ),
            (RuntimeError("bad allocation"), "the GPU is out of memory"),
            (MemoryError("std::bad_alloc"), "the GPU is out of memory"),
        ],
    )
    def test_is_told_from_other_failures(self, error: Exception, says: str) -> None:
        told = failures.explain(error, doing="run unet", provider=Provider.CUDA)

        assert isinstance(told, DeviceMemoryError)
        assert told.exit_code == 5
        assert says in str(told)
        assert "run unet" in str(told)

    @pytest.mark.parametrize(
        "text", ["Invalid rank for input: x", "CUDA failure 700: an illegal memory access"]
    )
    def test_is_not_seen_in_other_failures(self, text: str) -> None:
        told = failures.explain(RuntimeError(text), doing="run unet", provider=Provider.CUDA)

        assert not isinstance(told, DeviceMemoryError)
        assert text in str(told)

    def test_a_kernel_of_ours_that_the_gpu_refuses_is_no_bad_model(self) -> None:
        said = "onnxsd GEGLU: launching geglu failed with CUDA error 209"
        told = failures.explain(RuntimeError(said), doing="run unet", provider=Provider.CUDA)

        assert isinstance(told, NotReadyError)
        assert said in str(told)

    def test_happens_in_a_run(self) -> None:
        """A tensor of 4 EiB is refused by any machine, at no cost."""
        expand = models.model(
            [helper.make_node("Expand", ["x", "shape"], ["y"])],
            [models.value("x", [1]), models.value("shape", [1], np.int64)],
            [models.value("y", ["n"])],
        )
        session = Session.create(expand, provider=CPU, label="expand")

        with pytest.raises(DeviceMemoryError, match="cannot run expand: the machine is out of memory"):
            session.run({"x": np.ones(1, np.float32), "shape": np.array([1 << 60])})


class TestProviders:
    def test_the_cpu_is_taken_when_asked_for(self) -> None:
        assert onnxsd_session.resolve("cpu").provider is CPU

    def test_an_unknown_name_lists_what_exists(self) -> None:
        known = "unknown provider rocm: it is one of cuda, cpu, tensorrt, auto"
        with pytest.raises(UsageError, match=known) as raised:
            onnxsd_session.resolve("rocm")

        assert raised.value.exit_code == 2

    @without_cuda
    def test_cuda_without_cuda_names_the_package(self) -> None:
        installed = runtime.available()

        for ask in (
            lambda: onnxsd_session.resolve("cuda"),
            lambda: Session.create(models.scaled(), provider=Provider.CUDA),
            lambda: empty((1,), np.float32, Provider.CUDA),
        ):
            with pytest.raises(ProviderFallbackError) as raised:
                ask()
            assert raised.value.exit_code == 4
            assert f"asked for cuda, but {installed} was built without it" in str(raised.value)
            assert str(installed.version) in str(raised.value)
            assert "onnxruntime-gpu" in str(raised.value)

    @without_cuda
    @pytest.mark.filterwarnings("ignore:Specified provider")
    @pytest.mark.parametrize("cpu_nodes", [False, True])
    def test_a_session_that_fell_back_is_an_error(
        self, cpu_nodes: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A CPU build that is believed to know CUDA really falls back, loudly or in silence."""
        installed = runtime.available()
        believed = Runtime(
            # Python 3.10 has runtimes below CUDA's floor only, which would be refused first.
            version=max(installed.version, runtime.MINIMUM_CUDA12),
            packages=installed.packages,
            cuda="12.8",
            providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
        )
        monkeypatch.setattr(runtime, "available", lambda: believed)

        with pytest.raises(ProviderFallbackError, match="asked for cuda, but"):
            Session.create(
                models.scaled(), provider=Provider.CUDA, options=SessionSettings(cpu_nodes=cpu_nodes)
            )

    @pytest.mark.parametrize(
        ("said", "says"),
        [
            ("", "asked for cuda, but unet has nodes that would run on the CPU"),
            (
                "Failed to load library p.so with error: libcudnn.so.9: cannot open shared object file",
                "libcudnn",
            ),
        ],
    )
    def test_nodes_without_a_kernel_are_told_from_a_provider_that_did_not_start(
        self, said: str, says: str
    ) -> None:
        error = RuntimeError(
            "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the"
            " default CPU EP, but fallback to CPU EP has been explicitly disabled by the user."
        )

        told = loading.load_failure(error, said, "", Provider.CUDA, "unet")

        assert isinstance(told, ProviderFallbackError)
        assert says in str(told)

    @without_cuda
    def test_auto_without_cuda_says_why(self) -> None:
        choice = onnxsd_session.resolve("auto")

        assert choice.provider is CPU
        assert choice.reason.startswith(f"CUDA cannot be used: {runtime.available()} was built without it")
        assert "\n" not in choice.reason

    def test_the_probe_runs_on_the_cpu_too(self) -> None:
        from onnxsd.session.providers import probe_model

        session = Session.create(probe_model(), provider=CPU)
        feeds = {spec.name: np.ones([int(n) for n in spec.shape], np.float32) for spec in session.inputs}  # type: ignore[arg-type]

        assert (session.run(feeds)["result"] == 64).all()
