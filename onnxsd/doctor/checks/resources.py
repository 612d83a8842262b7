"""Checks of room: memory of the GPU and of the machine, disk for models and for an installation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import ByHand, Finding, Severity
from onnxsd.doctor.proof import runs_on_cuda
from onnxsd.matrix import Goal

_GB = 1_000_000_000
# Wheels of the CUDA libraries and of onnxruntime-gpu together, as pip downloads them: 1.3 to 1.6 GB and 0.28.
_DOWNLOAD_BYTES = 1_900_000_000
_FEW_CPUS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family of models and the room it takes. fp16 weights by the parameters of its components."""

    name: str
    weights_bytes: int  # on disk
    denoiser_bytes: int  # the part of them that is on the GPU during a step; the others can leave for it
    working_bytes: int  # beside it, for one picture of its own size with guidance, and CUDA itself

    @property
    def gpu_bytes(self) -> int:
        """What it takes on a GPU at least."""
        return self.denoiser_bytes + self.working_bytes

    @property
    def cpu_bytes(self) -> int:
        """What it takes on the CPU, where fp16 weights are widened to fp32 once."""
        return 2 * self.weights_bytes

    @property
    def export_bytes(self) -> int:
        """What an export takes on disk: the checkpoint, and the folder that is written from it."""
        return 2 * self.weights_bytes


# Parameters of SDXL: UNet 2567.5 M, text encoders 123.1 M and 694.7 M, VAE 83.7 M; of SD 1.5: 859.5 M,
# 123.1 M and 83.7 M; two bytes each.
# Beside them: 0.65 GB of activations of SDXL's UNet at 1024², and 0.76 GB for CUDA itself (measured, H200).
_SDXL = Family(
    name="SDXL at 1024²",
    weights_bytes=6_940_000_000,
    denoiser_bytes=5_135_000_000,
    working_bytes=1_410_000_000,
)
_SD15 = Family(
    name="Stable Diffusion 1.5 at 512²",
    weights_bytes=2_130_000_000,
    denoiser_bytes=1_719_000_000,
    working_bytes=900_000_000,
)
_FAMILIES = (_SDXL, _SD15)


@check("gpu-memory-small", needs=("gpus",))
def gpu_memory_small(case: Case) -> Iterator[Finding]:
    """No GPU here has the memory that SDXL takes at least.

    All of SDXL's models and what one picture takes are 9.7 GB in fp16. Where there is less (or where
    `generate --memory-limit` allows less), text encoders, denoiser and decoder leave the GPU for one another,
    which costs seconds an image; then the largest has to fit: the denoiser of 5.1 GB with what it works with.

    Sources: numbers of parameters of the models' components; a measured session (docs/performance.md).
    """
    sizes = [gpu.memory_bytes for gpu in case.machine.gpus if gpu.memory_bytes is not None]
    if case.goal is not Goal.GENERATE or not sizes:
        return
    yield from _room(
        max(sizes),
        {family: family.gpu_bytes for family in _FAMILIES},
        what="GPU memory",
        steps=("use a smaller picture or a smaller model (--model with an export of SD 1.5)",),
    )


@check("host-memory-small", needs=("memory_bytes", "gpus"))
def host_memory_small(case: Case) -> Iterator[Finding]:
    """Images will be made on the CPU, and the machine's memory does not hold SDXL.

    On a CPU fp16 weights are widened to fp32 once, because they would be cast again at every step: 13.9 GB
    for SDXL, 4.3 GB for Stable Diffusion 1.5. An export needs no such room: it streams weights.

    Source: numbers of parameters of the models' components.
    """
    memory = case.machine.memory_bytes
    if case.goal is not Goal.GENERATE or case.machine.gpus or memory is None:
        return
    yield from _room(
        memory,
        {family: family.cpu_bytes for family in _FAMILIES},
        what="memory",
        steps=("use a smaller model, or a machine with an NVIDIA GPU",),
    )


