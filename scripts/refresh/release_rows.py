"""Rows of the matrix's `releases` from what was read of the wheels; what people keep in them stays."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from onnxsd.errors import BadInputError, UsageError
from onnxsd.matrix import Extra, Matrix, Release, Wheel
from onnxsd.records import Dotted
from refresh.binaries import WheelBinaries
from refresh.fatbin import served
from refresh.listing import ListedWheel
from refresh.metadata import WheelMetadata
from refresh.survey import Survey, python_order, representatives

SOURCE = "onnxruntime-gpu wheels on the default index: tags, METADATA, ELF, PE and fatbins"
_CUDA_MAJOR = re.compile(r"cublas(?:64_|\.so\.)(\d+)")
_CUDNN_MAJOR = re.compile(r"cudnn(?:64_|\.so\.)(\d+)")


def updated(matrix: Matrix, wheels: tuple[ListedWheel, ...], survey: Survey, today: datetime.date) -> Matrix:
    """The matrix with the releases of these wheels read anew; rows of other releases stay."""
    rows = {release.version: release for release in matrix.releases}
    for version in {wheel.version for wheel in wheels}:
        group = tuple(wheel for wheel in wheels if wheel.version == version)
        rows[version] = _release(rows.get(version), group, survey, today)
    ordered = sorted(rows.values(), key=lambda row: row.version, reverse=True)
    return dataclasses.replace(matrix, releases=tuple(ordered))


def gone(matrix: Matrix, wheels: Iterable[ListedWheel]) -> tuple[Version, ...]:
    """Releases of the matrix that the index no longer lists."""
    there = {wheel.version for wheel in wheels}
    return tuple(release.version for release in matrix.releases if release.version not in there)


def _release(
    old: Release | None, wheels: tuple[ListedWheel, ...], survey: Survey, today: datetime.date
) -> Release:
    metadata = [survey.metadata[wheel.file] for wheel in sorted(wheels, key=lambda one: one.file)]
    groups = tuple(_groups(old, wheels, survey))
    pins = _pins(metadata)
    libraries = [name for group in groups for name in (group.needed or ())]
    row = Release(
        version=wheels[0].version,
        released=_released(old, wheels, metadata),
        requires_python=_requires_python(wheels[0].version, metadata),
        cuda_major=_major(_CUDA_MAJOR, libraries, old.cuda_major if old else None, wheels[0].version),
        cuda=_toolkit(wheels, survey) or (old.cuda if old else None),
        cudnn_major=_cudnn_major(old, groups, pins, wheels[0].version),
        cudnn_required=any("cudnn" in name for name in libraries),
        extras=tuple(pin.name for pin in pins if any(text.startswith("nvidia-") for text in pin.requires)),
        companions=(),
        requires=_together(one.requires for one in metadata),
        pins=pins,
        wheels=groups,
        source=SOURCE,
        checked=today,
    )
    if old is None:
        return row
    return dataclasses.replace(
        row, companions=old.companions, extras_fault=old.extras_fault, note=old.note
    )  # kept by hand


def _groups(old: Release | None, wheels: tuple[ListedWheel, ...], survey: Survey) -> Iterator[Wheel]:
    """The wheels of each platform as one row, in the order of the platforms' names."""
    for chosen in sorted(representatives(wheels), key=lambda wheel: wheel.platform):
        group = [wheel for wheel in wheels if wheel.platform == chosen.platform]
        if len({wheel.platform_tags for wheel in group}) > 1:
            raise BadInputError(
                f"{chosen.version}: wheels for {chosen.platform} differ in their tags, and a row has one list"
            )
        before = old.wheel_for(chosen.platform) if old else None
        yield _wheel(chosen, [wheel.abi for wheel in group], survey, before)


