"""Checks of whether the installed build can be loaded here, and is one for this hardware."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.case import Case, check, names_of
from onnxsd.doctor.finding import Finding, Severity
from onnxsd.doctor.fit import NO_EXECUTABLE_STACK, executable_stack_refused
from onnxsd.machine import Provider
from onnxsd.matrix import Wheel


@check("ort-other-build", needs=("distributions", "gpus"))
def build_for_another_maker(case: Case) -> Iterator[Finding]:
    """There is an NVIDIA GPU, and the installed runtime is a build for other hardware.

    onnxruntime-directml, -openvino, -migraphx and the others own the import name `onnxruntime` too, and
    none of them has the CUDA provider, which onnxsd uses on NVIDIA GPUs.

    Sources: rows `runtimes` of compat_matrix.yaml; microsoft/onnxruntime#7748.
    """
    ours = {case.matrix.package, case.matrix.cpu_package}
    if not case.machine.gpus or len(case.runtimes) != 1 or case.runtimes[0].name in ours:
        return
    found = case.runtimes[0]
    row = case.matrix.runtime(found.name)
    if row is None or row.provider == Provider.CUDA.value:
        return
    brings = f"it brings {row.provider}" if row.provider else "it brings no provider for a GPU"
    yield Finding(
        severity=case.stops_generate,
        summary=f"{case.machine.gpus[0].name} is there, but the installed runtime is {names_of((found,))}",
        because=f"{brings}, and no CUDA provider",
        remedies=(case.reinstall(),),
    )


@check("ort-executable-stack", needs=("distributions", "glibc"))
def executable_stack(case: Case) -> Iterator[Finding]:
    """The installed release asks for an executable stack, which this system's C library refuses.

    The modules of onnxruntime up to 1.16.3 are marked so by mistake. glibc 2.41 and newer does not load
    them: cannot enable executable stack as shared object requires.

    Sources: program headers of the wheels; microsoft/onnxruntime#24911; emilianavt/OpenSeeFace#98.
    """
    release, wheel = case.gpu_release, _wheel(case)
    if release is not None and wheel is not None and executable_stack_refused(wheel, case.machine):
        yield Finding(
            severity=Severity.ERROR,
            summary=f"glibc {case.machine.glibc} refuses to load onnxruntime-gpu {release.version}",
            because=f"its module asks for an executable stack, which glibc {NO_EXECUTABLE_STACK} and newer "
            "does not give",
            remedies=(case.reinstall(),),
        )


@check("ort-glibc-symbols", needs=("distributions", "glibc"))
def glibc_below_the_binaries(case: Case) -> Iterator[Finding]:
    """The installed wheel was built for a newer C library than this system has.

    pip would not have taken it here: it was copied, installed with `--platform`, or the system under the
    environment is another one now. It fails to import: version GLIBC_2.28 not found.

    Sources: version symbols of the wheels' binaries; microsoft/onnxruntime#1001.
    """
    release, wheel = case.gpu_release, _wheel(case)
    glibc = case.machine.glibc
    if release is None or wheel is None or glibc is None or wheel.glibc is None or wheel.glibc <= glibc:
        return
    yield Finding(
        severity=Severity.ERROR,
        summary=f"onnxruntime-gpu {release.version} asks for glibc {wheel.glibc}; this system has {glibc}",
        because="it was built for a newer system, and cannot be loaded here",
        remedies=(case.reinstall(),),
    )


def _wheel(case: Case) -> Wheel | None:
    return case.gpu_release.wheel_for(case.machine.platform) if case.gpu_release else None


CHECKS = (build_for_another_maker, executable_stack, glibc_below_the_binaries)
