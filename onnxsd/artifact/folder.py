"""An exported folder as a value: its manifest, and the blueprints and files of its components."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxsd.artifact import manifest as manifests
from onnxsd.artifact.manifest import FileRecord, Manifest
from onnxsd.errors import BadInputError
from onnxsd.models.components import COMPONENTS, Blueprint, component
from onnxsd.models.config import read_json
from onnxsd.models.families import Family, family_of, with_own_defaults
from onnxsd.ops import EXPORTED, Target

CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """An exported folder whose manifest was read."""

    path: Path
    manifest: Manifest

    @property
    def target(self) -> Target:
        """The target that its files are written for."""
        return Target(self.manifest.target)

    def blueprint(self, name: str) -> Blueprint:
        """What a component's graph is authored from."""
        record = self.manifest.component(name)
        return Blueprint(
            component=component(name),
            config=read_json(self.path / record.config.path),
            time_ids=record.time_ids,
            scale=record.scale,
        )

    def family(self) -> Family | None:
        """The family with the size, steps and guidance that suit this very model; None if it is not known."""
        family = family_of(self.manifest.pipeline, self.json("scheduler/scheduler_config.json"))
        if family is None:
            return None
        latent = self.manifest.latent
        sample = self.blueprint(latent.denoiser).config.get("sample_size")
        if isinstance(sample, int):
            family = replace(family, native_size=sample * latent.factor)
        index = "model_index.json"
        return with_own_defaults(family, self.json(index), source=str(self.path / index))

    def json(self, name: str) -> dict[str, Any]:
        """One of the folder's JSON files."""
        return read_json(self.path / name)


def open_folder(path: Path) -> Folder:
    """The exported folder at `path`.

    Raises:
        BadInputError: it is not an export of onnxsd, its manifest speaks of what this version does not know
            or contradicts itself, or a file of it is missing or of another size.
    """
    manifest = manifests.load(path)
    _require_sound(manifest, path / manifests.NAME)
    for record in files_of(manifest):
        found = path / record.path
        if not found.is_file():
            raise BadInputError(f"{found} is missing", hint="copy the folder again, or export again")
        if found.stat().st_size != record.size_bytes:
            raise BadInputError(
                f"{found} has {found.stat().st_size:,} bytes, the manifest says {record.size_bytes:,}",
                hint="copy the folder again, or export again",
            )
    return Folder(path=path, manifest=manifest)


def _require_sound(manifest: Manifest, path: Path) -> None:
    """Refuse targets and components of other versions, and weights that lie outside their data file."""
    faults = [] if manifest.target in {target.value for target in EXPORTED} else [f"target {manifest.target}"]
    known = {entry.name for entry in COMPONENTS}
    for record in manifest.components:
        if record.name not in known:
            faults.append(f"component {record.name}")
        faults += [
            f"{record.name}: {entry.recipe.name} at byte {entry.offset:,} of {record.data.size_bytes:,}"
            for entry in record.initializers
            if not 0 <= entry.offset <= record.data.size_bytes - entry.recipe.size_bytes
        ]
    if faults:
        more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise BadInputError(
            f"{path} cannot be used: {faults[0]}{more}", hint="export again with this version"
        )


def files_of(manifest: Manifest) -> tuple[FileRecord, ...]:
    """Every file that the manifest answers for."""
    models = (file for entry in manifest.components for file in (entry.model, entry.data, entry.config))
    return (*models, *manifest.settings)


def record_of(path: Path, root: Path) -> FileRecord:
    """A file's place, size and hash."""
    return FileRecord(
        path=path.relative_to(root).as_posix(), size_bytes=path.stat().st_size, sha256=hash_of(path)
    )


def hash_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
