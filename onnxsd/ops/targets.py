"""The targets that a model can be authored for."""

from __future__ import annotations

import enum

from onnxsd.ops.cuda import Cuda
from onnxsd.ops.own import OwnKernels
from onnxsd.ops.portable import Portable
from onnxsd.ops.vocabulary import Ops
from onnxsd.tensors import DType


class Target(enum.Enum):
    """Which operators a graph is written in."""

    CUDA = "cuda"
    PORTABLE = "portable"
    # Only in a session of this package, which brings the kernels.
    OWN = "own"


TARGETS: dict[Target, type[Ops]] = {
    Target.CUDA: Cuda,
    Target.PORTABLE: Portable,
    Target.OWN: OwnKernels,
}
# What files are written in: operators that a plain ONNX Runtime has.
EXPORTED = (Target.CUDA, Target.PORTABLE)


def ops_for(target: Target, name: str, dtype: DType) -> Ops:
    """The vocabulary for a new graph called `name` in a target and precision."""
    return TARGETS[target](name, dtype)
