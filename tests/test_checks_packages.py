"""What the checks of packages say and propose, beyond that they fire."""

from __future__ import annotations

from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

import pytest
from doctor_cases import MATRIX, adding, found_by, judge, load, settings, with_fields, with_version
from packaging.version import Version

from onnxsd.doctor import ByHand, Finding, Pip, Severity
from onnxsd.machine import (
    DamagedFile,
    Distribution,
    Library,
    Machine,
    Module,
    Origin,
    Problem,
    Unreadable,
    Variable,
)
from onnxsd.matrix import Goal

FITTING_CHECKS = (
    "numpy-abi",
    "protobuf-too-old",
    "onnx-parts",
    "optimum-does-not-fit",
    "transformers-does-not-fit",
    "diffusers-does-not-fit",
)


def only(check_id: str, seen: Machine, goal: Goal = Goal.GENERATE) -> Finding:
    """The one finding of a check."""
    (found,) = found_by(check_id, seen, goal)
    return found


def steps(found: Finding) -> str:
    """All that a finding asks a person to do."""
    by_hand = [remedy for remedy in found.remedies if isinstance(remedy, ByHand)]
    return " ".join(step for remedy in by_hand for step in (*remedy.steps, *remedy.commands))


def requirements(found: Finding) -> tuple[str, ...]:
    """All that a finding would install."""
    by_pip = [remedy for remedy in found.remedies if isinstance(remedy, Pip)]
    return tuple(item for remedy in by_pip for item in remedy.install)


def test_the_story_of_the_old_system_is_told() -> None:
    """glibc 2.26 gets 1.16.3, which is a CUDA 11 build, before anything is installed."""
    story = settings("os=linux", "arch=x86_64", "glibc=2.26", "python=3.10", "driver=535.104.05")
    cuda11 = only("ort-cuda11-build", story)

    assert "1.16.3 is a build for CUDA 11" in cuda11.summary
    assert "libcublasLt.so.11" in cuda11.because
    assert "cuDNN 8" in cuda11.because


def test_what_there_is_of_a_newer_cuda_is_named() -> None:
    found = only("ort-cuda11-build", load("cuda11_build_beside_cuda12"))

    assert found.severity is Severity.ERROR
    assert "nvidia-cublas-cu12 12.9.3.13" in found.evidence


def test_a_cuda_11_build_alone_is_no_error() -> None:
    found = only("ort-cuda11-build", load("old_glibc"))

    assert found.severity is Severity.WARNING
    assert "beside" not in found.summary


def test_why_nothing_newer_was_taken_is_computed() -> None:
    found = only("ort-held-back", load("python310_with_gpu"))

    assert "1.31.1 is the newest" in found.summary
    assert "cp310" in found.because
    assert "cp311" in steps(found)


def test_a_driver_is_no_reason_that_pip_knows() -> None:
    """pip does not look at the driver: an old one is not why an old release is here."""
    assert found_by("ort-held-back", load("healthy_cuda12")) == ()


def test_two_packages_in_one_folder_are_not_two_folders() -> None:
    together, apart = load("both_runtime_wheels"), load("shadowed_by_pythonpath")

    assert found_by("ort-two-wheels", together)
    assert not found_by("ort-shadowed", together)
    assert found_by("ort-shadowed", apart)
    assert not found_by("ort-two-wheels", apart)


def test_the_entry_of_pythonpath_is_named() -> None:
    found = only("ort-shadowed", load("shadowed_by_pythonpath"))

    assert "hides onnxruntime-gpu 1.31.1" in found.summary
    assert "take /home/user/libs out of PYTHONPATH" in steps(found)


def test_a_file_that_shadows_is_to_be_renamed() -> None:
    found = only("ort-shadowed", load("shadowed_by_a_file"))

    assert "/home/user/project/onnxruntime.py" in found.summary
    assert "rename" in steps(found)


