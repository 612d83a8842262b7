"""What a machine is to be ready for, and the oldest packages that serve."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass

from packaging.version import Version


class Goal(enum.Enum):
    """What a machine is to be ready for."""

    GENERATE = "generate"
    EXPORT = "export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The oldest release of a runtime that serves a goal; `cuda_major` None stands for any build."""

    goal: Goal
    package: str
    cuda_major: int | None
    version: Version
    because: str
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A package that `onnxsd[run]` brings, and the oldest version that serves."""

    name: str
    minimum: Version
    source: str
    checked: datetime.date
