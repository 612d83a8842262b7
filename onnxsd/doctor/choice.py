"""The newest release that a machine can install and load, on the default index or on a feed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from packaging.version import Version

from onnxsd.doctor.fit import Obstacle, obstacles
from onnxsd.doctor.gpu_code import code_capability
from onnxsd.machine import Machine
from onnxsd.matrix import Feed, Goal, Matrix, Release, Wheel


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A newer release and everything that stands in its way."""

    version: Version
    obstacles: tuple[Obstacle, ...]

    def to_json(self) -> dict[str, str]:
        """The rejection as plain values."""
        return {
            "version": str(self.version),
            "reason": "; ".join(found.reason for found in self.obstacles),
            "would_need": "; ".join(found.would_need for found in self.obstacles),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A release that fits, where it comes from (None: the default index), and the newer ones that do not."""

    release: Release
    feed: Feed | None
    rejected: tuple[Rejected, ...]


def choose(machine: Machine, matrix: Matrix, goal: Goal, *, feeds: bool) -> Choice | None:
    """The newest release that fits; one of a feed only where the default index has none that serves.

    What lies on a feed was not read from its wheels, so it is never taken over a wheel that serves.
    """
    rejected: list[Rejected] = []
    best: Choice | None = None
    for release in matrix.releases:
        found = obstacles(release, machine, matrix)
        if not found:
            best = Choice(release=release, feed=None, rejected=tuple(rejected))
            break
        rejected.append(Rejected(version=release.version, obstacles=found))
    if not feeds or (best is not None and matrix.meets_floor(best.release, goal)):
        return best
    return _of_a_feed(machine, matrix, goal, best, rejected) or best


def _of_a_feed(
    machine: Machine, matrix: Matrix, goal: Goal, best: Choice | None, rejected: list[Rejected]
) -> Choice | None:
    """The newest build of a feed that fits, if the default index has nothing, or nothing that serves."""
    fitting = [
        (feed, release)
        for feed, release in feed_builds(matrix)
        if (best is None or matrix.meets_floor(release, goal)) and not obstacles(release, machine, matrix)
    ]
    if not fitting:
        return None
    feed, release = max(fitting, key=lambda pair: pair[1].version)
    newer = tuple(one for one in rejected if one.version > release.version)
    return Choice(release=release, feed=feed, rejected=newer)


def feed_builds(matrix: Matrix) -> Iterator[tuple[Feed, Release]]:
    """Releases as a feed holds them: for the same Pythons, systems and GPUs, with another CUDA."""
    for feed in matrix.feeds:
        for release in matrix.releases:
            wheels = tuple(
                _built_elsewhere(wheel, feed, matrix)
                for platform in feed.platforms
                if feed.holds(release.version, platform)
                for wheel in _wheels_like(release, platform, matrix)
            )
            if wheels:
                yield feed, _with_cuda_of(feed, release, wheels, matrix)


def _wheels_like(release: Release, platform: str, matrix: Matrix) -> tuple[Wheel, ...]:
    """The release's wheels for a platform, else those of the first later release that has some."""
    later = (one for one in reversed(matrix.releases) if one.version >= release.version)
    found = (one.wheel_for(platform) for one in later)
    first = next((wheel for wheel in found if wheel is not None), None)
    return (first,) if first is not None else ()


def _built_elsewhere(wheel: Wheel, feed: Feed, matrix: Matrix) -> Wheel:
    """A feed's wheels, with the GPU code of the default index's as far as their CUDA still compiles it."""
    return replace(
        wheel,
        sass=_compiled_by(feed.cuda_major, wheel.sass, matrix),
        ptx=_compiled_by(feed.cuda_major, wheel.ptx, matrix),
        needed=None,
        module_needed=None,
        tensorrt_needed=None,
        file=None,
        size_bytes=None,
        evidence=f"not read: a build of {feed.name}",
    )


def _compiled_by(cuda_major: int, codes: tuple[str, ...] | None, matrix: Matrix) -> tuple[str, ...] | None:
    minors = [f"{cuda_major}.{minor}" for minor in range(10)]
    oldest = [row.oldest for row in matrix.cuda_gpus if any(row.cuda.contains(one) for one in minors)]
    if codes is None or not oldest:
        return codes
    return tuple(code for code in codes if code_capability(code) >= min(oldest).parts)


def _with_cuda_of(feed: Feed, release: Release, wheels: tuple[Wheel, ...], matrix: Matrix) -> Release:
    cudnn = feed.cudnn_major or release.cudnn_major
    return replace(
        release,
        cuda_major=feed.cuda_major,
        cuda=None,
        cudnn_major=cudnn,
        cudnn_required=True,
        extras=(),  # those of the default index's wheels name libraries of another CUDA
        extras_fault=None,
        companions=_libraries_for(feed.cuda_major, cudnn, matrix),
        wheels=wheels,
        source=feed.source,
        checked=feed.checked,
    )


def _libraries_for(cuda_major: int, cudnn_major: int, matrix: Matrix) -> tuple[str, ...]:
    """NVIDIA's packages for a CUDA major, as a release of the default index names them, else all."""
    rows = (one for one in matrix.releases if one.companions and one.cudnn_major == cudnn_major)
    named = next((one.companions for one in rows if one.cuda_major == cuda_major), None)
    if named is not None:
        return tuple(item for item in named if item.startswith("nvidia-"))
    packages = (row.package for row in matrix.library_packages if row.cuda_major == cuda_major)
    return tuple(dict.fromkeys(packages))
