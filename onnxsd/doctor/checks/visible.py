"""Checks of CUDA_VISIBLE_DEVICES: which GPUs it leaves for CUDA to see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import ByHand, Finding, Severity
from onnxsd.doctor.gpu_code import describe
from onnxsd.doctor.proof import runs_on_cuda

_VARIABLE = "CUDA_VISIBLE_DEVICES"
_BY_IDENTITY = ("GPU-", "MIG-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """What CUDA makes of the variable: the entries that it takes, and the one at which it stops."""

    taken: tuple[str, ...]
    stopped_at: str | None


def visible(value: str, *, gpus: int) -> Visible:
    """Which entries CUDA takes, with as many GPUs as the driver shows.

    CUDA reads from the left and stops at the first entry that names no device: -1, an ordinal past the last
    GPU, any other word. What stands behind it is hidden too. An identity (GPU-…, MIG-…) is taken as right.
    """
    entries = [entry.strip() for entry in value.split(",")]
    for at, entry in enumerate(entries):
        by_number = entry.isdecimal() and int(entry) < gpus
        if not by_number and not entry.startswith(_BY_IDENTITY):
            return Visible(taken=tuple(entries[:at]), stopped_at=entry)
    return Visible(taken=tuple(entries), stopped_at=None)


def hides_all(case: Case) -> bool:
    """Whether the variable leaves CUDA none of the GPUs that the driver shows."""
    value, gpus = case.machine.variable(_VARIABLE), case.machine.gpus
    if value is None or not gpus or _sliced(case):
        return False
    return not visible(value, gpus=len(gpus)).taken


@check("gpu-hidden")
def gpu_hidden(case: Case) -> Iterator[Finding]:
    """CUDA_VISIBLE_DEVICES hides every GPU.

    An empty value, -1, an ordinal that no GPU has, or a word such as `all` or `cuda:0` as the first entry
    leaves CUDA with no device (error 100), although the driver shows the GPUs.

    Sources: CUDA C++ Programming Guide, environment variables; deepinsight/insightface#2524.
    """
    if not hides_all(case):
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"{_VARIABLE}={case.machine.variable(_VARIABLE)!r} hides every GPU from CUDA",
        because="with this value CUDA reports that there is no device",
        evidence=tuple(describe(gpu) for gpu in case.machine.gpus),
        remedies=(_set_right(),),
    )


@check("gpu-ordinal")
def gpu_ordinal(case: Case) -> Iterator[Finding]:
    """CUDA_VISIBLE_DEVICES names a GPU that is not there, and hides those behind it.

    CUDA stops at the first entry that names no device. Programs then see fewer GPUs than asked for, and one
    that asks for a later ordinal fails with error 101 (invalid device ordinal).

    Sources: CUDA C++ Programming Guide, environment variables; itsnine/yolov5-onnxruntime#20.
    """
    value, gpus = case.machine.variable(_VARIABLE), case.machine.gpus
    if value is None or not gpus or _sliced(case):
        return
    seen = visible(value, gpus=len(gpus))
    if not seen.taken or seen.stopped_at is None:  # none at all: `gpu-hidden` reports it
        return
    yield Finding(
        severity=Severity.WARNING,
        summary=f"{_VARIABLE}={value} stops at {seen.stopped_at!r}: CUDA sees {len(seen.taken)} of "
        f"{value.count(',') + 1}",
        because=f"the driver shows {len(gpus)} GPU{'s' * (len(gpus) > 1)}, counted from 0",
        evidence=tuple(f"{at}: {describe(gpu)}" for at, gpu in enumerate(gpus)),
        remedies=(_set_right(),),
    )


@check("mig-not-chosen")
def mig_not_chosen(case: Case) -> Iterator[Finding]:
    """A GPU is cut into MIG instances, and none of them is named.

    A process can use one instance alone, which has a part of the memory that the driver shows for the whole
    GPU. Without a name CUDA takes the first; with the GPU's number or identity it may find none. A container
    that was given one instance (NVIDIA_VISIBLE_DEVICES=MIG-…) needs no name.

    Sources: NVIDIA MIG user guide, CUDA_VISIBLE_DEVICES; pytorch/pytorch#130181; Project-MONAI/MONAI#7497.
    """
    values = [case.machine.variable(name) or "" for name in (_VARIABLE, "NVIDIA_VISIBLE_DEVICES")]
    if not _sliced(case) or any(value.startswith("MIG-") for value in values):
        return
    yield Finding(
        severity=Severity.INFO if runs_on_cuda(case) else case.stops_generate,
        summary="the GPU is cut into MIG instances, and CUDA_VISIBLE_DEVICES names none of them",
        because="a process uses one instance alone; which one is left to chance",
        evidence=tuple(describe(gpu) for gpu in case.machine.gpus if gpu.mig),
        remedies=(
            ByHand(
                steps=("name the instance: CUDA_VISIBLE_DEVICES=MIG-…",),
                commands=("nvidia-smi -L",),
            ),
        ),
    )


def _sliced(case: Case) -> bool:
    return any(gpu.mig for gpu in case.machine.gpus)


def _set_right() -> ByHand:
    return ByHand(steps=(f"unset {_VARIABLE}, or set it to 0",))


CHECKS = (gpu_hidden, gpu_ordinal, mig_not_chosen)