@check("container-memory-limit", needs=("container", "memory_bytes", "gpus"))
def container_memory_limit(case: Case) -> Iterator[Finding]:
    """This container may use less memory than the machine has, and less than images on the CPU take.

    A process that goes over the limit is killed (exit code 137) without a word of its own.

    Source: the kernel's documentation of control groups (memory.max).
    """
    container, memory = case.machine.container, case.machine.memory_bytes
    limit = container.memory_limit_bytes if container else None
    if case.goal is not Goal.GENERATE or case.machine.gpus or limit is None:
        return
    if memory is not None and limit >= memory:  # then the machine's own memory is the limit
        return
    yield from _room(
        limit,
        {family: family.cpu_bytes for family in _FAMILIES},
        what="memory that this container may use",
        steps=("start the container with more: docker run --memory 32g",),
    )


@check("disk-space", needs=("disk_free_bytes",))
def disk_space(case: Case) -> Iterator[Finding]:
    """The disk of the current folder has no room for an export of SDXL.

    An export reads a checkpoint (6.9 GB for SDXL in fp16) and writes a folder of the same size; images need
    the folder alone, which may lie elsewhere. An export that would not fit stops before it writes.

    Source: numbers of parameters of the models' components.
    """
    free = case.machine.disk_free_bytes
    if free is None:
        return
    exporting = case.goal is Goal.EXPORT
    yield from _room(
        free,
        {family: family.export_bytes if exporting else family.weights_bytes for family in _FAMILIES},
        what="free disk",
        steps=("free some space, or work in a folder on another disk",),
        severity=Severity.WARNING if exporting else Severity.INFO,
    )


@check("install-space")
def install_space(case: Case) -> Iterator[Finding]:
    """There is no room to download what has to be installed.

    onnxruntime-gpu and its CUDA libraries are 1.9 GB of wheels. pip downloads them to the folder for
    temporary files, which often lies in memory (tmpfs) or on a small disk; uv unpacks them in its cache. Both
    then fail with `No space left on device`, although the disk of the environment is empty.

    Sources: sizes of the wheels; Python's tempfile (TMPDIR); docs.astral.sh/uv (UV_CACHE_DIR).
    """
    if case.recommendation is None or runs_on_cuda(case):
        return
    machine = case.machine
    places = [(machine.temp_free_bytes, "the folder for temporary files", "TMPDIR")]
    if machine.uv is not None:
        places.append((machine.cache_free_bytes, "the cache", "UV_CACHE_DIR"))
    for free, where, variable in places:
        if free is not None and free < _DOWNLOAD_BYTES:
            yield Finding(
                severity=Severity.WARNING,
                summary=f"{where} has {free / _GB:.1f} GB free; an installation downloads "
                f"{_DOWNLOAD_BYTES / _GB:.1f} GB",
                because="the installer stops there with: no space left on device",
                remedies=(ByHand(steps=(f"set {variable} to a folder on a larger disk",)),),
            )


@check("cpu-limit", needs=("container",))
def cpu_limit(case: Case) -> Iterator[Finding]:
    """This container may use less than two processors, and images are made on them.

    onnxruntime starts a thread for each processor that it sees, and the kernel stops them all once the quota
    is used up: slower than fewer threads would be.

    Source: the kernel's documentation of control groups (cpu.max).
    """
    container = case.machine.container
    if container is None or container.cpus is None or container.cpus >= _FEW_CPUS or case.machine.gpus:
        return
    yield Finding(
        severity=Severity.INFO,
        summary=f"this container may use {container.cpus:g} processors",
        because="images on the CPU take accordingly long",
        remedies=(ByHand(steps=("start the container with more: docker run --cpus 8",)),),
    )


def _room(
    have: int,
    needs: dict[Family, int],
    *,
    what: str,
    steps: tuple[str, ...],
    severity: Severity = Severity.WARNING,
) -> Iterator[Finding]:
    """One finding that names the families that do not fit, where some do not."""
    short = [family for family, need in needs.items() if need > have]
    if not short:
        return
    rest = [family.name for family in needs if family not in short]
    yield Finding(
        severity=severity,
        summary=f"{have / _GB:.1f} GB of {what}: too little for {' and '.join(one.name for one in short)}",
        because="; ".join(f"{family.name} takes about {needs[family] / _GB:.1f} GB" for family in short)
        + (f"; {' and '.join(rest)} fits" if rest else ""),
        remedies=(ByHand(steps=steps),),
    )


CHECKS = (
    gpu_memory_small,
    host_memory_small,
    container_memory_limit,
    disk_space,
    install_space,
    cpu_limit,
)
