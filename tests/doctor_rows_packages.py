"""Rows of the checks of packages, Python and companions: where each fires, and what would silence it."""

from __future__ import annotations

from doctor_cases import Row, adding, as_on, with_fields, with_python, with_version, without
from packaging.version import Version

ROWS = (
    Row(
        check="ort-two-wheels",
        machines=("both_runtime_wheels", "recorded_h200_two_wheels"),
        near_miss=without("onnxruntime"),
    ),
    Row(
        check="ort-missing",
        machines=("nothing_installed",),
        near_miss=adding("onnxruntime-gpu", "1.31.1", provides=("onnxruntime",)),
    ),
    Row(
        check="ort-below-floor",
        machines=("old_glibc", "python310_with_gpu"),
        near_miss=with_version("onnxruntime-gpu", "1.26.0"),
    ),
    Row(
        check="ort-cpu-wheel-with-gpu",
        machines=("cpu_wheel_on_gpu",),
        near_miss=with_fields(gpus=()),
    ),
    Row(
        check="cudnn-two-majors",
        machines=("two_cudnn_majors",),
        near_miss=without("nvidia-cudnn-cu12"),
    ),
    Row(
        check="run-packages",
        machines=("nothing_installed", "old_glibc"),
        near_miss=as_on("healthy_cuda13", "distributions"),
    ),
    Row(
        check="ort-release-unknown",
        machines=("nightly_runtime",),
        near_miss=with_version("onnxruntime-gpu", "1.31.1"),
    ),
    Row(
        check="no-wheel-serves",
        machines=("python310_with_gpu", "old_glibc"),
        near_miss=with_python(version=Version("3.11.9"), abi="cp311"),
    ),
    Row(
        check="python-without-wheel",
        machines=("python310_with_gpu", "old_glibc"),
        near_miss=with_python(version=Version("3.11.9"), abi="cp311"),
    ),
    Row(
        check="glibc-too-old",
        machines=("old_glibc",),
        near_miss=as_on("healthy_cuda12", "platform_tags"),
    ),
    Row(
        check="pip-too-old",
        machines=("old_pip",),
        near_miss=with_fields(pip=Version("20.3")),
    ),
)