def test_a_copy_of_the_gpu_package_that_wins_is_no_error() -> None:
    seen = load("shadowed_by_pythonpath")
    wins = Module(name="onnxruntime", path="/home/user/libs/onnxruntime/__init__.py", owner="onnxruntime-gpu")

    assert only("ort-shadowed", replace(seen, modules=(wins,))).severity is Severity.WARNING


def test_a_runtime_without_metadata_shadows_nothing() -> None:
    """One that was built from source, on PYTHONPATH, with no package installed."""
    built = replace(load("shadowed_by_a_file"), distributions=())

    assert found_by("ort-shadowed", built) == ()


def test_damaged_files_are_written_again_at_their_version() -> None:
    found = only("ort-files-damaged", load("files_missing"))
    (remedy,) = found.remedies

    assert "another package's: 3" in found.summary
    assert isinstance(remedy, Pip)
    assert remedy.overwrite == ("onnxruntime-gpu==1.31.1",)
    assert "--force-reinstall" in remedy.commands[0]


def test_many_damaged_files_are_counted_not_listed() -> None:
    seen = load("files_missing")
    lost = tuple(
        DamagedFile(distribution="onnxruntime-gpu", path=f"onnxruntime/{at}.py", problem=Problem.MISSING)
        for at in range(40)
    )
    found = only("ort-files-damaged", replace(seen, damaged=lost))

    assert "another package's: 40" in found.summary
    assert len(found.evidence) == 6
    assert "35 more" in found.evidence[-1]


def test_overwritten_files_are_evidence_of_two_packages() -> None:
    """With both installed the cause is known, so the damage is not a finding of its own."""
    altered = DamagedFile(
        distribution="onnxruntime-gpu", path="onnxruntime/__init__.py", problem=Problem.ALTERED
    )
    seen = replace(load("both_runtime_wheels"), damaged=(altered,))

    assert found_by("ort-files-damaged", seen) == ()
    found = only("ort-two-wheels", seen)
    assert any("onnxruntime/__init__.py" in line for line in found.evidence)
    assert "those there now are onnxruntime's" in found.because


def test_conda_removes_what_conda_installed() -> None:
    seen = load("conda_and_pip")

    said = steps(only("conda-pip-mix", seen))
    assert said.index("conda remove --force onnxruntime") < said.index("--force-reinstall")
    assert found_by("ort-two-wheels", seen) == ()


@pytest.mark.parametrize(
    "folder",
    [
        "/home/user/.local/lib/python3.12/site-packages",
        "/Users/user/Library/Python/3.12/lib/python/site-packages",
        "C:\\Users\\user\\AppData\\Roaming\\Python\\Python312\\site-packages",
    ],
)
def test_the_users_folder_is_known_on_each_system(folder: str) -> None:
    seen = load("conda_and_pip")
    moved = tuple(replace(one, location=folder) if one.name == "numpy" else one for one in seen.distributions)
    found = only("user-site-packages", replace(seen, distributions=moved))

    assert folder in found.evidence[0]


def test_all_in_the_users_folder_is_no_mixture() -> None:
    seen = load("conda_and_pip")
    folder = "/home/user/.local/lib/python3.12/site-packages"
    moved = tuple(replace(one, location=folder) for one in seen.distributions)

    assert found_by("user-site-packages", replace(seen, distributions=moved)) == ()


@pytest.mark.parametrize("package", ["torch", "onnxruntime-gpu"])
def test_packages_of_one_cuda_major_agree(package: str) -> None:
    seen = load("cuda12_packages_with_newest_wheel")
    agreeing = {"torch": "2.11.0", "onnxruntime-gpu": "1.26.0"}[package]

    assert found_by("torch-cuda-major", seen)
    assert found_by("torch-cuda-major", with_version(package, agreeing)(seen)) == ()


