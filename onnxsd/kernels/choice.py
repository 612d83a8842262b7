"""Own kernels or ONNX Runtime's: which a session uses, and why."""

from __future__ import annotations

import enum
import sys
import threading
from dataclasses import dataclass

from onnxsd.errors import NotReadyError
from onnxsd.kernels import library as libraries
from onnxsd.kernels.cubin_cache import CubinCache, cache_folder
from onnxsd.kernels.library import OperatorLibrary
from onnxsd.kernels.loaded import Cubin, LoadedKernels, cubin_for, load
from onnxsd.kernels.nvrtc_library import find, majors_for
from onnxsd.session import gpus, loading, runtime
from onnxsd.session.driver import driver
from onnxsd.session.settings import CustomOperators, Provider
from onnxsd.tensors import DType

# The entry of a session's configuration by which the native library knows the device.
DEVICE_ENTRY = "onnxsd.device"
_WITHOUT = "leave --own-kernels out, and it runs on stock operators"
_lock = threading.Lock()
_loaded: dict[int, LoadedKernels] = {}


class Kernels(enum.Enum):
    """Which kernels are asked for; the value is the command line's name for it."""

    AUTO = "auto"
    OWN = "own"
    STOCK = "stock"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelChoice:
    """Which kernels a session uses.

    operators: what a session is given for own kernels; None means stock ones. reason: one line that says why.
    warnings: what went wrong without changing what is computed.
    """

    operators: CustomOperators | None
    reason: str
    warnings: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        """Whether onnxsd's own kernels are used."""
        return self.operators is not None


def choose(asked: Kernels, *, provider: Provider, device_id: int, precision: DType) -> KernelChoice:
    """Own kernels where they are asked for or, by `AUTO`, where they can be used; loaded and registered.

    What was loaded for a device stays for the life of the process.

    Raises:
        NotReadyError: own kernels were asked for, and something that they need is missing.
        ProviderFallbackError: nothing runs on this GPU, neither kind of kernels.
        DeviceMemoryError: the GPU has no room for kernels; stock ones would make the image depend on that.
    """
    if asked is Kernels.STOCK:
        return KernelChoice(operators=None, reason="stock operators were asked for")
    try:
        return _own(provider, device_id, precision)
    except NotReadyError as error:
        if asked is Kernels.AUTO:
            return KernelChoice(operators=None, reason=error.message)
        raise NotReadyError(
            f"own kernels were asked for, but {error.message}", hint=error.hint or _WITHOUT
        ) from error


def require_use(provider: Provider, precision: DType) -> None:
    """Refuse a session for which there are no own kernels."""
    if provider is not Provider.CUDA:
        raise NotReadyError(f"onnxsd's own kernels run on cuda, and this session runs on {provider.value}")
    if precision is not DType.FLOAT16:
        raise NotReadyError(
            f"onnxsd's own kernels compute in float16, and this model is {precision.numpy_name}",
            hint="export it with --precision fp16",
        )


def require_runtime(library: OperatorLibrary, installed: runtime.Runtime) -> None:
    """Refuse an ONNX Runtime that has not the C API which the native library calls: version N is of 1.N."""
    if installed.version.release[:2] < (1, library.api_version):
        raise NotReadyError(
            f"{installed} is older than 1.{library.api_version}, which onnxsd's own kernels need",
            hint="`onnxsd doctor` names the newest wheel for this machine",
        )


def _own(provider: Provider, device_id: int, precision: DType) -> KernelChoice:
    require_use(provider, precision)
    library = OperatorLibrary(libraries.PATH)
    require_runtime(library, runtime.available())
    with _lock:
        if device_id not in _loaded:
            _loaded[device_id] = _load(device_id, library)
        loaded = _loaded[device_id]
    operators = CustomOperators(library=library.path, entries=((DEVICE_ENTRY, str(device_id)),))
    loading.register(operators, runtime.load().SessionOptions())
    return KernelChoice(operators=operators, reason=_why(loaded.cubin), warnings=loaded.cubin.warnings)


def _load(device_id: int, library: OperatorLibrary) -> LoadedKernels:
    # Loads the CUDA libraries of pip's packages, so that always the same NVRTC is found.
    loading.require(Provider.CUDA)
    nvrtc = find(majors_for(runtime.available().cuda), sys.path)
    return load(cubin_for(_gpu(device_id), nvrtc, CubinCache(cache_folder())), library, driver(device_id))


def _gpu(device_id: int) -> gpus.VisibleGpu:
    found = gpus.visible_gpus()
    gpus.require_device(Provider.CUDA.value, device_id, found)
    if not found:
        raise NotReadyError(
            "the NVIDIA driver does not say which GPUs there are", hint="run `onnxsd doctor --for generate`"
        )
    return found[device_id]


def _why(cubin: Cubin) -> str:
    how = "from the cache" if cubin.compiled_s is None else f"compiled in {cubin.compiled_s:.1f} s"
    return f"own kernels for sm_{cubin.architecture}, {how}"
