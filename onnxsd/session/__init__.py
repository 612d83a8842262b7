"""ONNX Runtime, wrapped: sessions that run where they were asked to, and tensors that stay on the device.

Importing this imports no ONNX Runtime: that happens with the first call that needs it.
"""

from onnxsd.session.binding import Binding
from onnxsd.session.device import (
    DeviceArray,
    empty,
    empty_together,
    start_cuda,
    to_device,
    to_host,
    update,
    view,
)
from onnxsd.session.providers import Choice, resolve
from onnxsd.session.runtime import Package, Runtime, available
from onnxsd.session.session import Session
from onnxsd.session.settings import (
    ConvSearch,
    CustomOperators,
    LogLevel,
    Optimization,
    Provider,
    SessionSettings,
)
from onnxsd.session.specs import TensorSpec
from onnxsd.session.tensorrt import TensorrtOptions

__all__ = [
    "Binding",
    "Choice",
    "ConvSearch",
    "CustomOperators",
    "DeviceArray",
    "LogLevel",
    "Optimization",
    "Package",
    "Provider",
    "Runtime",
    "Session",
    "SessionSettings",
    "TensorSpec",
    "TensorrtOptions",
    "available",
    "empty",
    "empty_together",
    "resolve",
    "start_cuda",
    "to_device",
    "to_host",
    "update",
    "view",
]
