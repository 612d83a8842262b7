"""Checks of what happened when the probe model was run.

That no probe could be made is said once for each provider, by the first two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.checks.visible import hides_all
from onnxsd.doctor.finding import ByHand, Finding, Pip, Severity
from onnxsd.doctor.folders import by_folder, imported_instead, of_conda_beside_pip
from onnxsd.doctor.native_log import cuda_failure, missing_library, reason_in, telling_line
from onnxsd.doctor.symptoms import Says, Symptom, matches
from onnxsd.machine import Outcome, ProbeGraph, Provider, SessionProbe

# TF32, CUDA's default for float32, keeps 10 bits; the probe's results are probabilities of a few values.
_TOLERANCE = 1e-2
_LOG_LINES = 6
_NO_DEVICE = 100  # cudaErrorNoDevice
_SEEN_ELSEWHERE = (Outcome.RAN, Outcome.NOT_INSTALLED)  # `ort-missing` reports the second
# `ort-does-not-run` reports what does not import, `cuda-hangs` what does not answer.
_NOT_OF_CUDA = (*_SEEN_ELSEWHERE, Outcome.IMPORT_FAILED, Outcome.HUNG)

# The checks of faults that no package of onnxruntime mends.
_BY_HAND = {"libstdcxx", "windows-runtime", "windows-old-dll", "odd-system", "ort-shadowed"}


@check("ort-does-not-run", needs=("probes",))
def runtime_does_not_run(case: Case) -> Iterator[Finding]:
    """onnxruntime does not import, or cannot run a small model on the CPU.

    A child process imports it and runs a model of three operators. A crash, a hang and an exception are all
    recorded; broken files, a numpy of the wrong major and missing system libraries show here. The cause is
    looked up in the catalogue of symptoms.

    Sources: the probe itself; microsoft/onnxruntime#21063 for numpy.
    """
    probe = case.machine.probe(Provider.CPU)
    if probe is None or probe.outcome in _SEEN_ELSEWHERE:
        return
    yield Finding(
        severity=Severity.ERROR,
        summary=f"onnxruntime does not run on the CPU: {probe.outcome.value}",
        because=_reason(probe),
        evidence=_words(probe),
        remedies=_packages_for(probe, case),
    )


@check("cuda-does-not-run", needs=("probes", "gpus"))
def cuda_does_not_run(case: Case) -> Iterator[Finding]:
    """A session on the GPU could not be made.

    `get_available_providers()` lists what the build knows, not what loads: without a GPU library
    onnxruntime goes on with the CPU and says so only in its log. The probe forbids that fallback, so the
    reason comes out; it is read from the native log, which names one library at a time. Where
    CUDA_VISIBLE_DEVICES hides every GPU, `gpu-hidden` is the error and this a remark.

    Sources: the probe itself; microsoft/onnxruntime#23372, #17801, #25145.
    """
    probe = _cuda_probe(case)
    if probe is None or probe.outcome in _NOT_OF_CUDA or not _knows_cuda(probe):
        return
    failure = cuda_failure(_text(probe))
    hidden = failure is not None and failure.number == _NO_DEVICE and hides_all(case)
    yield Finding(
        severity=Severity.INFO if hidden else case.stops_generate,  # `gpu-hidden` is the error
        summary=f"onnxruntime does not run on the GPU: {probe.outcome.value}",
        because=_reason(probe) or f"the session runs on {', '.join(probe.session_providers)} instead",
        evidence=_words(probe),
        remedies=_packages_for(probe, case),
    )


@check("cuda-not-in-build")
def cuda_not_in_build(case: Case) -> Iterator[Finding]:
    """onnxruntime-gpu is installed, and the module that is imported knows no CUDA provider.

    The files of another package were written over it, or lie before it on the path: pip's list and what
    Python imports are two things. `get_available_providers()` of the child process shows what was built in.
    It is the proof, and a remark, where `ort-two-wheels`, `ort-shadowed` or `conda-pip-mix` name the cause.

    Sources: the probe itself; microsoft/onnxruntime#26996, #7748.
    """
    probe = _cuda_probe(case)
    if probe is None or case.gpu_runtime is None or not probe.available_providers or _knows_cuda(probe):
        return
    yield Finding(
        severity=Severity.INFO if _two_copies(case) else case.stops_generate,
        summary=f"onnxruntime-gpu {case.gpu_runtime.version} is installed, but the onnxruntime that is "
        f"imported ({probe.runtime_version}) knows no CUDA",
        because=f"it knows {', '.join(probe.available_providers)}",
        evidence=tuple(one.path for one in case.machine.modules if one.name == "onnxruntime"),
        remedies=() if _only_by_hand(case) else (case.reinstall(),),
    )


@check("cuda-hangs")
def cuda_hangs(case: Case) -> Iterator[Finding]:
    """A session on the GPU did not answer in time.

    Compiling PTX at the first start takes minutes, and is done once. A GPU that has fallen off the bus, a
    driver after a suspend and a hung network drive hang as well, for good.

    Sources: the probe itself; CUDA C++ Programming Guide, just-in-time compilation.
    """
    probe = _cuda_probe(case)
    if probe is None or probe.outcome is not Outcome.HUNG:
        return
    yield Finding(
        severity=case.stops_generate,
        summary="a session on the GPU did not answer",
        because=probe.message,
        evidence=_words(probe),
        remedies=(
            ByHand(
                steps=(
                    "run the doctor again: if PTX was compiled, it is kept and the next start is fast",
                    "if it hangs again, look for errors of the GPU (Xid) in the kernel's log",
                ),
                commands=("sudo dmesg | grep -i -e nvrm -e xid",),
            ),
        ),
    )


@check("cuda-differs-from-cpu")
def cuda_differs_from_cpu(case: Case) -> Iterator[Finding]:
    """The GPU and the CPU compute different results for the same small model.

    They agree within the rounding of TF32. More than that comes from libraries of different versions in one
    process, from a build that does not fit the GPU, or from a faulty GPU.

    Sources: the probe itself; NVIDIA's description of TF32 (10 bits of mantissa).
    """
    on_cuda, on_cpu = case.machine.probe(Provider.CUDA), case.machine.probe(Provider.CPU)
    if on_cuda is None or on_cuda.outcome is not Outcome.RAN:
        return
    difference = _largest_difference(on_cuda, on_cpu)
    if difference is None or difference <= _TOLERANCE:  # NaN is no such difference, and goes on
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"the GPU and the CPU disagree by {difference:.2g} on a small model",
        because=f"they should agree within {_TOLERANCE:g}; libraries of different versions can do this",
        evidence=(f"GPU: {on_cuda.outputs}", f"CPU: {on_cpu.outputs if on_cpu else ()}"),
        remedies=(case.reinstall(),),
    )


@check("attention-does-not-run")
def attention_does_not_run(case: Case) -> Iterator[Finding]:
    """Convolution and multiplication run on the GPU, and attention does not.

    onnxsd's graphs for CUDA use onnxruntime's own attention, which calls cuDNN or kernels that the wheel
    compiled for some GPUs alone. A cuDNN without its attention engines fails here first.

    Sources: the probe itself; onnxruntime, docs/ContribOperators.md (com.microsoft.MultiHeadAttention).
    """
    plain = case.machine.probe(Provider.CUDA)
    probe = case.machine.probe(Provider.CUDA, ProbeGraph.ATTENTION)
    if plain is None or plain.outcome is not Outcome.RAN:  # then `cuda-does-not-run` has said it
        return
    if probe is None or probe.outcome in (Outcome.RAN, Outcome.UNSUPPORTED):
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"attention does not run on the GPU: {probe.outcome.value}",
        because=_reason(probe),
        evidence=_words(probe),
        remedies=(case.reinstall(),),
    )


def _cuda_probe(case: Case) -> SessionProbe | None:
    """The session on CUDA; None where the CPU build is installed, which `ort-cpu-wheel-with-gpu` reports."""
    cpu_build = case.gpu_runtime is None and case.machine.distribution(case.matrix.cpu_package) is not None
    return None if cpu_build else case.machine.probe(Provider.CUDA)


def _only_by_hand(case: Case) -> bool:
    """Whether the copy that is imported is not pip's to replace: `ort-shadowed` and `conda-pip-mix` say what
    to do."""
    return imported_instead(case.machine) is not None or bool(of_conda_beside_pip(case.machine))


def _two_copies(case: Case) -> bool:
    """Whether a check of the packages has the cause, as an error."""
    instead = imported_instead(case.machine)
    if instead is not None:
        return instead.owner != case.matrix.package
    return any(len(owners) > 1 for owners in by_folder(case.runtimes).values())


def _knows_cuda(probe: SessionProbe) -> bool:
    """Whether the build has the provider; one that said nothing is not held against it."""
    return not probe.available_providers or Provider.CUDA.value in probe.available_providers


def _largest_difference(one: SessionProbe, other: SessionProbe | None) -> float | None:
    if other is None or other.outcome is not Outcome.RAN:
        return None
    differences = [abs(a - b) for a, b in zip(one.outputs, other.outputs, strict=True)]
    return math.nan if any(map(math.isnan, differences)) else max(differences)


def _packages_for(probe: SessionProbe, case: Case) -> tuple[Pip | ByHand, ...]:
    """The packages to install, where they can help: not for a driver, a container or a hidden GPU."""
    if _only_by_hand(case):
        return ()
    library, failure = missing_library(_text(probe)), cuda_failure(_text(probe))
    if library is not None:
        return (case.reinstall(beside=True),) if case.matrix.package_of(library) else ()
    if failure is not None:
        return case.other_build() if failure.by_packages else ()
    return () if _BY_HAND & {symptom.check for symptom in _causes(probe)} else (case.reinstall(),)


def _reason(probe: SessionProbe) -> str:
    """Why it failed, in words that help; what was raised, where nothing is known of it."""
    return reason_in(_text(probe)) or next((one.cause for one in _causes(probe)), probe.message)


def _causes(probe: SessionProbe) -> list[Symptom]:
    """What the catalogue knows of its words, the closest first."""
    return [match.symptom for match in matches(_text(probe)) if match.symptom.says is Says.CAUSE]


def _text(probe: SessionProbe) -> str:
    return f"{probe.native_log}\n{probe.message}"


def _words(probe: SessionProbe) -> tuple[str, ...]:
    """The line that names the reason; else what was raised, unless it is that, and the log's end."""
    line = telling_line(_text(probe))
    if line is not None:
        return (line,)
    raised = (probe.message,) if probe.message != _reason(probe) else ()
    return (*raised, *probe.native_log.splitlines()[-_LOG_LINES:])


CHECKS = (
    runtime_does_not_run,
    cuda_does_not_run,
    cuda_not_in_build,
    cuda_hangs,
    cuda_differs_from_cpu,
    attention_does_not_run,
)
