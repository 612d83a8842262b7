"""Rows of the checks of packages, Python and companions: where each fires, and what would silence it."""

from __future__ import annotations

from doctor_cases import (
    Row,
    adding,
    adding_all,
    as_on,
    undamaged,
    with_fields,
    with_python,
    with_version,
    without,
)
from packaging.version import Version

from onnxsd.records import Dotted

ROWS = (
    Row(
        check="ort-two-wheels",
        machines=("both_runtime_wheels", "recorded_h200_two_wheels", "recorded_h200x2_overwritten"),
        near_miss=without("onnxruntime"),
    ),
    Row(
        check="ort-missing",
        machines=("nothing_installed", "alpine", "free_threaded_windows", "pypy_32_bit", "system_python"),
        near_miss=adding("onnxruntime-gpu", "1.31.1", provides=("onnxruntime",)),
    ),
    Row(
        check="ort-below-floor",
        machines=(
            "old_glibc",
            "python310_with_gpu",
            "cuda11_build_beside_cuda12",
            "executable_stack_on_debian13",
            "release_1_27_0",
            "vanished_release",
            "wheel_copied_to_old_system",
        ),
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
        machines=(
            "nothing_installed",
            "old_glibc",
            "alpine",
            "free_threaded_windows",
            "pypy_32_bit",
            "system_python",
            "wheel_copied_to_old_system",
        ),
        near_miss=as_on("healthy_cuda13", "distributions"),
    ),
    Row(
        check="ort-release-unknown",
        machines=("runtime_newer_than_matrix",),
        near_miss=with_version("onnxruntime-gpu", "1.31.1"),
    ),
    Row(
        check="no-wheel-serves",
        machines=(
            "python310_with_gpu",
            "old_glibc",
            "alpine",
            "free_threaded_windows",
            "jetson_orin",
            "ptx_newer_than_driver",
            "pypy_32_bit",
            "wheel_copied_to_old_system",
        ),
        near_miss=with_python(version=Version("3.11.9"), abi="cp311"),
    ),
    Row(
        check="python-without-wheel",
        machines=("python310_with_gpu", "old_glibc", "wheel_copied_to_old_system"),
        near_miss=with_python(version=Version("3.11.9"), abi="cp311"),
    ),
    Row(
        check="glibc-too-old",
        machines=("old_glibc", "wheel_copied_to_old_system"),
        near_miss=as_on("healthy_cuda12", "platform_tags"),
    ),
    Row(
        check="pip-too-old",
        machines=("old_pip",),
        near_miss=with_fields(pip=Version("20.3")),
    ),
    Row(
        check="ort-shadowed",
        machines=("shadowed_by_a_file", "shadowed_by_pythonpath", "recorded_h200x2_shadowed"),
        near_miss=as_on("healthy_cuda13", "modules"),
    ),
    Row(
        check="ort-files-damaged",
        machines=("files_missing",),
        near_miss=undamaged("onnxruntime-gpu"),
    ),
    Row(
        check="nvidia-files-damaged",
        machines=("files_missing", "recorded_h200x2_cudnn_hidden"),
        near_miss=undamaged("nvidia-cudnn-cu13"),
    ),
    Row(
        check="user-site-packages",
        machines=("conda_and_pip",),
        near_miss=with_python(user_site=False),
    ),
    Row(
        check="conda-pip-mix",
        machines=("conda_and_pip",),
        near_miss=without("onnxruntime"),
    ),
    Row(
        check="ort-other-build",
        machines=("directml_with_nvidia_gpu",),
        near_miss=with_fields(gpus=()),
    ),
    Row(
        check="nvidia-packages-other-major",
        machines=("cuda12_packages_with_newest_wheel",),
        near_miss=with_version("onnxruntime-gpu", "1.26.0"),
    ),
    Row(
        check="torch-cuda-major",
        machines=("cuda12_packages_with_newest_wheel", "cuda11_build_beside_cuda12", "two_cudnn_majors"),
        near_miss=with_version("torch", "2.11.0"),
    ),
    Row(
        check="numpy-abi",
        machines=("cuda11_build_beside_cuda12",),
        near_miss=with_version("onnxruntime-gpu", "1.19.2"),
    ),
    Row(
        check="protobuf-too-old",
        machines=("companions_apart",),
        near_miss=with_version("protobuf", "7.36.2"),
    ),
    Row(
        check="onnx-parts",
        machines=("companions_apart",),
        near_miss=with_version("ml-dtypes", "0.5.4"),
    ),
    Row(
        check="onnx-newer-than-runtime",
        machines=("companions_apart",),
        near_miss=with_version("onnx", "1.22.0"),
    ),
    Row(
        check="optimum-does-not-fit",
        machines=("companions_apart",),
        near_miss=with_version("optimum", "2.1.0"),
    ),
    Row(
        check="transformers-does-not-fit",
        machines=("companions_apart",),
        near_miss=with_version("huggingface-hub", "0.36.2"),
    ),
    Row(
        check="diffusers-does-not-fit",
        machines=("companions_apart",),
        near_miss=with_version("huggingface-hub", "1.33.0"),
    ),
    Row(
        check="python-32-bit",
        machines=("pypy_32_bit",),
        near_miss=with_python(bits=64),
    ),
    Row(
        check="python-not-cpython",
        machines=("pypy_32_bit",),
        near_miss=with_python(implementation="cpython"),
    ),
    Row(
        check="python-free-threaded",
        machines=("free_threaded_windows",),
        near_miss=with_python(free_threaded=False, abi="cp313"),
    ),
    Row(
        check="python-externally-managed",
        machines=("system_python",),
        near_miss=with_python(externally_managed=False),
    ),
    Row(
        check="musl-no-wheel",
        machines=("alpine",),
        near_miss=with_fields(musl=None),
    ),
    Row(
        check="odd-system",
        machines=("nixos",),
        near_miss=as_on("healthy_cuda13", "distro"),
    ),
    Row(
        check="pip-other-index",
        machines=("cuda11_build_beside_cuda12",),
        near_miss=with_version("onnxruntime-gpu", "1.26.0"),
    ),
    Row(
        check="ort-held-back",
        machines=("python310_with_gpu", "old_glibc", "wheel_copied_to_old_system"),
        near_miss=with_python(version=Version("3.11.9"), abi="cp311"),
    ),
    Row(
        check="ort-cuda11-build",
        machines=("cuda11_build_beside_cuda12", "executable_stack_on_debian13", "old_glibc"),
        near_miss=with_version("onnxruntime-gpu", "1.19.2"),
    ),
    Row(
        check="ort-broken-release",
        machines=("release_1_27_0",),
        near_miss=with_version("onnxruntime-gpu", "1.28.0"),
    ),
    Row(
        check="ort-vanished-release",
        machines=("vanished_release",),
        near_miss=with_version("onnxruntime-gpu", "1.23.2"),
    ),
    Row(
        check="ort-nightly",
        machines=("nightly_runtime",),
        near_miss=with_version("onnxruntime-gpu", "1.33.0"),
    ),
    Row(
        check="pip-missing",
        machines=("no_pip",),
        near_miss=with_fields(uv=Version("0.13.9")),
    ),
    Row(
        check="nvidia-packages-incomplete",
        machines=("cuda_extra_alone", "cudnn8_of_the_system", "cudnn_missing", "curand_missing"),
        near_miss=adding_all(("nvidia-cublas", "13.10.0.20"), ("nvidia-cudnn-cu13", "9.28.0.42")),
    ),
    Row(
        check="ort-executable-stack",
        machines=("executable_stack_on_debian13",),
        near_miss=with_fields(glibc=Dotted.parse("2.40")),
    ),
    Row(
        check="ort-glibc-symbols",
        machines=("wheel_copied_to_old_system",),
        near_miss=with_fields(glibc=Dotted.parse("2.27")),
    ),
)