def test_a_toolkits_libraries_serve_as_well_as_packages() -> None:
    seen = load("cuda12_packages_with_newest_wheel")
    toolkit = Library(
        component="cublasLt",
        soname="libcublasLt.so.13",
        path="/usr/local/cuda-13.0/lib64/libcublasLt.so.13",
        version=None,
        origin=Origin.TOOLKIT,
        owner=None,
    )

    assert found_by("nvidia-packages-other-major", seen)
    served = replace(seen, libraries=(*seen.libraries, toolkit))
    assert found_by("nvidia-packages-other-major", served) == ()


def test_the_packages_that_an_extra_would_have_brought_are_named() -> None:
    found = only("nvidia-packages-incomplete", load("cuda_extra_alone"))

    assert "nvidia-cublas and nvidia-cudnn-cu13" in found.summary
    assert requirements(found) == ("onnxruntime-gpu[cuda,cudnn]==1.31.1",)


def test_a_release_without_extras_gets_its_packages_by_name() -> None:
    """1.18.0 has no extra; cuDNN is to be below 9."""
    seen = load("cuda11_build_beside_cuda12")
    partly = adding("nvidia-cublas-cu11", "11.11.3.6")(seen)

    wanted = requirements(only("nvidia-packages-incomplete", partly))
    assert "nvidia-cuda-runtime-cu11" in wanted
    assert "nvidia-cublas-cu11" not in wanted
    assert "nvidia-cudnn-cu11<9" in wanted


def test_a_torch_for_the_cpu_disagrees_with_nothing() -> None:
    seen = with_version("torch", "2.10.0+cpu")(load("cuda12_packages_with_newest_wheel"))

    assert found_by("torch-cuda-major", seen) == ()


def test_every_requirement_between_packages_is_looked_at_once() -> None:
    """A row of the matrix that no check reads would be dead knowledge, read twice it would nag."""
    rows = [row for row in MATRIX.fits if not row.other.startswith("tensorrt")]
    assert rows
    for row in rows:
        fitting = next(version for version in VERSIONS if version in row.versions)
        wrong = next(version for version in VERSIONS if version not in row.wants)
        seen = replace(
            load("healthy_cuda13"),
            distributions=(_package(row.package, fitting), _package(row.other, wrong)),
        )
        said = [
            finding.summary
            for check_id in FITTING_CHECKS
            for finding in found_by(check_id, seen)
            if f"{row.package} {fitting} wants {row.wants}" in finding.summary
        ]
        assert len(said) == 1, row


# Enough of them that each range of the matrix holds one, and each leaves one out.
VERSIONS = tuple(
    Version(text)
    for text in [
        "0.0.1",
        "0.1",
        "0.4",
        "0.6",
        "1.18",
        "1.19",
        "1.20",
        "1.22",
        "1.23.2",
        "1.26",
        "1.27",
        "1.31.1",
        "4.40",
        "4.57.6",
        "5.0.0",
        "5.23.0",
        "0.39.0",
        "0.40",
        "0.42.1",
        "9.9",
    ]
)


def _unreadable(fact: str) -> tuple[Unreadable, ...]:
    return (Unreadable(fact=fact, reason="permission denied"),)


def _package(name: str, version: Version) -> Distribution:
    return Distribution(name=name, version=version, provides=())


def test_what_to_install_is_what_the_row_wants() -> None:
    found = only("protobuf-too-old", load("companions_apart"))

    assert requirements(found) == ("protobuf>=4.25.8,>=6.31.1",)
    assert "3.20.3 is installed" in found.summary


@pytest.mark.parametrize(
    ("check_id", "asked"),
    [
        ("optimum-does-not-fit", ("optimum-onnx", "optimum")),
        ("transformers-does-not-fit", ("transformers", "huggingface-hub")),
        ("diffusers-does-not-fit", ("diffusers", "huggingface-hub")),
    ],
)
def test_pip_is_to_find_versions_that_fit_each_other(check_id: str, asked: tuple[str, ...]) -> None:
    """transformers 4 and diffusers 0.42 want different huggingface-hubs: no version of it serves both."""
    assert requirements(only(check_id, load("companions_apart"))) == asked


