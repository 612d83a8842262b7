"""Every check of an exported folder, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from onnxsd.artifact.folder import Folder, files_of, hash_of
from onnxsd.artifact.manifest import CheckRecord
from onnxsd.session import Choice
from onnxsd.verify import shapes

# What the runs may take of the memory that is free.
SHARE = 0.5
# Where there is no /proc: enough for small models, the others are run as twins.
ASSUMED_BYTES = 2 << 30


def verify(folder: Folder, *, choice: Choice) -> Iterator[CheckRecord]:
    """Hashes of all files, then each component's file, symbols and runs."""
    for record in files_of(folder.manifest):
        found = hash_of(folder.path / record.path)
        same = found == record.sha256
        yield CheckRecord(
            check="hash",
            component=record.path.partition("/")[0],
            subject=record.path,
            passed=same,
            detail=f"{record.size_bytes:,} bytes" if same else f"expected {record.sha256}, found {found}",
        )
    memory = int(available_memory_bytes() * SHARE)
    for component in folder.manifest.components:
        yield from shapes.check(folder, component.name, choice=choice, memory_bytes=memory)


def available_memory_bytes() -> int:
    """Memory that a new program may have without swapping; a little where the system does not say."""
    seen = free_memory_bytes()
    return ASSUMED_BYTES if seen is None else seen


def free_memory_bytes() -> int | None:
    """Memory that a new program may have without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
