"""The last export of this user, which `generate` takes when no model is named."""

from __future__ import annotations

import os
from pathlib import Path

from onnxsd.errors import UsageError

VARIABLE = "ONNXSD_MODEL"


def remember_export(folder: Path) -> None:
    """Keep the folder as the last export; a state folder that cannot be written is no reason to fail."""
    path = _file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(folder.resolve()) + "\n", encoding="utf-8")
    except OSError:
        return


def model_folder(asked: Path | None) -> tuple[Path, str]:
    """The folder to use and where its name comes from: `--model`, the environment, or the last export.

    Raises:
        UsageError: none is named, or the one remembered has gone.
    """
    if asked is not None:
        return asked, "--model"
    if named := os.environ.get(VARIABLE):
        return _named_by_variable(Path(named).expanduser())
    try:
        last = Path(_file().read_text(encoding="utf-8").strip())
    except OSError:
        raise UsageError(
            f"no model: neither --model nor {VARIABLE} is given, and nothing was exported yet",
            hint="`onnxsd export sdxl ./out` makes one",
        ) from None
    if not last.is_dir():
        raise UsageError(
            f"the last export, {last}, has gone", hint="export again, or name another with --model"
        )
    return last, "the last export"


def _named_by_variable(folder: Path) -> tuple[Path, str]:
    if not folder.is_dir():
        raise UsageError(
            f"{VARIABLE} names {folder}, which is not a folder",
            hint="unset it, or name a folder with --model",
        )
    return folder, VARIABLE


def _file() -> Path:
    from platformdirs import user_state_path

    return user_state_path("onnxsd") / "last_export"
