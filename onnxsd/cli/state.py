"""Which exported folder a command uses: the one named, this user's last export, or a built-in model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from onnxsd.errors import UsageError

VARIABLE = "ONNXSD_MODEL"
# What `generate` takes where nothing is named and nothing was exported.
DEFAULT = "shapes"


def remember_export(folder: Path) -> None:
    """Keep the folder as the last export; a state folder that cannot be written is no reason to fail."""
    path = _file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(folder.resolve()) + "\n", encoding="utf-8")
    except OSError:
        return


def model_folder(asked: Path | None, say: Callable[[str], None]) -> tuple[Path, str]:
    """The folder to use and where its name comes from.

    `--model`, else the environment, else the last export, else the built-in model; the first two may name a
    built-in model too. `say` is told what a user should know of the choice.

    Raises:
        UsageError: the one named by the environment or remembered is not there.
    """
    if asked is not None:
        return _named(asked, "--model", say)
    if named := os.environ.get(VARIABLE):
        return _named_by_variable(Path(named).expanduser(), say)
    try:
        last = Path(_file().read_text(encoding="utf-8").strip())
    except OSError:
        say(
            f"no model is named and nothing was exported yet: taking the built-in {DEFAULT}, which draws"
            " simple shapes (`onnxsd export sdxl ./out` gets Stable Diffusion XL)"
        )
        return _builtin(DEFAULT, say), f"the built-in {DEFAULT}"
    if not last.is_dir():
        raise UsageError(
            f"the last export, {last}, has gone",
            hint=f"export again, or name another with --model; --model {DEFAULT} is always there",
        )
    return last, "the last export"


def _named(path: Path, by: str, say: Callable[[str], None]) -> tuple[Path, str]:
    """The folder at `path`; the built-in model of that name where there is no such folder."""
    from onnxsd.models.aliases import find_builtin

    alias = find_builtin(str(path))
    if alias is None:
        return path, by
    if path.is_dir():
        say(f"{path} is a folder here and the name of a built-in model; taking the folder")
        return path, by
    return _builtin(alias.name, say), f"the built-in {alias.name}"


def _named_by_variable(path: Path, say: Callable[[str], None]) -> tuple[Path, str]:
    folder, by = _named(path, VARIABLE, say)
    if not folder.is_dir():
        raise UsageError(
            f"{VARIABLE} names {folder}, which is not a folder",
            hint="unset it, or name a folder with --model",
        )
    return folder, by


def _builtin(name: str, say: Callable[[str], None]) -> Path:
    """The built-in model, exported into the user's cache folder on first use."""
    from platformdirs import user_cache_path

    from onnxsd.export.builtin import exported

    return exported(name, user_cache_path("onnxsd") / "builtin", say=say)


def _file() -> Path:
    from platformdirs import user_state_path

    return user_state_path("onnxsd") / "last_export"
