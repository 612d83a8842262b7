"""What has to be installed, removed or written again beside a release, so that it runs."""

from __future__ import annotations

from packaging.version import Version

from onnxsd.doctor.folders import removable
from onnxsd.machine import Machine
from onnxsd.matrix import Matrix, Release, TorchBuild
from onnxsd.records import Dotted

_TORCH_ROWS_FOR = "linux_x86_64"  # rows of torch describe the default index's wheels for it


def companions(release: Release, machine: Machine, matrix: Matrix) -> tuple[str, ...]:
    """Requirements beside the release.

    The CUDA libraries where no extra brings them, limits for old GPUs, and a torch for the same CUDA major
    where the installed one is for another.
    """
    torch = torch_beside(release, machine, matrix)
    return (*release.companions, *_limits(release, machine, matrix), *((torch,) if torch else ()))


def torch_beside(release: Release, machine: Machine, matrix: Matrix) -> str | None:
    """The torch that shares the release's CUDA libraries; None where the installed one does."""
    if not _torch_differs(release, machine, matrix) or machine.platform != _TORCH_ROWS_FOR:
        return None
    pairs = [row for row in matrix.torch_builds if _goes_with(row, release)]
    versions = [row.version for row in pairs if machine.python.abi in row.abis]
    if not versions:
        return None
    above = [row.version for row in matrix.torch_builds if row.version > max(row.version for row in pairs)]
    limit = f",<{_short(min(above))}" if above else ""
    return f"torch>={_short(min(versions))}{limit}"


def installed_torch_cuda(machine: Machine, matrix: Matrix) -> Dotted | None:
    """The CUDA that the installed torch is built for; None for none, for a CPU build, or not known."""
    torch = machine.distribution("torch")
    if torch is None:
        return None
    probed = machine.torch_probe.cuda if machine.torch_probe else None
    return Dotted.parse(probed) if probed else matrix.torch_cuda(torch.version)


def to_remove(release: Release, machine: Machine, matrix: Matrix) -> tuple[str, ...]:
    """Installed packages that overwrite each other's files, or that would overwrite the release's.

    All of a group go: after one of them is uninstalled the files that they share are gone for the others.
    """
    owners = removable(machine)
    gone = list(owners) if set(owners) - {matrix.package} else []
    for clash in matrix.clashes:
        wanted = {row.package for row in matrix.library_packages if row.cuda_major == release.cuda_major}
        there = [name for name in clash.packages if machine.distribution(name) is not None]
        gone += there if set(there) - wanted else []
    return tuple(dict.fromkeys(gone))


def to_write_again(release: Release, machine: Machine, matrix: Matrix) -> tuple[str, ...]:
    """Packages that stay and whose files are damaged: installing the same version again would do nothing."""
    removed = set(to_remove(release, machine, matrix))
    damaged = dict.fromkeys(file.distribution for file in machine.damaged)
    found = (machine.distribution(name) for name in damaged if name not in removed)
    return tuple(
        f"{one.name}=={one.version}"
        for one in found
        if one is not None and (one.name != matrix.package or one.version == release.version)
    )


def _limits(release: Release, machine: Machine, matrix: Matrix) -> tuple[str, ...]:
    oldest = min((gpu.compute_capability for gpu in machine.gpus), default=None)
    rows = (row for row in matrix.gpu_companions if row.cuda_major == release.cuda_major)
    return tuple(row.requirement for row in rows if oldest and Dotted(oldest, "") < row.below)


def _torch_differs(release: Release, machine: Machine, matrix: Matrix) -> bool:
    cuda = installed_torch_cuda(machine, matrix)
    torch = machine.distribution("torch")
    if cuda is None or torch is None:
        return False
    build = matrix.torch_build(torch.version)
    other_cudnn = build is not None and build.cudnn.parts[0] != release.cudnn_major
    return cuda.parts[0] != release.cuda_major or other_cudnn


def _goes_with(build: TorchBuild, release: Release) -> bool:
    return build.cuda.parts[0] == release.cuda_major and build.cudnn.parts[0] == release.cudnn_major


def _short(version: Version) -> str:
    """`2.11` for 2.11.0."""
    text = str(version)
    return text.removesuffix(".0") if version.micro == 0 else text
