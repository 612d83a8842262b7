"""A built-in model as an exported folder: exported once into a cache, and taken from there afterwards."""

from __future__ import annotations

import atexit
import functools
import hashlib
import secrets
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from onnxsd import __version__, builtin
from onnxsd.artifact.folder import files_of, hash_of, open_folder
from onnxsd.errors import BadInputError, OnnxsdError, ResourceError, UsageError
from onnxsd.export.export import Silent, export
from onnxsd.export.source import Say, from_package
from onnxsd.ops import Target
from onnxsd.tensors import DType

# The code that decides what an export of given weights holds: between two releases the version stands still.
MAKERS = ("artifact", "export", "models", "ops", "verify", "weights")
KEY_LENGTH = 16


def exported(
    name: str,
    cache: Path,
    *,
    say: Say,
    target: Target = Target.PORTABLE,
    precision: DType = DType.FLOAT16,
) -> Path:
    """The folder of the built-in model `name`, exported now if the cache does not hold it whole.

    Args:
        cache: the folder to keep exports in; where it cannot be written, a temporary folder serves until the
            program ends, and `say` is told.
        say: takes one line for each thing that a user should know of.
        target, precision: by default what runs on every provider, and takes half the disk: the weights that
            ship are fp16 already, so nothing is lost, and the engine authors a graph for its own provider.

    Raises:
        UsageError: this installation holds no such model.
        ResourceError: there is no room even for a temporary folder.
    """
    place = cache / f"{name}-{target.value}-{precision.numpy_name}-{_key(name)}"
    if _is_whole(place):
        return place
    try:
        _set_aside(place)
        say(f"exporting the built-in model {name} into {place}, this once")
        _export(name, place, target, precision)
    except (UsageError, ResourceError, OSError) as error:
        if _is_whole(place):  # another process was faster
            return place
        reason = (
            error.message if isinstance(error, OnnxsdError) else f"cannot write {place}: {error.strerror}"
        )
        place = _temporary_folder() / name
        say(f"{reason}; exporting the built-in model {name} into {place}, for this run alone")
        _export(name, place, target, precision)
    return place


@functools.cache
def _key(name: str) -> str:
    """What an export depends on besides target and precision: weights, version, and the code of MAKERS."""
    digest = hashlib.sha256(f"{__version__} {builtin.digest(name)}\n".encode())
    for package in MAKERS:
        files = resources.files("onnxsd").joinpath(package).iterdir()
        for file in sorted((file for file in files if file.name.endswith(".py")), key=lambda file: file.name):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:KEY_LENGTH]


def _is_whole(place: Path) -> bool:
    """Whether the folder is an export all of whose files are what was written."""
    try:
        if not place.is_dir():
            return False
        manifest = open_folder(place).manifest
        return all(hash_of(place / record.path) == record.sha256 for record in files_of(manifest))
    except (BadInputError, OSError):  # also a folder that may not be looked into
        return False


def _set_aside(place: Path) -> None:
    """Move what is left of a broken export out of the way, and delete it."""
    aside = place.with_name(f".{place.name}.broken-{secrets.token_hex(4)}")
    try:
        place.rename(aside)
    except (FileNotFoundError, NotADirectoryError):  # there is none, as nearly always
        return
    shutil.rmtree(aside, ignore_errors=True)


def _export(name: str, place: Path, target: Target, precision: DType) -> None:
    """Export without checks: what ships was checked when it was released, and the engine refuses NaN."""
    source = from_package(name)
    export(source, place, target=target, precision=precision, choice=None, report=Silent())


def _temporary_folder() -> Path:
    try:
        folder = Path(tempfile.mkdtemp(prefix="onnxsd-"))
    except OSError as error:
        raise ResourceError(
            f"there is no folder for temporary files: {error}", hint="set TMPDIR to one with 100 MB free"
        ) from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
