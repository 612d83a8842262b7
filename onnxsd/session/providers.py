"""Which provider to run on: the one asked for, proved by a real session, or an error that says why not."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from onnxsd.errors import DeviceMemoryError, NotReadyError, OnnxsdError, ProviderFallbackError, UsageError
from onnxsd.session import cuda, gpus, loading, runtime
from onnxsd.session.native_log import capture
from onnxsd.session.session import Session
from onnxsd.session.settings import Optimization, Provider, SessionSettings

AUTO = "auto"
# Old enough for every supported runtime.
_IR_VERSION, _OPSET = 8, 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The provider to run on, and one line that says why."""

    provider: Provider
    device_id: int
    reason: str


def resolve(requested: str, device_id: int = 0) -> Choice:
    """The provider for `cuda`, `cpu`, `tensorrt` or `auto`, proved by a session on it.

    `auto` is CUDA or the CPU, and its reason says why not CUDA; a GPU other than number 0 was asked for by
    name, so there `auto` is CUDA or an error.

    Args:
        device_id: which GPU of those that CUDA_VISIBLE_DEVICES leaves, in its order, from 0.
    """
    names = [provider.value for provider in Provider]
    if requested not in (*names, AUTO):
        raise UsageError(f"unknown provider {requested}: it is one of {', '.join((*names, AUTO))}")
    runtime.load()
    if requested == Provider.CPU.value:
        return _cpu(device_id)
    provider = Provider.CUDA if requested == AUTO else Provider(requested)
    try:
        prove(provider, device_id)
    except (ProviderFallbackError, NotReadyError, DeviceMemoryError) as error:
        if requested != AUTO or device_id:
            raise
        why = error.message.removeprefix(cuda.ASKED)
        return Choice(provider=Provider.CPU, device_id=0, reason=f"CUDA cannot be used: {why}")
    title = {Provider.CUDA: "CUDA", Provider.TENSORRT: "TensorRT"}[provider]
    asked = f"a {title} session runs on this machine" if requested == AUTO else f"{title} was asked for"
    return Choice(provider=provider, device_id=device_id, reason=asked)


def _cpu(device_id: int) -> Choice:
    if device_id:
        raise UsageError(
            f"the CPU and device {device_id} were asked for; a device is a GPU",
            hint="leave --device out, or take --provider cuda",
        )
    return Choice(provider=Provider.CPU, device_id=0, reason="the CPU was asked for")


@functools.cache
def prove(provider: Provider, device_id: int) -> None:
    """Load and run a small model on a GPU (for CUDA cuBLAS and cuDNN take part); an error where that fails.

    `get_available_providers()` only says what was compiled in: this is the sole proof.
    """
    loading.require(provider)
    gpus.require_device(provider.value, device_id, gpus.visible_gpus())
    settings = SessionSettings(optimize=Optimization.DISABLED)
    session = Session.create(
        probe_model(), provider=provider, device_id=device_id, options=settings, label="a small model"
    )
    with capture() as log:
        failure = _run_probe(session)
    if isinstance(failure, DeviceMemoryError):
        raise failure
    if failure is not None:
        reason = cuda.reason_in(str(failure.__cause__), log.text)
        raise loading.did_not_start(provider, reason) from failure


def probe_model() -> bytes:
    """A convolution and a matrix product, the two things that CUDA needs cuDNN and cuBLAS for."""
    from onnx import TensorProto, helper

    def value(name: str, shape: tuple[int, ...]) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["filtered"], kernel_shape=[1, 1]),
            helper.make_node("MatMul", ["filtered", "matrix"], ["result"]),
        ],
        "probe",
        [value("image", (1, 8, 8, 8)), value("kernel", (8, 8, 1, 1)), value("matrix", (8, 8))],
        [value("result", (1, 8, 8, 8))],
    )
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)])
    return bytes(model.SerializeToString())


def _run_probe(session: Session) -> OnnxsdError | None:
    feeds = {
        spec.name: np.ones([size for size in spec.shape if isinstance(size, int)], spec.dtype)
        for spec in session.inputs
    }
    try:
        session.run(feeds)
    except OnnxsdError as error:
        return error
    return None
