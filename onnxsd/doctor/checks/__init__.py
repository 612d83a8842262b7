"""Every check, in the order in which its findings are shown. Adding one: its line at the end of its file."""

from __future__ import annotations

from onnxsd.doctor.checks import (
    builds,
    companions,
    container,
    copies,
    driver,
    fitting,
    gpu,
    libraries,
    logs,
    nvidia,
    packages,
    probes,
    python,
    reference,
    release,
    resources,
    shadowing,
    visible,
)

CHECKS = (
    *packages.CHECKS,
    *shadowing.CHECKS,
    *builds.CHECKS,
    *probes.CHECKS,
    *driver.CHECKS,
    *container.CHECKS,
    *visible.CHECKS,
    *gpu.CHECKS,
    *libraries.CHECKS,
    *copies.CHECKS,
    *logs.CHECKS,
    *reference.CHECKS,
    *resources.CHECKS,
    *nvidia.CHECKS,
    *companions.CHECKS,
    *python.CHECKS,
    *fitting.CHECKS,
    *release.CHECKS,
)
