"""The kernels of one device: compiled or found in the cache, loaded, and given to the native library."""

from __future__ import annotations

import time
from dataclasses import dataclass

from onnxsd.errors import NotReadyError
from onnxsd.kernels import source
from onnxsd.kernels.cubin_cache import CubinCache, Key
from onnxsd.kernels.library import OperatorLibrary
from onnxsd.kernels.nvrtc import Nvrtc, architecture_for
from onnxsd.machine.own_kernels import OLDEST_CAPABILITY
from onnxsd.session.driver import Driver
from onnxsd.session.gpus import VisibleGpu
from onnxsd.session.settings import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Cubin:
    """Machine code for one device; `compiled_s` is how long the compiler took, None from the cache."""

    content: bytes
    architecture: int
    compiled_s: float | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedKernels:
    """Kernels that a device holds and the native library launches; they stay as long as the process."""

    module: int
    cubin: Cubin


def cubin_for(gpu: VisibleGpu, nvrtc: Nvrtc, cache: CubinCache) -> Cubin:
    """The kernels for a GPU, from the cache where they are kept, else compiled and kept."""
    if gpu.compute_capability < OLDEST_CAPABILITY:
        raise NotReadyError(
            f"the GPU ({gpu.name}, compute capability {_dotted(gpu.compute_capability)}) is older than "
            f"{_dotted(OLDEST_CAPABILITY)}, which onnxsd's own kernels need"
        )
    unit = source.translation_unit()
    architecture = architecture_for(gpu.compute_capability, nvrtc)
    key = Key(source=unit, options=source.OPTIONS, nvrtc=nvrtc.version, architecture=architecture)
    found = cache.read(key)
    if found.content is not None:
        return Cubin(content=found.content, architecture=architecture, compiled_s=None)
    begin_s = time.perf_counter()
    compiled = nvrtc.compile(unit, name=source.NAME, architecture=architecture, options=source.OPTIONS)
    took_s = time.perf_counter() - begin_s
    fault = cache.write(key, compiled.cubin)
    return Cubin(
        content=compiled.cubin,
        architecture=architecture,
        compiled_s=took_s,
        warnings=_warnings(took_s, found.fault, fault),
    )


def load(cubin: Cubin, library: OperatorLibrary, driver: Driver) -> LoadedKernels:
    """Load the kernels onto the driver's device, and give them to the native library."""
    launch = driver.launcher()
    module = driver.load_module(cubin.content)
    try:
        functions = [driver.function(module, name) for name in library.functions]
        library.provide(driver.ordinal, Provider.CUDA.runtime_name, launch, functions)
    except BaseException:
        driver.unload_module(module)
        raise
    return LoadedKernels(module=module, cubin=cubin)


def _warnings(took_s: float, read_fault: str | None, write_fault: str | None) -> tuple[str, ...]:
    if write_fault is not None:
        return (f"own kernels were compiled in {took_s:.1f} s and will be again: {write_fault}",)
    if read_fault is not None:
        return (f"own kernels were compiled anew in {took_s:.1f} s: {read_fault}",)
    return ()


def _dotted(capability: tuple[int, int]) -> str:
    return "{}.{}".format(*capability)
