"""ONNX Runtime's TensorRT provider: whether it can be asked for, and the options of a session on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnxsd.errors import ProviderFallbackError
from onnxsd.session import cuda, runtime, tensorrt_libraries
from onnxsd.session.settings import Provider

ASKED = "asked for tensorrt, but "
_WITHOUT = "take --provider cuda, which needs no TensorRT"
_DOCTOR = "run `onnxsd doctor --for generate` to see why and what to install"
_NOT_STARTED = (
    "Please install TensorRT libraries",
    "TensorRT wasn't able to be loaded",
    "Failed to create TensorrtExecutionProvider",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorrtOptions:
    """How TensorRT builds the engine of a session, and where it is kept.

    Attributes:
        fp16: whether TensorRT may compute in half precision; for a model of fp16 weights.
        shapes: the one size that the engine is built for, of each input that has symbolic sizes.
        engine_folder: where the built engine is kept and found again; it must be this engine's alone, since
            ONNX Runtime names the file by the model's file name and its inputs, not by its weights
            (microsoft/onnxruntime#6455). None keeps nothing.
        timing_folder: where timings of kernels are kept, which engines of one GPU and TensorRT share.
        rest_on_cuda: whether nodes that TensorRT does not take may run on the CUDA provider.
    """

    fp16: bool = False
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    engine_folder: Path | None = None
    timing_folder: Path | None = None
    rest_on_cuda: bool = False

    def build_options(self) -> dict[str, str]:
        """The provider's options that an engine depends on: they are part of the key that it is kept by."""
        options = {
            "trt_fp16_enable": str(self.fp16),
            # The weights lie in the engine, and it is built for this very GPU: both for speed.
            "trt_weight_stripped_engine_enable": "False",
            "trt_engine_hw_compatible": "False",
        }
        if self.shapes:
            sizes = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in self.shapes)
            options |= {f"trt_profile_{bound}_shapes": sizes for bound in ("min", "opt", "max")}
        return options

    def provider_options(self, device_id: int) -> dict[str, str]:
        """All of the provider's options, as the strings it takes."""
        options = {"device_id": str(device_id), **self.build_options()}
        for cache, folder in (("engine", self.engine_folder), ("timing", self.timing_folder)):
            options[f"trt_{cache}_cache_enable"] = str(folder is not None)
            if folder is not None:
                options[f"trt_{cache}_cache_path"] = str(folder)
        return options


def require() -> str:
    """What loading CUDA's and TensorRT's libraries had to say; an error where there is no TensorRT build."""
    installed = runtime.available()
    if Provider.TENSORRT.runtime_name not in installed.providers:
        names = " ".join(package.name for package in installed.packages) or "onnxruntime"
        raise ProviderFallbackError(
            f"{ASKED}{installed} was built without it (it has {', '.join(installed.providers)})",
            hint=f"pip uninstall -y {names}, then pip install 'onnxruntime-gpu[cuda,cudnn]' and TensorRT; "
            "`onnxsd doctor` names the wheel for this machine",
        )
    # TensorRT's provider links CUDA's libraries too.
    return cuda.require() + tensorrt_libraries.preload()


def says_not_started(text: str) -> bool:
    """Whether a native log or an error text says that the TensorRT provider did not start."""
    return any(said in text for said in _NOT_STARTED) or cuda.says_not_started(text)


def not_started(reason: str | None) -> ProviderFallbackError:
    """The error for a TensorRT provider that did not start, with ONNX Runtime's own reason."""
    said, hint = reason or "ONNX Runtime gives no reason", _DOCTOR
    if tensorrt_libraries.is_one(said):
        hint = install_command()
        # One that pip brought and that does not load is not found either: why it does not load says more.
        if damaged := tensorrt_libraries.preload():
            said, hint = damaged.strip(), install_command("--force-reinstall ")
    return ProviderFallbackError(f"{ASKED}its provider did not start: {said}", hint=f"{hint}; or {_WITHOUT}")


def nodes_elsewhere(label: str, named: str) -> ProviderFallbackError:
    """The error for a model of which TensorRT does not take every node."""
    return ProviderFallbackError(
        f"{ASKED}it does not take all of {label}: {named}",
        hint=f"allow it with TensorrtOptions(rest_on_cuda=True), or {_WITHOUT}",
    )


def install_command(options: str = "") -> str:
    """The command that installs the TensorRT which the installed runtime loads."""
    from onnxsd import matrix

    installed = runtime.available()
    pair = ("onnxruntime-gpu", "tensorrt")
    rows = (fit for fit in matrix.load().fits if (fit.package, fit.other) == pair)
    wants = next((str(fit.wants) for fit in rows if installed.version in fit.versions), "")
    major = (installed.cuda or "").partition(".")[0]
    package = f"tensorrt-cu{major}" if major else "tensorrt"
    return f"pip install {options}'{package}{wants}', which fetches TensorRT from NVIDIA's own index"
