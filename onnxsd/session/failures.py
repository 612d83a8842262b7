"""Exceptions of ONNX Runtime, told as onnxsd's errors: out of memory, a model too new, a model unusable."""

from __future__ import annotations

import re
from typing import Any

from onnxsd.errors import BadInputError, DeviceMemoryError, NotReadyError, OnnxsdError
from onnxsd.session import runtime
from onnxsd.session.native_log import plain
from onnxsd.session.settings import Provider

_OUT_OF_MEMORY = re.compile(
    r"Failed to allocate memory|bad[ _]alloc|BFCArena|out of memory|smaller than requested bytes"
    r"|CU(?:DNN|BLAS)_STATUS_(?:\w+_)?ALLOC(?:ATION)?_FAILED|cudaErrorMemoryAllocation"
    r"|CUDA (?:failure|error) 2\b",
    re.IGNORECASE,
)
_REQUESTED = re.compile(r"(?:requested buffer of size|requested bytes of) (\d+)")
_TOO_NEW = re.compile(
    r"Unsupported model IR version: (?P<ir>\d+), max supported IR version: (?P<ir_max>\d+)"
    r"|Opset (?P<opset>\d+) is under development.*?domain (?P<domain>\S+) is till opset (?P<opset_max>\d+)",
    re.DOTALL,
)
# "CUDA error 700" is what own kernels say.
_DEVICE_FAILURE = re.compile(r"CU(?:DA|DNN|BLAS) failure|CU(?:DNN|BLAS)_STATUS_|cudaError|CUDA error \d")
_NO_KERNEL = re.compile(r"Could not find an implementation for (\S+?)\(\d+\) node")
_SOURCE_PLACE = re.compile(r"^(?:.*: )?\S+\.(?:cc|cu|h|hpp|cuh):\d+ .*\)(?: const)? (?=[A-Z])")


def runtime_exceptions(module: Any) -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: its own classes, and those that its bindings and native code fall back to."""
    native = module.capi.onnxruntime_pybind11_state
    own = (getattr(native, name) for name in dir(native))
    classes = [item for item in own if isinstance(item, type) and issubclass(item, Exception)]
    return (*classes, RuntimeError, MemoryError, ValueError)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the device or on the host."""
    return isinstance(error, MemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


def explain(error: Exception, *, doing: str, provider: Provider) -> OnnxsdError:
    """The error of onnxsd for what ONNX Runtime raised while `doing` something ("load unet", "run unet")."""
    text = str(error)
    if is_out_of_memory(error):
        return out_of_memory(doing=doing, provider=provider, said=text)
    if found := _TOO_NEW.search(text):
        return _too_new(found, doing)
    if found := _NO_KERNEL.search(text):
        return BadInputError(
            f"cannot {doing}: ONNX Runtime has no {found[1]} for {provider.value}",
            hint="a model exported with --target cuda runs on CUDA only; --target portable runs anywhere",
        )
    if _DEVICE_FAILURE.search(text):
        return NotReadyError(
            f"cannot {doing}: {first_line(error)}", hint="run `onnxsd doctor --for generate`"
        )
    return BadInputError(f"cannot {doing}: {first_line(error)}")


def out_of_memory(*, doing: str, provider: Provider, said: str = "") -> DeviceMemoryError:
    """Memory ran out while `doing`, with the size of the request where what ONNX Runtime `said` names it."""
    where = "the GPU" if provider.on_gpu else "the machine"
    requested = _REQUESTED.search(said)
    size = f" (asked for {int(requested[1]) / 2**20:,.0f} MiB more)" if requested else ""
    return DeviceMemoryError(
        f"cannot {doing}: {where} is out of memory{size}",
        hint="use a smaller image or batch, or end other programs that hold its memory",
    )


def first_line(error: BaseException) -> str:
    """The first line of an exception of ONNX Runtime, without error code and source file."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return _SOURCE_PLACE.sub("", plain(lines[0])) if lines else type(error).__name__


def _too_new(found: re.Match[str], doing: str) -> NotReadyError:
    if found["ir"]:
        what, most = f"ONNX IR version {found['ir']}", found["ir_max"]
    else:
        what, most = f"opset {found['opset']} of {found['domain']}", found["opset_max"]
    installed = runtime.available()
    floor = runtime.MINIMUM_CUDA13
    wanted = f">= {floor}" if installed.version < floor else f"> {installed.version}"
    return NotReadyError(
        f"cannot {doing}: it has {what}, and {installed} reads up to {most}; it needs onnxruntime {wanted}",
        hint="`onnxsd doctor` names the newest wheel for this machine",
    )
