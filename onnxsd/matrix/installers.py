"""What versions of pip know."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from packaging.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class PipTag:
    """The oldest pip that knows wheels whose platform tag starts so."""

    prefix: str
    pip: Version
    source: str
    checked: datetime.date


@dataclass(frozen=True, slots=True, kw_only=True)
class PipFeature:
    """The oldest pip that has a feature, by its option or the name of its PEP."""

    feature: str
    pip: Version
    source: str
    checked: datetime.date
