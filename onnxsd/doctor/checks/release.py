"""Checks of the installed runtime's release: what it was built for, and whether it is a release at all."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import Finding, Severity


@check("ort-release-unknown", needs=("distributions",))
def release_unknown(case: Case) -> Iterator[Finding]:
    """The installed onnxruntime-gpu is not a release that the matrix knows.

    It is newer than this onnxsd, a nightly build, or from another index, so its CUDA major and GPU code are
    not checked against this machine; the probe still is.

    Source: rows `releases` of compat_matrix.yaml.
    """
    found = case.gpu_runtime
    if found is not None and case.gpu_release is None:
        yield Finding(
            severity=Severity.INFO,
            summary=f"onnxruntime-gpu {found.version} is not in this onnxsd's matrix",
            because=f"the newest release there is {case.matrix.releases[0].version}",
        )


CHECKS = (release_unknown,)
