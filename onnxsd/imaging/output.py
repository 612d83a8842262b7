"""Where images go: `-o` becomes one path for each image, and a file appears there whole or not at all."""

from __future__ import annotations

import errno
import itertools
import os
import re
import secrets
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from onnxsd.errors import OnnxsdError, ResourceError, UsageError
from onnxsd.imaging.carrier import ImageFormat, encode
from onnxsd.imaging.slug import slug

PLACEHOLDERS = ("seed", "index", "prompt")
_DEFAULT_NAME = "onnxsd-{index}"
_DISK_FULL = frozenset(code for code in (errno.ENOSPC, getattr(errno, "EDQUOT", None)) if code)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """Where the images of one run go.

    A name with `{index}` takes the next free numbers of its folder and replaces nothing; any other name was
    chosen by the user, and the file that has it is replaced, as other tools do.
    """

    folder: Path
    name: str
    """With placeholders, without suffix."""
    suffix: str
    image_format: ImageFormat

    @property
    def replaces(self) -> bool:
        """Whether a file that is already there gives way."""
        return "index" not in _fields(self.name)

    def paths(self, *, seeds: Sequence[int], prompts: Sequence[str]) -> tuple[Path, ...]:
        """One path for each image, all different.

        Args:
            seeds, prompts: one of each for every image, in order.
        """
        start = 1 if self.replaces else self._highest_index() + 1
        names = [
            self.name.format(seed=seed, index=f"{start + n:04d}", prompt=slug(prompt))
            for n, (seed, prompt) in enumerate(zip(seeds, prompts, strict=True))
        ]
        return tuple(self.folder / f"{name}{self.suffix}" for name in _told_apart(names))

    def prepare(self) -> None:
        """Make the folder and try to write in it, so that a refusal comes before the work, not after it."""
        probe = _beside(self.folder / "probe")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
        except OSError as error:
            raise _refusal(error, self.folder) from error
        finally:
            _remove(probe)

    def _highest_index(self) -> int:
        """The largest `{index}` that a file in the folder has, 0 where there is none."""
        parts = string.Formatter().parse(self.name)
        some = {None: "", "index": r"(\d+)"}
        pattern = "".join(re.escape(text) + some.get(field, ".*") for text, field, _, _ in parts)
        try:
            names = [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise _refusal(error, self.folder) from error
        found = (re.fullmatch(pattern + re.escape(self.suffix), name) for name in names)
        return max((int(match[1]) for match in found if match), default=0)


def plan_output(output: str | None, image_format: ImageFormat | None) -> OutputPlan:
    """What `-o` and `--format` mean together.

    Args:
        output: a file, a folder (one that exists, ends in a slash, or has no suffix), a pattern with
            placeholders, or `None` for a numbered file here.
        image_format: `None` takes what the file's suffix says, else PNG.
    """
    if output is None or _is_folder(output):
        chosen = image_format or ImageFormat.PNG
        folder = Path(output or ".").expanduser()
        return OutputPlan(folder=folder, name=_DEFAULT_NAME, suffix=chosen.suffixes[0], image_format=chosen)
    path = Path(output).expanduser()
    if not path.parent.is_dir() and _fields(str(path.parent)):
        raise UsageError(
            f"-o {output}: placeholders belong in the file name, not in the folder {path.parent}"
        )
    _check_placeholders(path.name)
    named = _format_of(path.suffix)
    if path.suffix and named is None and "{" not in path.suffix:
        known = ", ".join(s for f in ImageFormat for s in f.suffixes)
        raise UsageError(f"-o {output}: cannot write {path.suffix} files", hint=f"use one of {known}")
    if named and image_format and named is not image_format:
        raise UsageError(
            f"-o {output} names a {named.value} file, but --format asks for {image_format.value}",
            hint="leave one of them out",
        )
    chosen = named or image_format or ImageFormat.PNG
    suffix = path.suffix if named else chosen.suffixes[0]
    name = path.name.removesuffix(suffix) if named else path.name
    return OutputPlan(folder=path.parent, name=name, suffix=suffix, image_format=chosen)


def grid_path(first: Path) -> Path:
    """Where the overview of several images goes, beside the first of them."""
    return first.with_name(f"{first.stem}-grid{first.suffix}")


def save(
    image: Image.Image, path: Path, image_format: ImageFormat, parameters: str | None, *, replace: bool = True
) -> Path:
    """The path of the image file that was written; whoever looks there sees the whole file or none.

    Args:
        parameters: text that the file carries, see `metadata`.
        replace: whether a file that is already there gives way. If not, as when another process took the
            number in the meantime, the image gets -1, -2, … behind its name instead of being lost.
    """
    content = encode(image, image_format, parameters)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
        return _place(temporary, path, replace)
    except OSError as error:
        raise _refusal(error, path) from error
    finally:
        _remove(temporary)


def _place(temporary: Path, path: Path, replace: bool) -> Path:
    if replace:
        return temporary.replace(path)
    taken = _take_free_name(path)
    try:
        return temporary.replace(taken)
    except OSError:
        _remove(taken)
        raise


def _take_free_name(path: Path) -> Path:
    """The path, or the first of its -1, -2, … that is free; an empty file there now keeps others off."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(1))
    return next(candidate for candidate in itertools.chain([path], numbered) if _took(candidate))


def _took(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _beside(path: Path) -> Path:
    """A name in the same folder, for a rename cannot cross file systems."""
    return path.parent / f".onnxsd-{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _remove(path: Path) -> None:
    """Remove our own leftover; what stopped the write may stop this too, and the first error counts."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _refusal(error: OSError, path: Path) -> OnnxsdError:
    if error.errno in _DISK_FULL:
        return ResourceError(
            f"the disk is full: cannot write {path}", hint="free some space or choose another -o"
        )
    return ResourceError(
        f"cannot write {path}: {error.strerror or error}",
        hint="choose another place with -o, or fix its rights",
    )


def _is_folder(output: str) -> bool:
    try:
        if output.endswith(("/", os.sep)) or Path(output).expanduser().is_dir():
            return True
    except OSError as error:  # a name that is too long for any file
        raise UsageError(f"-o {output[:40]}… cannot be a path: {error.strerror}") from error
    name = Path(output).name
    return "{" not in name and "}" not in name and not Path(name).suffix


def _format_of(suffix: str) -> ImageFormat | None:
    return next((f for f in ImageFormat if suffix.lower() in f.suffixes), None)


def _fields(text: str) -> tuple[str, ...]:
    """The placeholders in a text; one that is not well formed has none."""
    try:
        return tuple(field for _, field, _, _ in string.Formatter().parse(text) if field is not None)
    except ValueError:
        return ()


def _check_placeholders(name: str) -> None:
    known = ", ".join(f"{{{placeholder}}}" for placeholder in PLACEHOLDERS)
    try:
        parts = list(string.Formatter().parse(name))
    except ValueError as error:
        raise UsageError(
            f"-o {name}: {error}", hint=f"placeholders are {known}; write {{{{ and }}}} for braces"
        ) from error
    for _, field, spec, conversion in parts:
        if field is not None and (field not in PLACEHOLDERS or spec or conversion):
            written = f"{field}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}"
            raise UsageError(f"-o {name}: unknown placeholder {{{written}}}", hint=f"known are {known}")


def _told_apart(names: Sequence[str]) -> list[str]:
    """The names, with -1, -2, … behind those that several images would share."""
    counts = Counter(_folded(names))
    used = set(counts)
    told_apart = []
    for name in names:
        shared = counts[name.casefold()] > 1
        numbered = (f"{name}-{number}" for number in itertools.count(1))
        told_apart.append(next(n for n in numbered if n.casefold() not in used) if shared else name)
        used.add(told_apart[-1].casefold())
    return told_apart


def _folded(names: Iterable[str]) -> list[str]:
    """The names as Windows and macOS compare them."""
    return [name.casefold() for name in names]
