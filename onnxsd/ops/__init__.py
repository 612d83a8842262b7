"""The vocabulary that models are written in, its shape rules, and one file for each target."""

from onnxsd.ops.targets import EXPORTED, TARGETS, Target, ops_for
from onnxsd.ops.terms import Scope, Tensor
from onnxsd.ops.vocabulary import Ops

__all__ = ["EXPORTED", "TARGETS", "Ops", "Scope", "Target", "Tensor", "ops_for"]
