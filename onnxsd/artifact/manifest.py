"""`onnxsd.json`, what an exported folder says of itself, beside `model_index.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from onnxsd import records
from onnxsd.errors import BadInputError
from onnxsd.tensors import DType
from onnxsd.weights.recipe import Recipe

NAME = "onnxsd.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRecord:
    """An input or output: each size a number, a symbol, or a formula over symbols."""

    name: str
    dtype: DType
    shape: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file of the folder, by its path in it."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweringRecord:
    """How many times an op was lowered in one of the ways that the target has."""

    op: str
    lowering: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InitializerRecord:
    """One weight: how it was made of the checkpoint's tensor, and where it starts in the data file."""

    recipe: Recipe
    offset: int
    # Of a cast to fp16: finite values that overflowed, and others that turned to zero.
    overflowed: int = 0
    zeroed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentRecord:
    """One model of the folder."""

    name: str
    model: FileRecord
    data: FileRecord
    config: FileRecord
    opset: int
    ir_version: int
    time_ids: int
    # What the VAE's residual stream is kept times, and the peak that this was chosen for.
    scale: float
    peak: float | None
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    lowerings: tuple[LoweringRecord, ...]
    initializers: tuple[InitializerRecord, ...]

    @property
    def overflowed(self) -> int:
        """How many weights overflowed in the cast."""
        return sum(entry.overflowed for entry in self.initializers)

    @property
    def zeroed(self) -> int:
        """How many weights turned to zero in the cast."""
        return sum(entry.zeroed for entry in self.initializers)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRecord:
    """One check that was made, of what, and what came out."""

    check: str
    component: str
    # What was run: the exported file, or a narrow twin where the machine was too small for it.
    subject: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentRecord:
    """What the denoiser works on, so that nothing has to assume four channels, a factor of 8, or a UNet."""

    denoiser: str
    prediction_type: str
    in_channels: int
    channels: int
    factor: int
    scaling_factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An exported folder."""

    schema: int
    onnxsd: str
    created: str
    source: str
    commit: str | None
    pipeline: str
    target: str
    precision: DType
    # The oldest onnxruntime that reads the files.
    runtime_floor: str
    latent: LatentRecord
    components: tuple[ComponentRecord, ...]
    # The index, the scheduler's configuration and the tokenizers' files.
    settings: tuple[FileRecord, ...]
    checks: tuple[CheckRecord, ...]
    # The VAE that was taken in place of the checkpoint's own.
    vae: str | None = None

    def component(self, name: str) -> ComponentRecord:
        """The component called `name`, which the folder must have."""
        for record in self.components:
            if record.name == name:
                return record
        raise BadInputError(f"this export has no {name}: it has {', '.join(c.name for c in self.components)}")

    def has(self, name: str) -> bool:
        """Whether the folder has a component."""
        return any(record.name == name for record in self.components)


def load(folder: Path) -> Manifest:
    """The manifest of an exported folder.

    Raises:
        BadInputError: there is no manifest, or it cannot be used; every fault is named.
    """
    path = folder / NAME
    if not folder.is_dir():
        raise BadInputError(f"{folder} is not a folder", hint="`onnxsd export MODEL FOLDER` writes one")
    if not path.is_file():
        raise BadInputError(
            f"{folder} has no {NAME}: it is not an export of onnxsd",
            hint="`onnxsd export MODEL FOLDER` writes one",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} is not JSON: {error}", hint="export again") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise BadInputError(
            f"{path} has schema {found}, this onnxsd reads {SCHEMA}", hint="export again with this version"
        )
    return records.decode(Manifest, content, source=str(path))


def save(manifest: Manifest, folder: Path) -> None:
    """Write the manifest into a folder."""
    text = json.dumps(records.encode(manifest), indent=1, ensure_ascii=False)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")
