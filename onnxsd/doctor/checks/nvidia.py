"""Checks of NVIDIA's packages: whether those that the runtime loads are there, and of one CUDA major."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.case import Case, check, names_of
from onnxsd.doctor.finding import Finding, Pip, Severity


@check("cudnn-two-majors", needs=("distributions",))
def cudnn_two_majors(case: Case) -> Iterator[Finding]:
    """cuDNN for CUDA 12 and for CUDA 13 are both installed, and overwrite each other.

    `nvidia-cudnn-cu12` and `nvidia-cudnn-cu13` install the same files (nvidia/cudnn/lib/libcudnn*.so.9).
    The last one wins, and the other's users load a cuDNN that was built for another CUDA. Resolvers produce
    this state when torch is for one CUDA major and onnxruntime-gpu for the other.

    Sources: file lists of nvidia-cudnn-cu12 9.10.2.21 and nvidia-cudnn-cu13 9.28.0.42.
    """
    both = [one for one in case.machine.distributions if one.name.startswith("nvidia-cudnn-cu")]
    if len(both) < 2:
        return
    yield Finding(
        severity=Severity.ERROR,
        summary=f"cuDNN is installed for two CUDA majors: {names_of(tuple(both))}",
        because="both packages install the same files, so one of them is broken",
        remedies=(
            Pip(
                uninstall=tuple(one.name for one in (*both, *case.runtimes)), install=case.reinstall().install
            ),
        ),
    )


CHECKS = (cudnn_two_majors,)