def _wheel(chosen: ListedWheel, abis: list[str], survey: Survey, before: Wheel | None) -> Wheel:
    binaries = survey.binaries.get(chosen.file)
    fields = {
        "platform": chosen.platform,
        "tags": chosen.platform_tags,
        "abis": tuple(sorted(set(abis), key=lambda abi: (python_order(abi)[1:], abi))),
    }
    if binaries is not None:
        return _read_wheel(fields, binaries, chosen, survey.metadata[chosen.file])
    if before is None:
        raise UsageError(
            f"{chosen.version} for {chosen.platform} is not in the matrix, and its binaries were not read",
            hint="run without --no-binaries",
        )
    return dataclasses.replace(before, **fields)


def _read_wheel(
    fields: dict[str, object], binaries: WheelBinaries, chosen: ListedWheel, metadata: WheelMetadata
) -> Wheel:
    targets = served(binaries.fatbins)
    record = {
        **fields,
        "sass": targets.sass,
        "ptx": targets.ptx,
        "evidence": "read",
        "needed": binaries.needed,
        "module_needed": binaries.module_needed,
        "tensorrt_needed": binaries.tensorrt_needed,
        "glibc": Dotted.parse(binaries.glibc) if binaries.glibc else None,
        "glibcxx": Dotted.parse(binaries.glibcxx) if binaries.glibcxx else None,
        "executable_stack": binaries.executable_stack,
        "file": chosen.file,
        "size_bytes": metadata.size_bytes,
    }
    return Wheel(**record)  # type: ignore[arg-type]


def _released(
    old: Release | None, wheels: tuple[ListedWheel, ...], metadata: list[WheelMetadata]
) -> datetime.date:
    uploaded = [wheel.uploaded for wheel in wheels if wheel.uploaded]
    if uploaded:
        return min(uploaded)
    return old.released if old else min(datetime.date.fromisoformat(one.built) for one in metadata)


def _requires_python(version: Version, metadata: list[WheelMetadata]) -> SpecifierSet | None:
    found = {one.requires_python for one in metadata}
    if len(found) > 1:
        raise BadInputError(
            f"{version}: its wheels name different Requires-Python: {sorted(map(str, found))}"
        )
    text = found.pop()
    return SpecifierSet(text) if text else None


def _pins(metadata: list[WheelMetadata]) -> tuple[Extra, ...]:
    names = sorted({name for one in metadata for name in one.extras})
    return tuple(
        Extra(name=name, requires=_together(one.extras.get(name, ()) for one in metadata)) for name in names
    )


def _together(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Every requirement once, by its package's proper name."""
    found = {_canonical(text) for one in lists for text in one}
    return tuple(sorted(found))


def _canonical(text: str) -> str:
    requirement = Requirement(text)
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement)


def _toolkit(wheels: tuple[ListedWheel, ...], survey: Survey) -> Dotted | None:
    found = [survey.binaries[wheel.file].cuda for wheel in wheels if wheel.file in survey.binaries]
    return max((Dotted.parse(text) for text in found if text), default=None)


def _cudnn_major(
    old: Release | None, groups: tuple[Wheel, ...], pins: tuple[Extra, ...], version: Version
) -> int:
    """From the libraries that are loaded, else those of the TensorRT provider, else the extra's pin."""
    names = [name for group in groups for name in ((group.needed or ()) + (group.tensorrt_needed or ()))]
    pinned = [text for pin in pins for text in pin.requires if text.startswith("nvidia-cudnn")]
    names += [f"cudnn.so.{number}" for text in pinned for number in re.findall(r"[=>~]=?(\d+)", text)]
    return _major(_CUDNN_MAJOR, names, old.cudnn_major if old else None, version)


def _major(pattern: re.Pattern[str], names: list[str], before: int | None, version: Version) -> int:
    found = {int(match.group(1)) for name in names if (match := pattern.search(name))}
    if len(found) > 1:
        raise BadInputError(f"{version}: its wheels load libraries of several majors: {sorted(names)}")
    number = found.pop() if found else before
    if number is None:
        raise BadInputError(f"{version}: none of its libraries names a version that {pattern.pattern} finds")
    return number
