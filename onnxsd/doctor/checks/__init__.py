"""Every check, in the order in which its findings are shown. Adding one: its line at the end of its file."""

from __future__ import annotations

from onnxsd.doctor.checks import fitting, gpu, nvidia, packages, probes, release

CHECKS = (
    *packages.CHECKS,
    *probes.CHECKS,
    *gpu.CHECKS,
    *nvidia.CHECKS,
    *fitting.CHECKS,
    *release.CHECKS,
)
