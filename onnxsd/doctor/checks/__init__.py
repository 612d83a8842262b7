"""Every check, in the order in which its findings are shown. Adding one: its line at the end of its file."""

from __future__ import annotations

from onnxsd.doctor.checks import (
    builds,
    companions,
    fitting,
    gpu,
    nvidia,
    packages,
    probes,
    python,
    release,
    shadowing,
)

CHECKS = (
    *packages.CHECKS,
    *shadowing.CHECKS,
    *builds.CHECKS,
    *probes.CHECKS,
    *gpu.CHECKS,
    *nvidia.CHECKS,
    *companions.CHECKS,
    *python.CHECKS,
    *fitting.CHECKS,
    *release.CHECKS,
)
