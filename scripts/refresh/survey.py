"""Reads wheels in parallel: METADATA of each, binaries of one for each release and platform."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

from packaging.version import Version
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from onnxsd.errors import OnnxsdError
from refresh.binaries import WheelBinaries, inflated_bytes, read_binaries
from refresh.cache import Cache
from refresh.listing import ListedWheel
from refresh.metadata import WheelMetadata, read_metadata
from refresh.remote_zip import RemoteZip
from refresh.web import Web

T = TypeVar("T")

_READERS = 8  # of METADATA: they wait for the network
_INFLATERS = 3  # of binaries: they use a processor each


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was read, by file name."""

    metadata: dict[str, WheelMetadata]
    binaries: dict[str, WheelBinaries]


def survey(web: Web, wheels: tuple[ListedWheel, ...], cache: Cache, *, with_binaries: bool) -> Survey:
    """Everything that the wheels say, from the cache where it was read before."""
    metadata = _all_metadata(web, wheels, cache)
    binaries = _all_binaries(web, representatives(wheels), cache) if with_binaries else {}
    return Survey(metadata=metadata, binaries=binaries)


def representatives(wheels: Iterable[ListedWheel]) -> tuple[ListedWheel, ...]:
    """One wheel of each release and platform: that of its oldest ordinary Python."""
    chosen: dict[tuple[Version, str], ListedWheel] = {}
    for wheel in sorted(wheels, key=lambda wheel: python_order(wheel.abi)):
        chosen.setdefault((wheel.version, wheel.platform), wheel)
    return tuple(chosen.values())


def python_order(abi: str) -> tuple[bool, int, int]:
    """A key that sorts ABIs by Python version, free-threaded ones (`cp313t`) behind all others."""
    digits = re.sub(r"\D", "", abi)
    return abi.endswith("t"), int(digits[:1] or 0), int(digits[1:] or 0)


def _all_metadata(web: Web, wheels: tuple[ListedWheel, ...], cache: Cache) -> dict[str, WheelMetadata]:
    def read(wheel: ListedWheel) -> WheelMetadata:
        return read_metadata(RemoteZip(web, wheel.url, wheel.file))

    known, missing = _known(WheelMetadata, wheels, cache)
    with _bar("METADATA", MofNCompleteColumn()) as bar, ThreadPoolExecutor(_READERS) as pool:
        task = bar.add_task("METADATA", total=len(wheels), completed=len(known))
        jobs = {pool.submit(read, wheel): wheel for wheel in missing}
        for wheel, record in _results(jobs, cache):
            known[wheel.file] = record
            bar.advance(task)
    return known


def _all_binaries(web: Web, wheels: tuple[ListedWheel, ...], cache: Cache) -> dict[str, WheelBinaries]:
    known, missing = _known(WheelBinaries, wheels, cache)
    with _bar("binaries", DownloadColumn()) as bar, ThreadPoolExecutor(_INFLATERS) as pool:
        opened = pool.map(lambda wheel: RemoteZip(web, wheel.url, wheel.file), missing)
        archives = {archive.name: archive for archive in opened}
        task = bar.add_task("binaries", total=sum(map(inflated_bytes, archives.values())))

        def read(wheel: ListedWheel) -> WheelBinaries:
            return read_binaries(archives[wheel.file], lambda size: bar.advance(task, size))

        jobs = {pool.submit(read, wheel): wheel for wheel in missing}
        known |= {wheel.file: record for wheel, record in _results(jobs, cache)}
    return known


def _known(
    kind: type[T], wheels: tuple[ListedWheel, ...], cache: Cache
) -> tuple[dict[str, T], list[ListedWheel]]:
    """What the cache holds, and the wheels that it does not know."""
    saved = {wheel.file: cache.get(kind, wheel.file, wheel.digest) for wheel in wheels}
    known = {file: record for file, record in saved.items() if record is not None}
    return known, [wheel for wheel in wheels if wheel.file not in known]


def _results(jobs: dict[Future[T], ListedWheel], cache: Cache) -> Iterator[tuple[ListedWheel, T]]:
    """Each job's record once it is there and in the cache; a failure waits until those under way are kept."""
    failure: OnnxsdError | None = None
    for job in as_completed(jobs):
        if job.cancelled():
            continue
        try:
            record = job.result()
        except OnnxsdError as error:
            failure = failure or error
            _ = [other.cancel() for other in jobs]
        else:
            cache.put(record, jobs[job].file, jobs[job].digest)
            yield jobs[job], record
    if failure:
        raise failure


def _bar(what: str, column: MofNCompleteColumn | DownloadColumn) -> Progress:
    columns = (TextColumn(f"{what:>9}"), BarColumn(), column, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
