"""Read the releases of onnxruntime-gpu from the wheels on pip's index, and compare with compat_matrix.yaml.

    python scripts/refresh_matrix.py                    show what has changed; exits with 1 if anything
    python scripts/refresh_matrix.py --write            and write it
    python scripts/refresh_matrix.py --no-binaries      tags and METADATA only: half a minute
    python scripts/refresh_matrix.py --release 1.31.1   that release only; may be repeated

METADATA is read by HTTP range from every wheel; from one wheel of each release and platform the binaries are
streamed, never a whole wheel held. What was read stays in the user's cache folder, so that the next run asks
only for what is new. Columns that people keep are never touched, and a release that has gone from the index
keeps its row until someone moves it to `vanished`.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from one_line_errors import one_line_errors
from packaging.version import Version
from refresh import pip_index
from refresh.cache import Cache, default_folder
from refresh.listing import ListedWheel, listed
from refresh.release_rows import gone, updated
from refresh.survey import survey
from refresh.web import Web

from onnxsd.errors import UsageError
from onnxsd.matrix import Matrix, dump, load

MATRIX = Path(__file__).parents[1] / "compat_matrix.yaml"


@one_line_errors
def main(words: Sequence[str] | None = None) -> int:
    """Compare, and write where asked; the exit code."""
    return refresh(_parser().parse_args(words))


def refresh(options: argparse.Namespace) -> int:
    """Read what the index has, show how the file differs, write it where asked."""
    old = load(options.matrix)
    web = Web(pip_index.configured())
    everything = listed(web, old.package)
    wheels = _asked_for(everything, options.release)
    cache = Cache(options.cache or default_folder())
    found = survey(web, wheels, cache, with_binaries=not options.no_binaries)
    today = datetime.date.today()
    new = updated(old, wheels, found, today)
    changed = _show(_dated(old, new), new)
    missing = gone(old, everything)
    for version in missing:
        print(f"{version} is gone from the index: move it from releases to vanished", file=sys.stderr)
    if options.write:
        _replace(options.matrix, dump(new))
        print(f"wrote {options.matrix.name}", file=sys.stderr)
    return 1 if missing or (changed and not options.write) else 0


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--write", action="store_true", help="write the file; without it, only show")
    parser.add_argument("--no-binaries", action="store_true", help="keep what is known of the binaries")
    parser.add_argument(
        "--release", action="append", type=Version, metavar="VERSION", help="only this release; repeatable"
    )
    parser.add_argument(
        "--matrix", type=Path, default=MATRIX, metavar="FILE", help="the file to compare with"
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="where to keep what was read")
    return parser


def _asked_for(wheels: tuple[ListedWheel, ...], versions: list[Version] | None) -> tuple[ListedWheel, ...]:
    """The wheels of the releases that were asked for; of all stable ones where none was."""
    if versions is None:
        return tuple(wheel for wheel in wheels if not wheel.version.is_prerelease)
    there = {wheel.version for wheel in wheels}
    if absent := [str(version) for version in versions if version not in there]:
        newest = max(there)
        raise UsageError(
            f"asked for release {', '.join(absent)}, and the index has none such",
            hint=f"its newest is {newest}",
        )
    return tuple(wheel for wheel in wheels if wheel.version in versions)


def _dated(old: Matrix, new: Matrix) -> Matrix:
    """The old matrix with the new dates, so that a row that was only confirmed is no difference."""
    dates = {release.version: release.checked for release in new.releases}
    rows = (dataclasses.replace(row, checked=dates.get(row.version, row.checked)) for row in old.releases)
    return dataclasses.replace(old, releases=tuple(rows))


def _show(old: Matrix, new: Matrix) -> bool:
    """Print the difference of the two files; whether there is one."""
    before, after = dump(old).splitlines(), dump(new).splitlines()
    lines = list(difflib.unified_diff(before, after, "compat_matrix.yaml", "as the wheels say", lineterm=""))
    print("\n".join(lines) if lines else "compat_matrix.yaml is what the wheels say")
    return bool(lines)


def _replace(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())
