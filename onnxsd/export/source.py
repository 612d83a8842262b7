"""Where MODEL is: an alias, a Hub id or a folder becomes a complete folder in diffusers' layout."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from onnxsd import builtin
from onnxsd.errors import BadInputError, UsageError
from onnxsd.export import hub
from onnxsd.export.selection import Selection, check_variant, choose
from onnxsd.models import aliases
from onnxsd.tensors import DType

Say = Callable[[str], None]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SINGLE_FILES = (".safetensors", ".ckpt")
# Of a Hub id we know nothing before the Hub answers: name what an SDXL checkpoint has, the longest list.
_LIKELY_COMPONENTS = aliases.ALIASES[0].components


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A checkpoint on this machine that is complete for an export; usable as a path to its folder."""

    folder: Path
    model: str
    hub_id: str | None
    commit: str | None
    components: tuple[str, ...]
    selection: Selection
    # The alias of a model inside the package.
    builtin: str | None = None

    @property
    def name(self) -> str:
        """What finds it again from anywhere: its Hub id or alias, else the folder in full."""
        return self.hub_id or self.builtin or str(self.folder.absolute())

    def __fspath__(self) -> str:
        return str(self.folder)

    def weights(self, component: str) -> tuple[Path, ...]:
        """The component's .safetensors: one file, or all its parts in order. Never two precisions of it."""
        names = (file.name for file in self.selection.files)
        mine = (n for n in names if n.startswith(f"{component}/") and n.endswith(".safetensors"))
        return tuple(self.folder / name for name in mine)


def resolve(
    model: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    offline: bool = False,
    precision: DType = DType.FLOAT16,
    progress: Say | None = None,
) -> Source:
    """The checkpoint that MODEL means, downloaded where that is needed.

    Args:
        model: an alias (of the Hub's or of a model inside the package), a Hub id `OWNER/NAME`, or a folder in
            diffusers' layout. A folder of that name wins.
        variant: which weights, as in `unet/….fp16.safetensors`; by default fp16 for `precision` FLOAT16.
        precision: FLOAT16 or FLOAT32, what the export will hold.
        progress: takes one line for each step and each decision that a user should know of.
    """
    say = progress or _say_nothing
    alias = aliases.find(model)
    path = Path(model).expanduser()
    if model.strip() and path.is_dir():  # Path("") would be the current folder
        _say_which(model, alias, say)
        if revision:
            raise _revision_elsewhere(revision, f"{model} is a folder on this machine")
        return _from_folder(path, model, variant, precision, say)
    if path.suffix in _SINGLE_FILES:
        raise _single_file(path)
    if not alias and not _HUB_ID.fullmatch(model):
        raise _unknown(model, path)
    if alias and alias.hub_id is None:
        if revision:
            raise _revision_elsewhere(revision, f"{alias.name} lies inside onnxsd")
        return from_package(alias.name, variant=variant, precision=precision, say=say)
    request = hub.Request(
        repo=(alias.hub_id if alias else None) or model,
        revision=revision,
        variant=variant or _usual_variant(precision),
        variant_was_asked=variant is not None,
        likely_components=alias.components if alias else _LIKELY_COMPONENTS,
    )
    return _from_hub(request, model, offline, say)


def _usual_variant(precision: DType) -> str | None:
    """Half the bytes to fetch where the export will hold fp16 anyway."""
    return "fp16" if precision is DType.FLOAT16 else None


def _say_nothing(_line: str) -> None:
    """For callers who want no progress."""


def _say_which(model: str, alias: aliases.Alias | None, say: Say) -> None:
    if alias:
        meaning = f"an alias of {alias.hub_id}" if alias.hub_id else "the alias of a built-in model"
        say(f"{model} is a folder here and {meaning}; taking the folder")
    elif _HUB_ID.fullmatch(model):
        say(f"{model} is a folder here and could be a Hub id; taking the folder")


def _revision_elsewhere(revision: str, because: str) -> UsageError:
    return UsageError(
        f"--revision {revision} was given, but {because}",
        hint="a revision belongs to a Hub id; leave it out",
    )


def _from_folder(folder: Path, model: str, variant: str | None, precision: DType, say: Say) -> Source:
    if not (folder / "model_index.json").is_file():
        raise _not_diffusers(folder)
    if (folder / "onnxsd.json").is_file():
        raise BadInputError(
            f"{folder} is an export of onnxsd, not a checkpoint",
            hint="give the checkpoint that it was made from; `onnxsd info` on the folder names it",
        )
    components = hub.read_components(folder)
    selection = choose(hub.list_folder(folder), variant or _usual_variant(precision), components)
    if not selection.complete:
        raise BadInputError(f"{folder} cannot be exported: {selection.faults()}")
    if variant:
        check_variant(selection, variant, str(folder), say)
    return Source(
        folder=folder, model=model, hub_id=None, commit=None, components=components, selection=selection
    )


def from_package(
    name: str, *, variant: str | None = None, precision: DType = DType.FLOAT16, say: Say = _say_nothing
) -> Source:
    """The model `name` that lies inside the package; the rest as for `resolve`.

    Raises:
        UsageError: this installation holds no such model.
    """
    found = _from_folder(builtin.folder(name), name, variant, precision, say)
    return replace(found, builtin=name)


def _from_hub(request: hub.Request, model: str, offline: bool, say: Say) -> Source:
    snapshot = hub.fetch(request, offline=offline, say=say)
    return Source(
        folder=snapshot.folder,
        model=model,
        hub_id=request.repo,
        commit=snapshot.commit,
        components=snapshot.components,
        selection=snapshot.selection,
    )


def _not_diffusers(folder: Path) -> BadInputError:
    singles = sorted(p.name for p in folder.iterdir() if p.suffix in _SINGLE_FILES)
    if singles:
        return _single_file(folder / singles[0])
    alias = aliases.find(folder.name)
    hint = (
        "a checkpoint folder holds model_index.json beside unet/, vae/, text_encoder/, tokenizer/, scheduler/"
    )
    if alias:
        hint += f"; if you meant the alias, {_without_folder(alias)}"
    return BadInputError(
        f"{folder} is a folder without model_index.json, so it is not in diffusers' layout", hint=hint
    )


def _without_folder(alias: aliases.Alias) -> str:
    """How to name the checkpoint of an alias where a folder of that name is in the way."""
    return f"give {alias.hub_id}" if alias.hub_id else "run this in another folder"


def _single_file(path: Path) -> BadInputError:
    if not path.exists():
        return BadInputError(f"there is no file {path}", hint="MODEL is an alias, a Hub id or a folder")
    return BadInputError(
        f"{path} is a single file: not supported yet by this version",
        hint="give a folder in diffusers' layout; diffusers' from_single_file and save_pretrained make one",
    )


def _unknown(model: str, path: Path) -> BadInputError:
    if path.is_file():
        return BadInputError(f"{path} is a file, not a checkpoint", hint="give a folder in diffusers' layout")
    names = [alias.name for alias in aliases.usable()]
    close = difflib.get_close_matches(model, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return BadInputError(
        f"{model!r} is no folder here, no alias and no Hub id",
        hint=f"{hint}aliases: {', '.join(names)}; a Hub id is OWNER/NAME; a folder holds model_index.json",
    )
