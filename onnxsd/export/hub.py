"""A checkpoint from the Hub or from its cache on this machine, without a byte that an export does not read.

huggingface_hub reads HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE when it is imported, so
it is imported inside the functions. It goes on with a file where the connection broke.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsd.errors import BadInputError, NotReadyError, OnnxsdError, ResourceError
from onnxsd.export import hub_errors
from onnxsd.export.selection import (
    RemoteFile,
    Selection,
    check_variant,
    choose,
    components_of,
    expected_names,
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted from the Hub."""

    repo: str
    revision: str | None
    variant: str | None
    variant_was_asked: bool
    likely_components: tuple[str, ...]

    @property
    def label(self) -> str:
        """The repository, with its revision where one was asked for."""
        return f"{self.repo} at {self.revision}" if self.revision else self.repo


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One commit of a repository in the cache, complete for an export."""

    folder: Path
    commit: str
    components: tuple[str, ...]
    selection: Selection


def fetch(request: Request, *, offline: bool, say: Say) -> Snapshot:
    """The snapshot that was asked for, downloaded as far as the cache lacks it."""
    hub = _hub()
    if offline or hub.constants.HF_HUB_OFFLINE:
        return _from_cache(request, "--offline" if offline else "HF_HUB_OFFLINE is set", say)
    try:
        return _download(request, say)
    except hub_errors.UnreachableError as error:
        found = _cached(request)
        if found is None or not found.selection.complete:
            raise _unreachable(request, error, found) from error
        _check_variant(request, found.selection, say)
        say(f"{error.message}; using commit {found.commit[:12]} of {request.repo} from the cache")
        return found


def list_folder(folder: Path) -> tuple[RemoteFile, ...]:
    """The files of a checkpoint on this machine, as the Hub would list them: the root and its folders."""
    found = [*folder.glob("*"), *folder.glob("*/*")]
    return tuple(
        RemoteFile(name=path.relative_to(folder).as_posix(), size_bytes=path.stat().st_size)
        for path in sorted(found)
        if path.is_file()
    )


def read_components(folder: Path) -> tuple[str, ...]:
    """The components that the folder's model_index.json names."""
    path = folder / "model_index.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise BadInputError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadInputError(f"{path} holds {type(content).__name__}, not a JSON object")
    return components_of(content)


