"""What the checks of driver, GPU, libraries, container, probes and room say, beyond whether they fire."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doctor_cases import found_by, load, settings, with_fields, with_variable
from packaging.version import Version

from onnxsd.doctor import Finding, Severity
from onnxsd.doctor.checks.reference import _cudnn_version
from onnxsd.doctor.checks.visible import visible
from onnxsd.doctor.native_log import cuda_failure, missing_library, reason_in
from onnxsd.machine import Container, Gpu, Machine, Origin, Outcome, Provider
from onnxsd.matrix import Goal
from onnxsd.records import Dotted

LINUX_LOG = (
    "[E:onnxruntime:Default, provider_bridge_ort.cc:2445 TryGetProviderInfo_CUDA] Failed to load library "
    "libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: "
    "No such file or directory"
)
WINDOWS_LOG = (
    'Error loading "C:\\venv\\onnxruntime_providers_cuda.dll" which depends on "cublasLt64_12.dll" which is '
    'missing. (Error 126: "The specified module could not be found.")'
)


def only(check_id: str, seen: Machine, goal: Goal = Goal.GENERATE) -> Finding:
    """The one finding of a check."""
    (finding,) = found_by(check_id, seen, goal)
    return finding


def saying(seen: Machine, message: str) -> Machine:
    """The machine with a session on CUDA that was refused with this message."""
    probes = tuple(
        replace(one, outcome=Outcome.REFUSED, message=message) if one.provider is Provider.CUDA else one
        for one in seen.probes or ()
    )
    return replace(seen, probes=probes)


def loading(seen: Machine, origin: Origin) -> Machine:
    """The machine whose session on CUDA had loaded the copies of one origin."""
    paths = tuple(one.path for one in seen.libraries if one.origin is origin)
    probes = tuple(
        replace(one, loaded=paths) if one.provider is Provider.CUDA else one for one in seen.probes or ()
    )
    return replace(seen, probes=probes)


def test_an_old_pip_stops_nothing_where_a_session_runs() -> None:
    old = with_fields(pip=Version("19.3"))(load("healthy_cuda13"))

    assert only("pip-too-old", old).severity is Severity.WARNING
    assert only("pip-too-old", replace(old, probes=None)).severity is Severity.ERROR


@pytest.mark.parametrize(
    ("value", "gpus", "taken", "stopped_at"),
    [
        ("0", 1, ("0",), None),
        ("0, 1", 2, ("0", "1"), None),
        ("", 2, (), ""),
        ("-1", 2, (), "-1"),
        ("cuda:0", 2, (), "cuda:0"),
        ("all", 2, (), "all"),
        ("2", 2, (), "2"),
        ("0,-1,1", 2, ("0",), "-1"),
        ("1,0,5", 2, ("1", "0"), "5"),
        ("GPU-8932f937,MIG-1d0a", 1, ("GPU-8932f937", "MIG-1d0a"), None),
    ],
)
def test_cuda_stops_at_the_first_entry_that_names_no_device(
    value: str, gpus: int, taken: tuple[str, ...], stopped_at: str | None
) -> None:
    seen = visible(value, gpus=gpus)

    assert (seen.taken, seen.stopped_at) == (taken, stopped_at)


@pytest.mark.parametrize(
    ("text", "library"),
    [
        (LINUX_LOG, "libcublasLt.so.13"),
        (WINDOWS_LOG, "cublasLt64_12.dll"),
        ("ImportError: libcudart.so.13: cannot open shared object file", "libcudart.so.13"),
        ('LoadLibrary failed with error 126 "" when trying to load "onnxruntime_providers_cuda.dll"', None),
    ],
)
def test_the_missing_library_is_read_from_the_log(text: str, library: str | None) -> None:
    assert missing_library(text) == library


def test_cudas_error_is_read_with_its_number_and_its_words() -> None:
    found = cuda_failure("RuntimeError: CUDA failure 100: no CUDA-capable device is detected ; GPU=-1")

    assert found is not None
    assert (found.number, found.words) == (100, "no CUDA-capable device is detected")
    assert "hidden" in found.meaning


def test_an_error_that_is_not_on_record_keeps_its_own_words() -> None:
    assert reason_in("CUDA failure 719: unspecified launch failure ; GPU=0") == (
        "CUDA error 719: unspecified launch failure"
    )
    assert reason_in("something else went wrong") is None


def test_the_reason_of_a_session_that_was_refused_comes_from_its_log() -> None:
    finding = only("cuda-does-not-run", load("cublas_missing"))

    assert finding.because.startswith("libcublasLt.so.13 is not found")
    assert any("Failed to load library" in line for line in finding.evidence)


def test_a_refusal_without_a_known_reason_is_shown_as_it_is() -> None:
    finding = only("cuda-does-not-run", saying(load("healthy_cuda13"), "RuntimeError: out of luck"))

    assert finding.because == "RuntimeError: out of luck"


def test_the_end_of_a_process_is_told_with_its_meaning() -> None:
    finding = only("ort-does-not-run", load("runtime_crashes"))

    assert finding.because == "ended by signal 4: an instruction that this processor does not have"
    assert (
        reason_in("ended with exit code 3221225781") == "ended with exit code 3221225781: a DLL was not found"
    )
    assert reason_in("ended with exit code 3") is None


def test_a_known_symptom_is_told_with_its_cause() -> None:
    message = "AttributeError: _ARRAY_API not found; A module that was compiled using NumPy 1.x cannot be run"
    failed = replace((load("healthy_cuda13").probes or ())[0], outcome=Outcome.IMPORT_FAILED, message=message)
    finding = only("ort-does-not-run", replace(load("healthy_cuda13"), probes=(failed,)))

    assert "NumPy 1" in finding.because
    assert finding.because != message
    assert message in finding.evidence


@pytest.mark.parametrize(
    ("name", "uninstalls", "installs"),
    [
        ("gpu_hidden", False, None),
        ("fabric_manager_stopped", False, None),
        ("driver_without_libcuda", False, None),
        ("cublas_missing", False, "onnxruntime-gpu[cuda,cudnn]==1.31.1"),
        ("old_driver_550", True, "onnxruntime-gpu[cuda,cudnn]==1.26.0"),
    ],
)
def test_packages_are_offered_only_where_they_help(name: str, uninstalls: bool, installs: str | None) -> None:
    remedies = only("cuda-does-not-run", load(name)).remedies
    commands = [line for remedy in remedies for line in remedy.commands]

    assert any("uninstall" in line for line in commands) is uninstalls
    assert (installs in commands[-1]) if installs else not commands


@pytest.mark.parametrize("name", ["old_libstdcxx", "windows_old_vc_runtime", "windows_dll_of_system32"])
def test_what_no_package_mends_is_not_reinstalled(name: str) -> None:
    assert only("ort-does-not-run", load(name)).remedies == ()


def test_a_driver_that_no_build_serves_is_to_be_updated_and_nothing_is_removed() -> None:
    (remedy,) = only("driver-too-old-for-ptx", load("ptx_newer_than_driver")).remedies

    assert "update the NVIDIA driver" in str(remedy.to_json())


def test_an_export_is_not_stopped_by_what_stops_images() -> None:
    for check_id, name in (
        ("cuda-does-not-run", "cublas_missing"),
        ("library-missing", "cublas_missing"),
        ("gpu-hidden", "gpu_hidden"),
        ("fabric-manager", "fabric_manager_stopped"),
    ):
        assert only(check_id, load(name)).severity is Severity.ERROR
        assert only(check_id, load(name), Goal.EXPORT).severity is Severity.INFO


def test_every_missing_library_is_named_with_what_brings_it() -> None:
    finding = only("library-missing", load("toolkit12_with_cuda13_build"))
    evidence = "\n".join(finding.evidence)

    assert "libcublasLt.so.13" in finding.summary
    assert "libcublas.so.13" in finding.summary
    assert "libcublasLt.so.13 comes with nvidia-cublas" in evidence
    assert "does not serve: /usr/local/cuda-12.8/lib64/libcublasLt.so.12" in evidence
    assert "onnxruntime-gpu[cuda,cudnn]==1.31.1" in str(finding.remedies[0].commands)


def test_a_session_that_ran_outweighs_a_search_that_found_nothing() -> None:
    ran = replace(load("healthy_cuda13"), libraries=())

    assert found_by("library-missing", ran) == ()
    assert found_by("cudnn-missing", ran) == ()
    assert only("library-missing", replace(ran, probes=None)).severity is Severity.ERROR


def test_cudnn_that_is_optional_to_load_is_still_needed() -> None:
    newest = only("cudnn-missing", load("cudnn_missing"))
    older = only("cudnn-missing", replace(load("healthy_cuda12"), libraries=(), probes=None))

    assert "first convolution fails" in newest.because
    assert "does not load" in older.because


@pytest.mark.parametrize(("number", "version"), [(91900, "9.19.0"), (92801, "9.28.1"), (8902, "8.9.2")])
def test_cudnns_number_is_read_as_a_version(number: int, version: str) -> None:
    assert str(_cudnn_version(number)) == version


def test_a_driver_that_refuses_ptx_is_found_by_cudas_words_alone() -> None:
    text = "CUDA failure 222: the provided PTX was compiled with an unsupported toolchain. ; GPU=0"
    finding = only("driver-too-old-for-ptx", saying(load("ptx_compiled_at_start"), text))

    assert finding.severity is Severity.ERROR
    assert "CUDA error 222" in " ".join(finding.evidence)


def test_a_gpu_without_a_driver_stops_only_who_installed_a_runtime_for_it() -> None:
    cpu_build = load("nouveau_instead_of_nvidia")
    gpu_build = replace(load("healthy_cuda13"), nvidia_pci=("10de:2684",), gpus=(), libraries=())

    assert only("driver-not-installed", cpu_build).severity is Severity.WARNING
    assert only("driver-not-installed", replace(gpu_build, kernel_driver=None)).severity is Severity.ERROR


def test_a_driver_that_was_set_has_its_library() -> None:
    seen = settings("driver=580.95.05", "gpu=A10G:8.6", "glibc=2.36")

    assert found_by("driver-library-missing", replace(seen, libraries=())) == ()


def test_a_compatibility_library_is_trusted_in_a_data_centre_until_a_session_fails() -> None:
    geforce = load("compat_library_on_geforce")
    h200 = replace(geforce, gpus=load("healthy_cuda13").gpus)

    assert found_by("cuda-compat-library", replace(h200, probes=None)) == ()
    assert only("cuda-compat-library", h200).severity is Severity.ERROR
    assert only("cuda-compat-library", replace(geforce, probes=None)).severity is Severity.WARNING


def test_a_node_that_the_first_program_makes_is_a_remark_until_one_failed() -> None:
    sick = load("uvm_node_missing")

    assert only("uvm-missing", sick).severity is Severity.ERROR
    assert only("uvm-missing", replace(sick, probes=None)).severity is Severity.INFO
    assert only("uvm-missing", saying(sick, LINUX_LOG)).severity is Severity.INFO  # CUDA was never asked


def test_other_libraries_on_the_path_are_an_error_only_where_the_session_failed() -> None:
    runs = load("library_path_of_another_cuda")

    assert only("library-path-shadows", runs).severity is Severity.WARNING
    assert only("library-path-shadows", replace(runs, probes=None)).severity is Severity.WARNING
    assert only("library-path-shadows", loading(runs, Origin.PIP)).severity is Severity.INFO
    assert only("library-path-shadows", loading(runs, Origin.LD_LIBRARY_PATH)).severity is Severity.WARNING
    assert only("library-path-shadows", saying(runs, LINUX_LOG)).severity is Severity.ERROR


def test_the_rest_of_the_library_path_is_kept() -> None:
    path = with_variable("LD_LIBRARY_PATH", "/usr/lib64-nvidia:/opt/cuda-13.0/lib64/")
    (remedy,) = only("library-path-shadows", path(load("library_path_of_another_cuda"))).remedies

    assert remedy.commands == ("export LD_LIBRARY_PATH=/usr/lib64-nvidia",)


def test_a_library_that_is_missing_in_a_container_is_asked_for_where_it_starts() -> None:
    sick = load("driver_without_libcuda")
    inside = replace(sick, container=Container(kind="docker", memory_limit_bytes=None, cpus=None))

    assert "libnvidia-compute" in str(only("driver-library-missing", sick).remedies)
    assert "NVIDIA_DRIVER_CAPABILITIES" in str(only("driver-library-missing", inside).remedies)
    # One fault is told once: the capability explains the library.
    named = with_variable("NVIDIA_DRIVER_CAPABILITIES", "video")(inside)
    assert found_by("driver-library-missing", named) == ()
    assert found_by("container-capabilities", named)


def test_wsl_without_any_libcuda_wants_windows_driver() -> None:
    seen = replace(load("wsl_with_linux_driver"), libraries=())

    assert "wsl --shutdown" in str(only("wsl-driver", seen).remedies)


def test_a_container_without_gpu_names_the_hosts_driver() -> None:
    finding = only("container-without-gpu", load("container_without_gpus"))

    assert "580.159.03" in finding.because
    assert "docker run --gpus all" in str(finding.remedies[0].to_json())


def test_a_container_with_nothing_of_nvidia_is_no_fault() -> None:
    seen = replace(
        load("laptop_without_gpu"),
        container=Container(kind="docker", memory_limit_bytes=None, cpus=None),
    )

    assert found_by("container-without-gpu", seen) == ()
    assert found_by("container-without-gpu", replace(seen, kernel_driver=Dotted.parse("580.95.05")))


def test_one_instance_that_a_container_was_given_needs_no_name() -> None:
    sick = load("mig_without_a_name")
    given = with_variable("NVIDIA_VISIBLE_DEVICES", "MIG-4b1d0a9c")(sick)

    assert found_by("mig-not-chosen", given) == ()
    failing = saying(sick, "RuntimeError: CUDA failure 100: no CUDA-capable device is detected")
    assert only("mig-not-chosen", failing).severity is Severity.ERROR


def test_the_larger_of_two_gpus_decides_about_memory() -> None:
    small = load("gpu_with_6gb")
    both = (*small.gpus, *load("healthy_cuda13").gpus)

    assert "SDXL" in only("gpu-memory-small", small).summary
    assert found_by("gpu-memory-small", replace(small, gpus=both)) == ()
    assert found_by("gpu-memory-small", small, Goal.EXPORT) == ()


def test_a_gpu_that_shares_the_machines_memory_is_not_judged_by_its_own() -> None:
    shared = Gpu(name="NVIDIA GB10", memory_bytes=None, compute_capability=(12, 1))

    assert found_by("gpu-memory-small", replace(load("gpu_with_6gb"), gpus=(shared,))) == ()


@pytest.mark.parametrize(
    ("free_bytes", "goal", "severity", "named"),
    [
        (8_000_000_000, Goal.GENERATE, None, ()),
        (8_000_000_000, Goal.EXPORT, Severity.WARNING, ("SDXL",)),
        (3_000_000_000, Goal.GENERATE, Severity.INFO, ("SDXL",)),
        (3_000_000_000, Goal.EXPORT, Severity.WARNING, ("SDXL", "Stable Diffusion 1.5")),
        (14_000_000_000, Goal.EXPORT, None, ()),
    ],
)
def test_an_export_needs_room_for_the_checkpoint_and_for_the_folder(
    free_bytes: int, goal: Goal, severity: Severity | None, named: tuple[str, ...]
) -> None:
    found = found_by("disk-space", replace(load("healthy_cuda13"), disk_free_bytes=free_bytes), goal)

    assert [finding.severity for finding in found] == ([severity] if severity else [])
    assert all(name in finding.summary for finding in found for name in named)


def test_uvs_cache_is_looked_at_where_uv_is_there() -> None:
    sick = replace(load("temp_in_memory"), temp_free_bytes=None, cache_free_bytes=100_000_000)

    assert found_by("install-space", sick) == ()
    with_uv = replace(sick, uv=sick.pip)
    assert "UV_CACHE_DIR" in str(only("install-space", with_uv).remedies)


def test_copies_that_a_session_ran_beside_are_a_remark() -> None:
    sick = load("cudnn_in_two_places")

    assert only("libraries-in-two-places", sick).severity is Severity.INFO
    assert only("libraries-in-two-places", replace(sick, probes=None)).severity is Severity.WARNING


def test_versions_are_compared_as_far_as_both_are_known() -> None:
    sick = load("cudnn_in_two_places")

    def outside(version: str) -> Machine:
        libraries = tuple(
            replace(one, version=Dotted.parse(version)) if one.path.startswith("/usr/lib") else one
            for one in sick.libraries
        )
        return replace(sick, libraries=libraries)

    assert found_by("libraries-in-two-places", outside("9")) == ()
    assert found_by("libraries-in-two-places", outside("9.28.0")) == ()
    assert found_by("libraries-in-two-places", outside("9.28.1"))


def test_a_hang_says_that_the_next_start_may_be_fast() -> None:
    finding = only("cuda-hangs", load("cuda_session_hangs"))

    assert "run the doctor again" in str(finding.remedies)
    assert found_by("cuda-does-not-run", load("cuda_session_hangs")) == ()


def test_one_nan_from_the_gpu_is_a_disagreement() -> None:
    sick = load("gpu_and_cpu_disagree")
    probes = tuple(
        replace(one, outputs=(*one.outputs[:-1], float("nan"))) if one.provider is Provider.CUDA else one
        for one in sick.probes or ()
    )

    assert found_by("cuda-differs-from-cpu", replace(sick, probes=probes))


def test_other_gpus_name_the_package_that_serves_them_on_this_system() -> None:
    finding = only("other-gpu", load("amd_laptop"))

    assert "onnxruntime-migraphx" in finding.because
    assert "onnxruntime-directml" not in finding.because
