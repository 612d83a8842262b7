"""A folder that appears whole or not at all: written under another name beside its place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from onnxsd.errors import OnnxsdError, ResourceError, UsageError

# What marks a folder as a model's. An export names a narrower one, for a checkpoint may be its only copy.
MODEL_MARKER = "model_index.json"
# What a disk that has no room answers while it is written to.
_DISK_FULL = frozenset(code for code in (errno.ENOSPC, getattr(errno, "EDQUOT", None)) if code)


@contextlib.contextmanager
def new_folder(
    out: Path, *, needed_bytes: int, force: bool = False, marker: str = MODEL_MARKER
) -> Iterator[Path]:
    """An empty folder to write into, which becomes `out` at the end, and is gone after any error.

    Args:
        out: where the folder will be.
        needed_bytes: what it will take on the disk, so that a full one is foreseen.
        force: replace a folder that is there, if it has `marker` or is empty.
        marker: the file that says what `force` may replace.

    Raises:
        UsageError: `out` exists and may not be replaced.
        ResourceError: the disk is too small or fills up, or `out` cannot be written.
    """
    out = out.expanduser().absolute()
    check_replaceable(out, force=force, marker=marker)
    unfinished = _beside(out, "unfinished")
    try:
        _make(unfinished, out)
        _check_room(out, needed_bytes)
        yield unfinished
        # Another run may have taken the place in the meantime.
        check_replaceable(out, force=force, marker=marker)
        _place(unfinished, out)
    except OSError as error:
        if error.errno in _DISK_FULL or error.errno == errno.EFBIG:
            raise _no_room(error, out, needed_bytes) from error
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_replaceable(out: Path, *, force: bool, marker: str = MODEL_MARKER) -> None:
    """Refuse a place that is taken; with `force`, only where something without `marker` is."""
    if not os.path.lexists(out):
        return
    if not force:
        raise UsageError(f"{out} exists already", hint="give another folder, or --force to replace it")
    if out.is_dir() and ((out / marker).is_file() or not any(out.iterdir())):
        return
    raise UsageError(
        f"{out} is not replaced: it has no {marker}, so --force does not apply to it",
        hint="remove it yourself, or give another folder",
    )


def _make(unfinished: Path, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir()
    except OSError as error:
        raise _refusal(error, out) from error


def _check_room(out: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if free < needed_bytes:
        raise ResourceError(
            f"{out} needs {needed_bytes:,} bytes, and {free:,} are free on its disk",
            hint="free some, or give a folder on another disk",
        )


def _place(finished: Path, out: Path) -> None:
    """Rename the finished folder; what was in its place is set aside first, and comes back on failure."""
    aside = _beside(out, "replaced")
    replaces = out.exists()
    try:
        if replaces:
            out.rename(aside)
        try:
            finished.rename(out)
        except BaseException:  # an interrupt too must not leave the place empty
            if replaces:
                aside.rename(out)
            raise
    except OSError as error:
        raise _refusal(error, out) from error
    if aside.is_symlink():  # rmtree takes none; what it pointed to is not ours
        aside.unlink()
    elif replaces:
        shutil.rmtree(aside, ignore_errors=True)


def _no_room(error: OSError, out: Path, needed_bytes: int) -> OnnxsdError:
    """The disk took less than it had promised, or takes no files of this size."""
    if error.errno == errno.EFBIG:
        return ResourceError(
            f"cannot write {out}: {error.strerror}",
            hint="the disk or the account limits the size of a file (FAT32: 4 GB); give a folder on another",
        )
    return ResourceError(
        f"the disk became full: {out} needs {needed_bytes:,} bytes",
        hint="free some, or give a folder on another disk",
    )


def _beside(out: Path, why: str) -> Path:
    """A name on the same disk, for a rename cannot cross disks."""
    return out.parent / f".{out.name}.{why}-{secrets.token_hex(4)}"


def _refusal(error: OSError, out: Path) -> OnnxsdError:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        blocking = next((path for path in out.parents if path.is_file()), out)
        return ResourceError(
            f"cannot write {out}: {blocking} is a file, not a folder", hint="give another folder"
        )
    return ResourceError(
        f"cannot write {out}: {error.strerror or error}", hint="give a folder that you may write to"
    )