def readable_size(size_bytes: int) -> str:
    """A size in the unit that suits it, powers of ten as disks and the Hub count: `6.9 GB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise NotReadyError(
            f"downloading a model needs huggingface-hub, which does not import: {error}",
            hint="pip install 'onnxsd[run]', or give a folder in diffusers' layout",
        ) from error
    return huggingface_hub


def _download(request: Request, say: Say) -> Snapshot:
    listing, commit = _list_remote(request, request.revision)
    # By the name of the revision, not by its commit: this records which commit the name meant, for --offline.
    folder = _get(request, "model_index.json", request.revision).parent
    if folder.name != commit:  # the branch moved between the two questions
        listing, commit = _list_remote(request, folder.name)
    components = read_components(folder)
    selection = choose(listing, request.variant, components)
    if not selection.complete:
        raise BadInputError(f"{request.label} cannot be exported: {selection.faults()}")
    _check_variant(request, selection, say)
    _get_all(request, folder, selection.files, say)
    return Snapshot(folder=folder, commit=commit, components=components, selection=selection)


def _list_remote(request: Request, revision: str | None) -> tuple[tuple[RemoteFile, ...], str]:
    """Every file of the repository with its size, and the commit they belong to."""
    hub = _hub()
    with hub_errors.translated(request.label):
        info = hub.HfApi(library_name="onnxsd").model_info(
            request.repo,
            revision=revision,
            files_metadata=True,
            timeout=hub.constants.HF_HUB_ETAG_TIMEOUT,
        )
    listing = tuple(
        RemoteFile(
            name=file.rfilename,
            size_bytes=file.size or 0,
            sha256=file.lfs.sha256 if file.lfs else None,
        )
        for file in info.siblings or ()
    )
    if not any(file.name == "model_index.json" for file in listing):
        raise BadInputError(
            f"{request.label} has no model_index.json, so it is not in diffusers' layout",
            hint="single-file checkpoints are not supported yet by this version; convert it with diffusers",
        )
    return listing, str(info.sha)


def _get(request: Request, name: str, revision: str | None) -> Path:
    hub = _hub()
    with hub_errors.translated(f"{name} of {request.label}"):
        return Path(hub.hf_hub_download(request.repo, name, revision=revision, library_name="onnxsd"))


def _get_all(request: Request, folder: Path, files: Sequence[RemoteFile], say: Say) -> None:
    """Bring what the snapshot lacks, small files first so that a refusal comes before the long wait."""
    wanted = sorted((f for f in files if not (folder / f.name).exists()), key=lambda f: f.size_bytes)
    if not wanted:
        say(f"{request.label}: all {len(files)} files are in the cache at {folder}")
        return
    # A new commit often keeps the weights: their bytes are in blobs/, by hash, and are only linked again.
    blobs = folder.parent.parent / "blobs"
    needed_bytes = sum(f.size_bytes for f in wanted if not (f.sha256 and (blobs / f.sha256).exists()))
    _foresee_full_disk(request, folder, needed_bytes)
    say(f"{request.label}: {readable_size(needed_bytes)} to download to {folder}")
    for number, file in enumerate(wanted, start=1):
        say(f"[{number}/{len(wanted)}] {file.name}, {readable_size(file.size_bytes)}")
        _get_with_patience(request, file.name, folder.name, say)


def _get_with_patience(request: Request, name: str, commit: str, say: Say, tries_left: int = 2) -> None:
    """Ask again when a download breaks: some versions of huggingface_hub leave going on to their caller."""
    try:
        _get(request, name, commit)
    except hub_errors.BrokenConnectionError as error:
        if not tries_left:
            raise
        say(f"{error.message}; going on from there")
        _get_with_patience(request, name, commit, say, tries_left - 1)


def _foresee_full_disk(request: Request, folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise ResourceError(
            f"{request.label} needs {readable_size(needed_bytes)} more at {folder}, "
            f"and {readable_size(free_bytes)} are free there",
            hint="free some space, or set HF_HOME to a folder on a larger disk",
        )


def _cached(request: Request) -> Snapshot | None:
    """What the cache holds of the revision, complete or not; `None` where it does not know it."""
    hub = _hub()
    with hub_errors.translated(request.label):
        found = hub.try_to_load_from_cache(request.repo, "model_index.json", revision=request.revision)
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    components = read_components(folder)
    selection = choose(list_folder(folder), request.variant, components)
    return Snapshot(folder=folder, commit=folder.name, components=components, selection=selection)


def _from_cache(request: Request, why: str, say: Say) -> Snapshot:
    found = _cached(request)
    if found is None or not found.selection.complete:
        raise ResourceError(
            f"{request.label} is not complete in the cache at {_hub().constants.HF_HUB_CACHE}, and the Hub "
            f"is not asked ({why}); {_lack(request, found)}",
            hint=_copy_hint(request),
        )
    _check_variant(request, found.selection, say)
    return found


def _check_variant(request: Request, selection: Selection, say: Say) -> None:
    if request.variant and request.variant_was_asked:
        check_variant(selection, request.variant, request.label, say)


def _unreachable(request: Request, error: OnnxsdError, found: Snapshot | None) -> ResourceError:
    return ResourceError(
        f"{error.message}, and the cache at {_hub().constants.HF_HUB_CACHE} is not complete; "
        f"{_lack(request, found)}",
        hint=f"once it answers, run the same command again to go on from there; {_copy_hint(request)}",
    )


def _lack(request: Request, found: Snapshot | None) -> str:
    if found:
        return found.selection.faults()
    return f"it holds nothing of {request.label}"


def _copy_hint(request: Request) -> str:
    """How to get the checkpoint here by hand: which files, in which layout, and what takes them then."""
    page = f"{_hub().constants.ENDPOINT}/{request.repo}/tree/{request.revision or 'main'}"
    found = _cached(request)
    components = found.components if found else request.likely_components
    names = "\n".join(f"  FOLDER/{name}" for name in expected_names(components, request.variant))
    fallback = (
        f"where {page} has no .{request.variant} file, take the one without; " if request.variant else ""
    )
    return (
        f"without network: on another machine take these files from {page}, copy them to this one in the "
        f"same subfolders, and run `onnxsd export FOLDER ./out`\n{names}\n"
        f"{fallback}weights in several parts are fine, with their index.json"
    )
