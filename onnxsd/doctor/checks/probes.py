"""Checks of what happened when the probe model was run."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import Finding, Severity
from onnxsd.machine import Outcome, Provider, SessionProbe

# TF32, CUDA's default for float32, keeps 10 bits; the probe's results are probabilities of a few values.
_TOLERANCE = 1e-2
_LOG_LINES = 6
_SEEN_ELSEWHERE = (Outcome.RAN, Outcome.NOT_INSTALLED)  # `ort-missing` reports the second


@check("ort-does-not-run", needs=("probes",))
def runtime_does_not_run(case: Case) -> Iterator[Finding]:
    """onnxruntime does not import, or cannot run a small model on the CPU.

    A child process imports it and runs a model of three operators. A crash, a hang and an exception are all
    recorded; broken files, a numpy of the wrong major and missing system libraries show here.

    Sources: the probe itself; microsoft/onnxruntime#21063 for numpy.
    """
    probe = case.machine.probe(Provider.CPU)
    if probe is None or probe.outcome in _SEEN_ELSEWHERE:
        return
    yield Finding(
        severity=Severity.ERROR,
        summary=f"onnxruntime does not run on the CPU: {probe.outcome.value}",
        because=probe.message,
        evidence=_log(probe),
        remedies=(case.reinstall(),),
    )


@check("cuda-does-not-run", needs=("probes", "gpus"))
def cuda_does_not_run(case: Case) -> Iterator[Finding]:
    """A session on the GPU could not be made, or computes something else than the CPU.

    `get_available_providers()` lists what the build knows, not what loads: without a GPU library
    onnxruntime goes on with the CPU and says so only in its log. The probe forbids that fallback, so the
    reason comes out.

    Sources: the probe itself; microsoft/onnxruntime#23372, #17801, #25145.
    """
    probe = case.machine.probe(Provider.CUDA)
    cpu_build = case.gpu_runtime is None and case.machine.distribution(case.matrix.cpu_package) is not None
    if probe is None or cpu_build or probe.outcome is Outcome.NOT_INSTALLED:
        return  # `ort-cpu-wheel-with-gpu` and `ort-missing` report these
    if probe.outcome is not Outcome.RAN:
        yield Finding(
            severity=case.stops_generate,
            summary=f"onnxruntime does not run on the GPU: {probe.outcome.value}",
            because=probe.message or f"the session runs on {', '.join(probe.session_providers)} instead",
            evidence=_log(probe),
            remedies=(case.reinstall(),),
        )
        return
    difference = _largest_difference(probe, case.machine.probe(Provider.CPU))
    if difference is not None and not difference <= _TOLERANCE:
        yield Finding(
            severity=case.stops_generate,
            summary=f"the GPU and the CPU disagree by {difference:.2g} on a small model",
            because=f"they should agree within {_TOLERANCE:g}; libraries of different versions can do this",
            evidence=(f"GPU: {probe.outputs}",),
            remedies=(case.reinstall(),),
        )


def _largest_difference(one: SessionProbe, other: SessionProbe | None) -> float | None:
    if other is None or other.outcome is not Outcome.RAN:
        return None
    return max(abs(a - b) for a, b in zip(one.outputs, other.outputs, strict=True))


def _log(probe: SessionProbe) -> tuple[str, ...]:
    """The end of the native log, where the reason stands."""
    return tuple(probe.native_log.splitlines()[-_LOG_LINES:])


CHECKS = (runtime_does_not_run, cuda_does_not_run)
