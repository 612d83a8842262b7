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
    kernels,
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

# From the ground up: what the system allows, what is installed on it, what was seen to happen. So the first
# error is mostly the cause of those after it.
CHECKS = (
    *fitting.CHECKS,
    *release.CHECKS,
    *python.CHECKS,
    *driver.CHECKS,
    *container.CHECKS,
    *visible.CHECKS,
    *gpu.CHECKS,
    *packages.CHECKS,
    *shadowing.CHECKS,
    *builds.CHECKS,
    *nvidia.CHECKS,
    *libraries.CHECKS,
    *copies.CHECKS,
    *companions.CHECKS,
    *resources.CHECKS,
    *logs.CHECKS,
    *reference.CHECKS,
    *kernels.CHECKS,
    *probes.CHECKS,
)
