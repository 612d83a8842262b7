"""Rows of the checks of driver, GPU, libraries, container, probes and resources."""

from __future__ import annotations

from doctor_cases import Row, as_on, with_fields, with_variable, with_version

from onnxsd.records import Dotted

ROWS = (
    Row(
        check="ort-does-not-run",
        machines=("runtime_crashes",),
        near_miss=as_on("laptop_without_gpu", "probes"),
    ),
    Row(
        check="cuda-does-not-run",
        machines=(
            "cublas_missing",
            "both_runtime_wheels",
            "old_driver_550",
            "old_glibc",
            "b200_with_newest_wheel",
            "gpu_hidden",
            "gpu_and_cpu_disagree",
        ),
        near_miss=as_on("healthy_cuda13", "probes"),
    ),
    Row(
        check="driver-too-old",
        machines=("old_driver_550",),
        near_miss=with_fields(driver=Dotted.parse("580.65.06")),
    ),
    Row(
        check="gpu-not-in-wheel",
        machines=("b200_with_newest_wheel",),
        near_miss=with_version("onnxruntime-gpu", "1.28.0"),
    ),
    Row(
        check="gpu-hidden",
        machines=("gpu_hidden",),
        near_miss=with_variable("CUDA_VISIBLE_DEVICES", "0"),
    ),
    Row(
        check="no-gpu",
        machines=("laptop_without_gpu", "runtime_crashes"),
        near_miss=as_on("healthy_cuda13", "gpus"),
    ),
)
