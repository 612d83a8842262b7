"""What stops a machine, as a pure function of its facts and of what is known about wheels."""

from __future__ import annotations

from onnxsd.doctor.checks import CHECKS
from onnxsd.doctor.diagnosis import check_called, diagnose
from onnxsd.doctor.finding import ByHand, Diagnosis, Finding, Pip, Severity
from onnxsd.doctor.recommend import Recommendation, Rejected, recommend

__all__ = [
    "CHECKS",
    "ByHand",
    "Diagnosis",
    "Finding",
    "Pip",
    "Recommendation",
    "Rejected",
    "Severity",
    "check_called",
    "diagnose",
    "recommend",
]
