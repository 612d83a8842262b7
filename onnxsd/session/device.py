"""Tensors in the memory of one device, at an address that stays: what sessions share and bind."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.errors import BadInputError
from onnxsd.session import cuda, runtime
from onnxsd.session.block import Block
from onnxsd.session.driver import driver
from onnxsd.session.failures import explain, is_out_of_memory, out_of_memory
from onnxsd.session.native_log import capture
from onnxsd.session.settings import Provider
from onnxsd.tensors import aligned

# ONNX Runtime's names of element types, and numpy's.
ELEMENT_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceArray:
    """A tensor on one device. Its address never changes, so captured graphs and sessions may rely on it."""

    value: Any  # onnxruntime.OrtValue
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    provider: Provider
    device_id: int
    # The memory that it is a view of, on CUDA; ONNX Runtime allocated what has none.
    memory: Block | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of its elements."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def address(self) -> int:
        """Where its first element lies in the device's memory."""
        return int(self.value.data_ptr())

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)} on {self.provider.value}:{self.device_id}"


def empty(
    shape: tuple[int, ...], dtype: npt.DTypeLike, provider: Provider, device_id: int = 0
) -> DeviceArray:
    """A tensor whose elements are whatever its memory held."""
    return empty_together({"": (shape, np.dtype(dtype))}, provider, device_id)[""]


def empty_together(
    wanted: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]], provider: Provider, device_id: int = 0
) -> dict[str, DeviceArray]:
    """Tensors by name in one piece of memory, which is given back when none of them is left."""
    for _, kind in wanted.values():
        if kind.name not in ELEMENT_TYPES.values():
            raise BadInputError(
                f"no tensor of {kind.name} can be made: it is one of {', '.join(ELEMENT_TYPES.values())}"
            )
    if provider is Provider.CPU:
        return {name: _on_cpu(shape, kind) for name, (shape, kind) in wanted.items()}
    start_cuda(device_id)
    sizes = [aligned(prod(shape) * kind.itemsize) for shape, kind in wanted.values()]
    block = Block(driver(device_id), sum(sizes))
    offsets = itertools.accumulate(sizes, initial=0)
    return {
        name: view(block, offset, shape, kind, device_id)
        for (name, (shape, kind)), offset in zip(wanted.items(), offsets, strict=False)
    }


def view(
    block: Block, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], device_id: int
) -> DeviceArray:
    """A tensor over a block's bytes from `offset` on."""
    return DeviceArray(
        value=block.view(offset, shape, dtype),
        shape=tuple(shape),
        dtype=dtype,
        provider=Provider.CUDA,
        device_id=device_id,
        memory=block,
    )


def _on_cpu(shape: tuple[int, ...], kind: np.dtype[Any]) -> DeviceArray:
    make = runtime.load().OrtValue.ortvalue_from_shape_and_type
    try:
        value = make(list(shape), kind.type, Provider.CPU.value, 0)
    except (RuntimeError, MemoryError) as error:
        doing = f"hold {kind.name}{list(shape)}, {prod(shape) * kind.itemsize / 2**20:,.0f} MiB"
        raise explain(error, doing=doing, provider=Provider.CPU) from error
    return DeviceArray(value=value, shape=tuple(shape), dtype=kind, provider=Provider.CPU, device_id=0)


def to_device(array: npt.NDArray[Any], provider: Provider, device_id: int = 0) -> DeviceArray:
    """A copy of an array in the device's memory (on the CPU too: later writes to `array` are not seen)."""
    target = empty(array.shape, array.dtype, provider, device_id)
    update(target, array)
    return target


def to_host(source: DeviceArray) -> npt.NDArray[Any]:
    """A copy in host memory. After runs that were not synchronised, call `Binding.synchronize` first."""
    # On the CPU `numpy()` is a view that would follow later updates.
    return np.array(source.value.numpy(), dtype=source.dtype).reshape(source.shape)


def update(target: DeviceArray, array: npt.NDArray[Any]) -> None:
    """Write an array over a tensor, in place. Not while runs that were not synchronised may read it."""
    # ONNX Runtime compares only the number of elements: it would copy bytes of float64 into a float32 tensor.
    if array.shape != target.shape or array.dtype != target.dtype:
        raise BadInputError(f"cannot write {array.dtype.name}{list(array.shape)} over {target}")
    if array.size:
        target.value.update_inplace(np.asarray(array, order="C"))


def wrap(value: Any, provider: Provider, device_id: int) -> DeviceArray:
    """A tensor that ONNX Runtime allocated, such as a session's output."""
    kind = np.dtype(ELEMENT_TYPES[value.data_type()])
    shape = tuple(int(size) for size in value.shape())
    return DeviceArray(value=value, shape=shape, dtype=kind, provider=provider, device_id=device_id)


def user_owned(source: DeviceArray) -> Any:
    """An OrtValue over the same memory that ONNX Runtime takes for the caller's, as initializers must be.

    It refuses values whose memory it allocated itself ("must be owned by the user"); a DLPack capsule is the
    way round that copies nothing. `source` has to stay alive as long as the result.
    """
    if source.memory is not None:
        return source.value
    module = runtime.load()
    if hasattr(module.OrtValue, "from_dlpack"):
        return module.OrtValue.from_dlpack(source.value)
    # Up to 1.25 only the native class has it.
    native = source.value._ortvalue
    return module.OrtValue(type(native).from_dlpack(native.to_dlpack(), source.dtype == np.bool_))


@functools.cache
def start_cuda(device_id: int) -> None:
    """Hold one byte on the GPU; an error with ONNX Runtime's own reason where its CUDA provider cannot."""
    notes = cuda.require()
    failure: Exception | None = None
    with capture() as log, runtime.talkative():
        try:
            runtime.load().OrtValue.ortvalue_from_shape_and_type(
                [1], np.uint8, Provider.CUDA.value, device_id
            )
        except (RuntimeError, MemoryError) as error:
            failure = error
    if failure is None:
        return
    if is_out_of_memory(failure):
        raise out_of_memory(doing="hold one byte", provider=Provider.CUDA, said=str(failure)) from failure
    raise cuda.not_started(cuda.reason_in(log.text, notes, str(failure))) from failure
