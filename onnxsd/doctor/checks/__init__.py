"""Every check, in the order in which its findings are shown. Adding one: its function, and its line here."""

from __future__ import annotations

from onnxsd.doctor.checks.fitting import (
    glibc_too_old,
    no_wheel_serves,
    pip_too_old,
    python_without_wheel,
)
from onnxsd.doctor.checks.gpu import (
    driver_too_old,
    gpu_hidden,
    gpu_not_in_wheel,
    no_gpu,
    release_unknown,
)
from onnxsd.doctor.checks.packages import (
    cpu_wheel_beside_gpu,
    cudnn_two_majors,
    run_packages_missing,
    runtime_below_floor,
    runtime_missing,
    two_runtime_wheels,
)
from onnxsd.doctor.checks.probes import cuda_does_not_run, runtime_does_not_run

CHECKS = (
    two_runtime_wheels,
    runtime_missing,
    runtime_does_not_run,
    runtime_below_floor,
    cpu_wheel_beside_gpu,
    cuda_does_not_run,
    driver_too_old,
    gpu_not_in_wheel,
    gpu_hidden,
    cudnn_two_majors,
    no_wheel_serves,
    python_without_wheel,
    glibc_too_old,
    pip_too_old,
    run_packages_missing,
    release_unknown,
    no_gpu,
)
