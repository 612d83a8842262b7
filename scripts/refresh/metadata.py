"""What a wheel's METADATA asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.parser import HeaderParser

from packaging.requirements import Requirement

from onnxsd.errors import BadInputError
from refresh.remote_zip import RemoteZip

_EXTRA = re.compile(r"""\s*(and\s+)?extra\s*==\s*["']([^"']+)["']""")


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelMetadata:
    """Requirements as METADATA writes them, those of extras without the marker that names the extra."""

    requires_python: str | None
    requires: tuple[str, ...]
    extras: dict[str, tuple[str, ...]]
    size_bytes: int  # of the wheel
    built: str  # the day its METADATA was packed


def read_metadata(archive: RemoteZip) -> WheelMetadata:
    """The METADATA of a wheel."""
    names = [name for name in archive.members if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
    if len(names) != 1:
        raise BadInputError(f"{archive.name} holds {len(names)} METADATA files, a wheel has one")
    headers = HeaderParser().parsestr(archive.read(names[0]).decode("utf-8"))
    plain, extras = _split(headers.get_all("Requires-Dist") or [])
    return WheelMetadata(
        requires_python=headers["Requires-Python"],
        requires=tuple(plain),
        extras={name: tuple(wanted) for name, wanted in extras.items()},
        size_bytes=archive.size_bytes,
        built=archive.members[names[0]].modified.isoformat(),
    )


def _split(lines: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Requirements of every install, and those of each extra."""
    plain: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in lines:
        found = _EXTRA.search(line)
        wanted = _EXTRA.sub("", line).strip().rstrip(";").strip() if found else line
        text = str(Requirement(wanted))
        (extras.setdefault(found.group(2), []) if found else plain).append(text)
    return plain, extras
