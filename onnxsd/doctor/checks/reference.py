"""Checks of torch, as it ran in a child process. onnxsd works without it: it is the reference."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import Finding, Severity
from onnxsd.doctor.native_log import reason_in
from onnxsd.doctor.proof import line_with
from onnxsd.machine import Origin, Outcome
from onnxsd.records import Dotted

_QUIET = (Outcome.RAN, Outcome.NOT_INSTALLED)
_CUDA_WORDS = ("cuda", "nvidia", "driver")


@check("torch-does-not-run", needs=("torch_probe",))
def torch_does_not_run(case: Case) -> Iterator[Finding]:
    """torch is installed and does not import.

    onnxsd makes images and exports without torch; `verify --against diffusers` and programs beside it need
    one that works. The reason is often a library of NVIDIA's that another package overwrote or removed.

    Sources: the probe itself; pytorch/pytorch#174320.
    """
    probe = case.machine.torch_probe
    if probe is None or probe.outcome in _QUIET:
        return
    yield Finding(
        severity=Severity.WARNING,
        summary=f"torch does not import: {probe.outcome.value}",
        because=reason_in(f"{probe.message}\n{probe.native_log}") or probe.message,
        evidence=tuple(probe.native_log.splitlines()[-4:]),
    )


@check("torch-without-cuda", needs=("torch_probe",))
def torch_without_cuda(case: Case) -> Iterator[Finding]:
    """torch is built for CUDA and sees no GPU, although the driver shows one.

    What keeps torch from CUDA mostly keeps onnxruntime from it as well: a hidden GPU, an old driver, a
    driver's library that does not fit. torch says the reason in a warning.

    Sources: the probe itself; pytorch/pytorch#35710 and #88639 for typical reasons.
    """
    probe = case.machine.torch_probe
    if probe is None or probe.cuda is None or probe.cuda_available is not False or not case.machine.gpus:
        return
    said = f"{probe.message}\n{probe.native_log}".strip()
    yield Finding(
        severity=Severity.WARNING,
        summary=f"torch {probe.version}, built for CUDA {probe.cuda}, sees no GPU",
        because=reason_in(said) or line_with(said, *_CUDA_WORDS) or "torch.cuda.is_available() is False",
        evidence=tuple(said.splitlines()[-4:]),
    )


@check("torch-other-cudnn", needs=("torch_probe", "libraries"))
def torch_other_cudnn(case: Case) -> Iterator[Finding]:
    """torch runs another cuDNN than the environment's package.

    It says its cuDNN's version when it runs, so this is what was loaded, not what lies there: LD_LIBRARY_PATH
    or the system's came first. Sessions of onnxruntime in the same process get that one too.

    Sources: the probe itself; pytorch/pytorch#185512; microsoft/onnxruntime#23643.
    """
    probe = case.machine.torch_probe
    packaged = [one for one in case.machine.libraries_of("cudnn") if one.origin is Origin.PIP and one.version]
    if probe is None or probe.cudnn is None or not packaged:
        return
    running, version = _cudnn_version(probe.cudnn), packaged[0].version
    if version is None or len(version.parts) < 3 or version.parts[:3] == running.parts:
        return
    yield Finding(
        severity=Severity.WARNING,
        summary=f"torch runs cuDNN {running}, and the environment's package is {version}",
        because="another copy was loaded first",
        evidence=tuple(one.path for one in case.machine.libraries_of("cudnn")),
    )


def _cudnn_version(number: int) -> Dotted:
    """cuDNN's own number as a version: 91900 is 9.19.0, and up to 8 with one digit less, 8902 is 8.9.2."""
    thousands, rest = divmod(number, 10_000 if number >= 90_000 else 1_000)
    return Dotted.parse(f"{thousands}.{rest // 100}.{rest % 100}")


CHECKS = (torch_does_not_run, torch_without_cuda, torch_other_cudnn)