def test_numpy_stays_where_the_old_runtime_goes() -> None:
    """The plan for 1.18.0 replaces it by 1.26.0, which takes NumPy 2."""
    kept = requirements(only("numpy-abi", load("cuda11_build_beside_cuda12")))
    nothing_better = replace(load("cuda11_build_beside_cuda12"), driver=None, gpus=())

    assert "onnxruntime-gpu[cuda,cudnn]==1.26.0" in kept
    assert "numpy<2" not in kept
    assert requirements(only("numpy-abi", nothing_better)) == ("numpy<2",)


@pytest.mark.parametrize("name", ["alpine", "pypy_32_bit"])
def test_nothing_is_proposed_where_no_wheel_can_be_installed(name: str) -> None:
    for check_id in ("ort-missing", "run-packages", "no-wheel-serves"):
        found = only(check_id, load(name))
        assert requirements(found) == ()
        assert "onnxsd" not in steps(found)


def test_an_onnx_that_the_runtime_reads_is_no_matter() -> None:
    """Nor one whose default nobody uses: onnxsd writes a version of its own."""
    seen = load("companions_apart")
    alone = replace(
        seen, distributions=tuple(one for one in seen.distributions if one.name != "optimum-onnx")
    )

    assert "IR version 14" in only("onnx-newer-than-runtime", seen).summary
    assert found_by("onnx-newer-than-runtime", alone) == ()


def test_a_system_python_gets_a_venv_first() -> None:
    found = only("python-externally-managed", load("system_python"))

    assert "/usr/bin/python3" in found.summary
    assert "python3 -m venv .venv" in steps(found)


def test_a_system_python_in_which_all_is_there_is_a_remark() -> None:
    seen = adding("onnxruntime-gpu", "1.31.1", provides=("onnxruntime",))(load("system_python"))

    assert only("python-externally-managed", seen).severity is Severity.INFO


def test_free_threaded_linux_has_wheels() -> None:
    assert found_by("python-free-threaded", settings("python=3.13", "free_threaded=true")) == ()
    assert found_by("python-free-threaded", settings("python=3.15", "free_threaded=true"))


@pytest.mark.parametrize("musl", ["1.2", "1.1.24"])
def test_musl_is_one_finding_about_the_system(musl: str) -> None:
    seen = settings(f"musl={musl}", "gpu=A10G:8.6", "driver=580.95.05")
    ids = {finding.id for finding in judge(seen).findings}

    assert "musl-no-wheel" in ids
    assert "glibc-too-old" not in ids
    assert "odd-system" not in ids


def test_another_index_matters_where_another_release_is_installed() -> None:
    feed = Variable(name="PIP_EXTRA_INDEX_URL", value="set")
    healthy = replace(load("healthy_cuda13"), pip_index="configured", variables=(feed,))

    assert found_by("pip-other-index", healthy) == ()
    found = only("pip-other-index", load("cuda11_build_beside_cuda12"))
    assert "PIP_EXTRA_INDEX_URL is set" in found.evidence


def test_a_vanished_release_names_the_one_that_stayed() -> None:
    found = only("ort-vanished-release", load("vanished_release"))

    assert requirements(found) == ("onnxruntime-gpu==1.23.2",)
    assert found_by("ort-release-unknown", load("vanished_release")) == ()


def test_for_an_export_the_gpu_is_no_obstacle() -> None:
    seen = load("directml_with_nvidia_gpu")

    assert only("ort-other-build", seen).severity is Severity.ERROR
    assert only("ort-other-build", seen, Goal.EXPORT).severity is Severity.INFO


def test_a_package_index_that_could_not_be_read_is_unknown() -> None:
    seen = with_fields(unreadable=_unreadable("pip_index"))(load("healthy_cuda13"))

    assert only("pip-other-index", seen).severity is Severity.UNKNOWN


def test_run_packages_asks_for_what_the_run_extra_asks_for() -> None:
    setup = ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    wanted = setup["options.extras_require"]["run"].split()

    assert [f"{row.name}>={row.minimum}" for row in MATRIX.requirements] == wanted
