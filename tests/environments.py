"""Environments made of files alone: packages with their metadata, as an installer would leave them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxsd.machine import damage_child, modules_child, packages_child, python_child

READERS = (packages_child, damage_child, modules_child)


def install(
    site: Path, name: str, version: str, files: Mapping[str, str] | None = None, *, record: bool = True
) -> Path:
    """Write a package's files, metadata and RECORD; gives its metadata folder."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nAbout it.\n")
    (info / "INSTALLER").write_text("pip\n")
    rows = [f"{info.name}/METADATA,,", f"{info.name}/RECORD,,"]
    for inside, text in (files or {}).items():
        path = site / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{inside},sha256={digest},{len(text)}")
    if record:
        (info / "RECORD").write_text("\n".join(rows) + "\n")
    return info


def read(*path: Path | str, current_folder: Path | None = None, **changed: Any) -> dict[str, Any]:
    """What the readers say of an interpreter that looks into these folders."""
    known: dict[str, Any] = {
        "path": [str(entry) for entry in path],
        "current_folder": str(current_folder) if current_folder else None,
        "user_site_folder": None,
        "prefixes": [str(path[0])],
        "faults": [],
        **changed,
    }
    for reader in READERS:
        known.update(python_child._read_one(reader, known))
    return known
