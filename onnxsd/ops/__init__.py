"""The vocabulary that models are written in, its shape rules, and one file for each target."""

from onnxsd.ops.targets import TARGETS, Target, ops_for
from onnxsd.ops.vocabulary import Ops, Scope, Tensor

__all__ = ["TARGETS", "Ops", "Scope", "Target", "Tensor", "ops_for"]
