"""Rows of the checks of driver, GPU, libraries, container, probes and resources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from doctor_cases import Row, as_on, with_fields, with_variable, with_version

from onnxsd.machine import Container, Machine
from onnxsd.records import Dotted


def with_gpus(**changes: object) -> Callable[[Machine], Machine]:
    """A change of every GPU."""
    return lambda seen: replace(
        seen,
        gpus=tuple(replace(gpu, **changes) for gpu in seen.gpus),  # type: ignore[arg-type]
    )


_HEALTHY_PROBES = as_on("healthy_cuda13", "probes")
_HEALTHY_LIBRARIES = as_on("healthy_cuda13", "libraries")

ROWS = (
    Row(
        check="ort-does-not-run",
        machines=(
            "runtime_crashes",
            "old_libstdcxx",
            "windows_dll_of_system32",
            "windows_old_vc_runtime",
        ),
        near_miss=as_on("laptop_without_gpu", "probes"),
    ),
    Row(
        check="cuda-does-not-run",
        machines=(
            "cublas_missing",
            "b200_with_newest_wheel",
            "compat_library_on_geforce",
            "container_without_compute",
            "cuda_path_of_cuda12",
            "cudnn8_of_the_system",
            "cudnn_missing",
            "curand_missing",
            "driver_without_libcuda",
            "fabric_manager_stopped",
            "gpu_held_by_another",
            "gpu_hidden",
            "jetson_orin",
            "old_driver_550",
            "old_glibc",
            "pascal_with_new_cudnn",
            "recorded_h200x2_gpu_hidden",
            "toolkit12_with_cuda13_build",
            "uvm_node_missing",
            "windows_zlib_missing",
        ),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="cuda-not-in-build",
        machines=("both_runtime_wheels", "recorded_h200x2_overwritten", "recorded_h200x2_shadowed"),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="cuda-hangs",
        machines=("cuda_session_hangs",),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="cuda-differs-from-cpu",
        machines=("gpu_and_cpu_disagree",),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="attention-does-not-run",
        machines=("attention_refused",),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="driver-too-old",
        machines=("old_driver_550",),
        near_miss=with_fields(driver=Dotted.parse("580.65.06")),
    ),
    Row(
        check="driver-too-old-for-ptx",
        machines=("ptx_newer_than_driver",),
        near_miss=with_fields(driver=Dotted.parse("572.61")),
    ),
    Row(
        check="driver-library-mismatch",
        machines=("driver_updated_not_restarted",),
        near_miss=with_fields(driver_library=Dotted.parse("580.159.03")),
    ),
    Row(
        check="driver-not-loaded",
        machines=("driver_module_not_loaded",),
        near_miss=as_on("healthy_cuda13", "kernel_driver"),
    ),
    Row(
        check="driver-not-installed",
        machines=("nouveau_instead_of_nvidia",),
        near_miss=with_fields(nvidia_pci=()),
    ),
    Row(
        check="driver-library-missing",
        machines=("driver_without_libcuda",),
        near_miss=_HEALTHY_LIBRARIES,
    ),
    Row(
        check="cuda-compat-library",
        machines=("compat_library_on_geforce",),
        near_miss=_HEALTHY_LIBRARIES,
    ),
    Row(
        check="uvm-missing",
        machines=("uvm_node_missing",),
        near_miss=as_on("healthy_cuda13", "device_nodes"),
    ),
    Row(
        check="container-without-gpu",
        machines=(
            "container_without_gpus",
            "container_devices_void",
        ),
        near_miss=as_on("healthy_cuda13", "device_nodes"),
    ),
    Row(
        check="container-capabilities",
        machines=("container_without_compute",),
        near_miss=with_variable("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"),
    ),
    Row(
        check="container-devices-void",
        machines=("container_devices_void",),
        near_miss=with_variable("NVIDIA_VISIBLE_DEVICES", "all"),
    ),
    Row(
        check="wsl-driver",
        machines=("wsl_with_linux_driver",),
        near_miss=with_fields(wsl=False),
    ),
    Row(
        check="gpu-hidden",
        machines=("gpu_hidden", "recorded_h200x2_gpu_hidden"),
        near_miss=with_variable("CUDA_VISIBLE_DEVICES", "0"),
    ),
    Row(
        check="gpu-ordinal",
        machines=("gpu_ordinal_past_the_last",),
        near_miss=with_variable("CUDA_VISIBLE_DEVICES", "0"),
    ),
    Row(
        check="mig-not-chosen",
        machines=("mig_without_a_name",),
        near_miss=with_variable("CUDA_VISIBLE_DEVICES", "MIG-4b1d0a9c"),
    ),
    Row(
        check="gpu-not-in-wheel",
        machines=(
            "b200_with_newest_wheel",
            "jetson_orin",
        ),
        near_miss=with_version("onnxruntime-gpu", "1.28.0"),
    ),
    Row(
        check="gpu-compiled-at-start",
        machines=(
            "ptx_compiled_at_start",
            "nvrtc_older_than_gpu",
            "ptx_newer_than_driver",
        ),
        near_miss=as_on("healthy_cuda12", "gpus"),
    ),
    Row(
        check="gpus-mixed",
        machines=("gpus_of_two_kinds",),
        near_miss=with_variable("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
    ),
    Row(
        check="fabric-manager",
        machines=("fabric_manager_stopped",),
        near_miss=with_gpus(fabric="completed"),
    ),
    Row(
        check="gpu-busy",
        machines=("gpu_held_by_another",),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="cudnn-too-new-for-gpu",
        machines=("pascal_with_new_cudnn",),
        near_miss=with_version("nvidia-cudnn-cu12", "9.10.2.21"),
    ),
    Row(
        check="jetson",
        machines=("jetson_orin",),
        near_miss=with_gpus(compute_capability=(12, 1)),
    ),
    Row(
        check="no-gpu",
        machines=(
            "laptop_without_gpu",
            "amd_laptop",
            "container_devices_void",
            "container_of_4gb",
            "container_without_gpus",
            "driver_module_not_loaded",
            "laptop_with_8gb",
            "nouveau_instead_of_nvidia",
            "runtime_crashes",
        ),
        near_miss=as_on("healthy_cuda13", "gpus"),
    ),
    Row(
        check="other-gpu",
        machines=("amd_laptop",),
        near_miss=as_on("healthy_cuda13", "gpus"),
    ),
    Row(
        check="library-missing",
        machines=(
            "cublas_missing",
            "cuda11_build_beside_cuda12",
            "cuda12_packages_with_newest_wheel",
            "cuda_extra_alone",
            "cuda_path_of_cuda12",
            "curand_missing",
            "executable_stack_on_debian13",
            "old_glibc",
            "toolkit12_with_cuda13_build",
            "wheel_copied_to_old_system",
        ),
        near_miss=_HEALTHY_LIBRARIES,
    ),
    Row(
        check="toolkit-other-major",
        machines=("toolkit12_with_cuda13_build",),
        near_miss=_HEALTHY_LIBRARIES,
    ),
    Row(
        check="cudnn-missing",
        machines=(
            "cudnn_missing",
            "cublas_missing",
            "cuda_extra_alone",
            "cuda_path_of_cuda12",
            "old_glibc",
            "wheel_copied_to_old_system",
        ),
        near_miss=_HEALTHY_LIBRARIES,
    ),
    Row(
        check="cudnn-wrong-major",
        machines=(
            "cudnn8_of_the_system",
            "cuda11_build_beside_cuda12",
            "executable_stack_on_debian13",
        ),
        near_miss=as_on("healthy_cuda12", "libraries"),
    ),
    Row(
        check="tensorrt-missing",
        machines=("tensorrt11_installed",),
        near_miss=_HEALTHY_LIBRARIES,
    ),
    Row(
        check="library-path-shadows",
        machines=("library_path_of_another_cuda",),
        near_miss=_HEALTHY_LIBRARIES,
    ),
    Row(
        check="session-loads-other-library",
        machines=("session_took_cudnn_of_the_system",),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="libraries-in-two-places",
        machines=(
            "cudnn_in_two_places",
            "recorded_h200x2_gpu_hidden",
            "recorded_h200x2_healthy",
            "recorded_h200x2_overwritten",
            "recorded_h200x2_shadowed",
            "session_took_cudnn_of_the_system",
        ),
        near_miss=_HEALTHY_LIBRARIES,
    ),
    Row(
        check="torch-loads-other-library",
        machines=("torch_with_cudnn_of_its_own",),
        near_miss=as_on("healthy_windows", "libraries"),
    ),
    Row(
        check="cuda-path-other-major",
        machines=("cuda_path_of_cuda12",),
        near_miss=with_variable("CUDA_PATH", r"C:\Program Files\NVIDIA GPU Computing Toolkit\CUDA\v13.0"),
    ),
    Row(
        check="libstdcxx",
        machines=("old_libstdcxx",),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="windows-runtime",
        machines=("windows_old_vc_runtime",),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="windows-missing-dll",
        machines=("windows_zlib_missing",),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="windows-old-dll",
        machines=("windows_dll_of_system32",),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="cpu-affinity",
        machines=("cpus_of_a_batch_job",),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="log-noise",
        machines=("machine_without_drm",),
        near_miss=_HEALTHY_PROBES,
    ),
    Row(
        check="torch-does-not-run",
        machines=("torch_does_not_import",),
        near_miss=as_on("healthy_cuda13", "torch_probe"),
    ),
    Row(
        check="torch-without-cuda",
        machines=("torch_sees_no_gpu",),
        near_miss=as_on("healthy_cuda13", "torch_probe"),
    ),
    Row(
        check="torch-other-cudnn",
        machines=("torch_runs_another_cudnn",),
        near_miss=as_on("healthy_cuda13", "torch_probe"),
    ),
    Row(
        check="gpu-memory-small",
        machines=("gpu_with_6gb",),
        near_miss=with_gpus(memory_bytes=12 * 2**30),
    ),
    Row(
        check="host-memory-small",
        machines=("laptop_with_8gb",),
        near_miss=with_fields(memory_bytes=32 * 2**30),
    ),
    Row(
        check="container-memory-limit",
        machines=("container_of_4gb",),
        near_miss=with_fields(container=Container(kind="docker", memory_limit_bytes=None, cpus=None)),
    ),
    Row(
        check="disk-space",
        machines=("disk_nearly_full",),
        near_miss=with_fields(disk_free_bytes=8_000_000_000),
    ),
    Row(
        check="install-space",
        machines=("temp_in_memory",),
        near_miss=with_fields(temp_free_bytes=2_000_000_000),
    ),
    Row(
        check="cpu-limit",
        machines=("container_of_4gb",),
        near_miss=with_fields(container=Container(kind="docker", memory_limit_bytes=None, cpus=4.0)),
    ),
    Row(
        check="own-kernels-not-built",
        machines=("own_kernels_not_built",),
        near_miss=as_on("healthy_cuda13", "own_kernels"),
    ),
    Row(
        check="own-kernels-outdated",
        machines=("own_kernels_outdated",),
        near_miss=as_on("healthy_cuda13", "own_kernels"),
    ),
    Row(
        check="own-kernels-gpu",
        machines=("volta_with_cuda12",),
        near_miss=with_gpus(compute_capability=(7, 5)),
    ),
    Row(
        check="own-kernels-nvrtc",
        machines=("nvrtc_missing",),
        near_miss=_HEALTHY_LIBRARIES,
    ),
    Row(
        check="own-kernels-nvrtc-too-old",
        machines=("nvrtc_older_than_gpu",),
        near_miss=with_gpus(compute_capability=(9, 0)),
    ),
    Row(
        check="own-kernels-cache",
        machines=("home_read_only",),
        near_miss=as_on("healthy_cuda13", "own_kernels"),
    ),
)
