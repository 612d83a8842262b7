"""What a session is asked to be: the provider, and how ONNX Runtime prepares and runs the graph."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxsd.session.tensorrt import TensorrtOptions


class Provider(enum.Enum):
    """Where a session runs; the value is the command line's name for it."""

    CUDA = "cuda"
    CPU = "cpu"
    TENSORRT = "tensorrt"

    @property
    def runtime_name(self) -> str:
        """ONNX Runtime's name of the execution provider."""
        return _RUNTIME_NAMES[self.value]

    @property
    def on_gpu(self) -> bool:
        """Whether its nodes run on an NVIDIA GPU."""
        return self is not Provider.CPU


_RUNTIME_NAMES = {
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class Optimization(enum.Enum):
    """How much ONNX Runtime rewrites a graph; the value is the name of its level."""

    ALL = "ORT_ENABLE_ALL"
    DISABLED = "ORT_DISABLE_ALL"


class ConvSearch(enum.Enum):
    """How cuDNN chooses the kernel of a convolution; its fallback mode, `DEFAULT`, may be extremely slow."""

    HEURISTIC = "HEURISTIC"
    EXHAUSTIVE = "EXHAUSTIVE"
    DEFAULT = "DEFAULT"


class LogLevel(enum.IntEnum):
    """The least severe message of ONNX Runtime that is let through."""

    VERBOSE = 0
    INFO = 1
    WARNING = 2
    ERROR = 3
    FATAL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomOperators:
    """Operators that ONNX Runtime does not have itself: the library that brings them, and what it is told.

    entries: of the session's configuration; the library reads them while it is registered.
    """

    library: Path
    entries: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How a session is prepared and run; the defaults suit a graph with symbolic sizes on either provider.

    Attributes:
        optimize: `DISABLED` for graphs that share weights by `initializers`; `ALL` folds constants at load.
        cuda_graph: capture the graph in the first bound run and replay it afterwards; needs IO binding,
            fixed addresses and every node on CUDA.
        cpu_nodes: whether nodes without a CUDA kernel may run on the CPU beside CUDA. A graph with symbolic
            sizes has such nodes (`Shape` and what follows it); a static one must not.
        fuse_conv_bias: one cuDNN graph for a convolution and its bias. NHWC only; slow in its first run.
        use_tf32: float32 products on tensor cores, rounded to 10 bits. Without it ONNX Runtime withholds the
            tensor cores from float16 convolutions too (conv.cc: `deselect_numeric_notes`), and then plans
            each one a second time, without its bias: float16 sessions want it.
        lean: as little memory as the nodes need in the order in which they are written. By default ONNX
            Runtime plans one piece for all activations beside what the first run took, keeps buffers for
            later values of their shape, and runs early what nothing waits for: three times as much.
        prepack: whether kernels may keep private, rearranged copies of weights. Without it, a write into an
            initializer is seen by CPU kernels too; CUDA's NhwcConv does not work without it.
        threads: threads within an operator on the CPU; `None` is one for each core.
        gpu_mem_limit_bytes: the most that the session's own CUDA arena may hold.
        tensorrt: how TensorRT builds and keeps the engine of a session on it; None is nothing but defaults.
        custom_operators: operators that the graph holds beside ONNX Runtime's own; None is none.
    """

    optimize: Optimization = Optimization.ALL
    cuda_graph: bool = False
    cpu_nodes: bool = False
    conv_search: ConvSearch = ConvSearch.HEURISTIC
    fuse_conv_bias: bool = False
    use_tf32: bool = False
    lean: bool = False
    prepack: bool = True
    threads: int | None = None
    gpu_mem_limit_bytes: int | None = None
    log: LogLevel = LogLevel.WARNING
    tensorrt: TensorrtOptions | None = None
    custom_operators: CustomOperators | None = None

    def cuda_options(self, device_id: int) -> dict[str, str]:
        """The CUDA provider's options, as the strings it takes."""
        options = {
            "device_id": str(device_id),
            # Growing by powers of two can hold nearly twice of what a UNet's activations need.
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": self.conv_search.value,
            "fuse_conv_bias": str(int(self.fuse_conv_bias)),
            "use_tf32": str(int(self.use_tf32)),
            "enable_cuda_graph": str(int(self.cuda_graph)),
        }
        if self.gpu_mem_limit_bytes is not None:
            options["gpu_mem_limit"] = str(self.gpu_mem_limit_bytes)
        return options
