"""Which release is recommended for a machine, and why nothing newer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doctor_cases import MATRIX, findings_of, judge, load, settings, with_python

from onnxsd.doctor import ByHand, Recommendation, Severity, recommend
from onnxsd.doctor.gpu_code import Coverage, coverage
from onnxsd.machine import Gpu, Library, Machine, TorchProbe
from onnxsd.machine.facts import Origin, Outcome
from onnxsd.matrix import Goal, Wheel
from onnxsd.records import Dotted

STORY = ("glibc=2.26", "python=3.10", "driver=535.104.05", "gpu=A10G:8.6")


def best_for(seen: Machine) -> Recommendation:
    """What is recommended for images, where something is."""
    best = recommend(seen, MATRIX, Goal.GENERATE)
    assert best is not None
    return best


@pytest.mark.parametrize(
    ("changes", "version", "suffices"),
    [
        (("glibc=2.26", "python=3.10", "driver=535.104.05", "gpu=A10G:8.6"), "1.16.3", False),
        (("glibc=2.35", "python=3.10", "driver=535.104.05", "gpu=A10G:8.6"), "1.23.2", False),
        (("glibc=2.35", "python=3.12", "driver=550.54.15", "gpu=A10G:8.6"), "1.26.0", True),
        (("glibc=2.27", "python=3.12", "driver=580.95.05", "gpu=A10G:8.6"), "1.28.0", True),
        (("glibc=2.39", "python=3.12", "driver=580.95.05", "gpu=A10G:8.6"), "1.31.1", True),
        (("glibc=2.39", "python=3.12", "driver=580.95.05", "gpu=B200:10.0"), "1.28.0", True),
        (("glibc=2.39", "python=3.12", "driver=580.95.05", "gpu=B300:10.3"), "1.26.0", True),
        (("glibc=2.39", "python=3.12", "driver=580.95.05", "gpu=RTX 5090:12.0"), "1.31.1", True),
        (("glibc=2.39", "python=3.12", "driver=580.95.05", "gpu=V100:7.0"), "1.26.0", True),
        (("glibc=2.39", "python=3.12", "driver=580.95.05", "gpu=M40:5.2"), "1.20.2", False),
        (("glibc=2.39", "python=3.12", "driver=470.82.01", "gpu=A100:8.0"), "1.18.1", False),
        (("os=windows", "python=3.12", "driver=580.88", "gpu=H100:9.0"), "1.28.0", True),
        (("os=windows", "python=3.12", "driver=552.22", "gpu=A100:8.0"), "1.20.2", False),
        (("arch=aarch64", "glibc=2.39", "python=3.12", "driver=580.95.05", "gpu=GB10:12.1"), "1.31.1", True),
        (("python=3.13", "free_threaded=true", "driver=580.95.05", "gpu=H100:9.0"), "1.31.1", True),
    ],
)
def test_what_is_recommended(changes: tuple[str, ...], version: str, suffices: bool) -> None:
    """The facts' own table of GPU, driver, Python and glibc (read from the wheels), row by row."""
    best = judge(settings(*changes)).recommendation

    assert best is not None
    assert (str(best.version), best.suffices) == (version, suffices)


@pytest.mark.parametrize(
    "changes",
    [
        ("os=macos", "arch=aarch64", "gpu=X:9.0", "driver=580.95.05"),
        ("musl=1.2", "gpu=A10G:8.6", "driver=580.95.05"),
        ("arch=aarch64", "glibc=2.31", "python=3.12", "gpu=GB10:12.1", "driver=580.95.05"),
        ("python=3.15", "gpu=A10G:8.6", "driver=580.95.05"),
        ("os=windows", "python=3.13", "free_threaded=true", "gpu=A10G:8.6", "driver=580.88"),
        ("gpu=GTX 750:5.0", "driver=580.95.05", "python=3.12"),
        ("gpu=A100:8.0", "driver=418.40", "python=3.8"),
    ],
)
def test_nothing_is_recommended_where_nothing_fits(changes: tuple[str, ...]) -> None:
    diagnosis = judge(settings(*changes))

    assert diagnosis.recommendation is None
    assert findings_of(diagnosis, "no-wheel-serves")[0].severity is Severity.ERROR


def test_each_newer_release_is_passed_over_for_a_computed_reason() -> None:
    best = judge(settings("glibc=2.26", "python=3.12", "driver=550.54.15", "gpu=A10G:8.6")).recommendation
    assert best is None

    best = judge(settings("glibc=2.35", "python=3.12", "driver=550.54.15")).recommendation
    assert best is not None
    plain = {row["version"]: row for row in best.to_json()["rejected"]}

    assert list(plain) == ["1.31.1", "1.31.0", "1.30.0", "1.29.0", "1.28.0", "1.27.0"]
    assert plain["1.31.1"]["reason"] == "it is built for CUDA 13, and driver 550.54.15 is below 580.65.06"
    assert plain["1.31.1"]["would_need"].startswith("NVIDIA driver 580.65.06 or newer")
    assert "nvidia-cuda-nvrtc-cu13" in plain["1.27.0"]["reason"]


def test_libraries_are_named_where_no_extra_brings_them() -> None:
    volta = judge(settings("python=3.12", "driver=535.183.01", "gpu=V100:7.0")).recommendation
    old = judge(settings("python=3.11", "driver=470.82.01", "gpu=A100:8.0")).recommendation

    assert volta is not None
    assert volta.to_json()["companions"] == {"nvidia-cudnn-cu12": "<9.11"}
    assert old is not None
    assert "'nvidia-cudnn-cu11<9'" in old.commands[-1]
    assert old.extras == ()


@pytest.mark.parametrize(
    ("sass", "ptx", "capability", "expected"),
    [
        (("80", "86"), (), (8, 9), Coverage.MACHINE_CODE),
        (("86",), (), (8, 0), Coverage.NONE),
        (("90a",), (), (9, 0), Coverage.MACHINE_CODE),
        (("120a",), (), (12, 1), Coverage.NONE),
        (("80",), ("80",), (9, 0), Coverage.COMPILED_AT_START),
        (("80",), ("90a",), (10, 0), Coverage.NONE),
        (("80",), (), (9, 0), Coverage.NONE),
        (None, None, (9, 0), Coverage.UNREAD),
    ],
)
def test_gpu_code(
    sass: tuple[str, ...] | None,
    ptx: tuple[str, ...] | None,
    capability: tuple[int, int],
    expected: Coverage,
) -> None:
    wheel = Wheel(platform="linux_x86_64", tags=("t",), abis=("a",), sass=sass, ptx=ptx, evidence="")
    gpu = Gpu(name="g", memory_bytes=None, compute_capability=capability)

    assert coverage(wheel, gpu) is expected


def test_the_storys_machine_gets_an_old_release_that_is_not_enough() -> None:
    diagnosis = judge(settings("os=linux", "arch=x86_64", *STORY))
    best = diagnosis.recommendation
    assert best is not None
    plain = best.to_json()

    assert (plain["version"], plain["suffices"]) == ("1.16.3", False)
    assert plain["wheel_tag"] == "cp310-cp310-manylinux_2_17_x86_64"
    assert plain["companions"]["nvidia-cudnn-cu11"] == "<9"
    assert diagnosis.exit_code() == 1
    (finding,) = findings_of(diagnosis, "no-wheel-serves")
    assert "1.28 (CUDA 13) or 1.24 (CUDA 12)" in finding.summary


def test_the_story_says_of_every_newer_release_what_this_machine_lacks() -> None:
    best = best_for(settings(*STORY))
    newer = [release for release in MATRIX.releases if release.version > best.version]
    plain = {one["version"]: one for one in best.to_json()["rejected"]}

    assert list(plain) == [str(release.version) for release in newer]
    for release in newer:
        wheel = release.wheel_for("linux_x86_64")
        assert wheel is not None
        row = plain[str(release.version)]
        assert f"its wheels are {', '.join(wheel.tags)}, and this system has glibc 2.26" in row["reason"]
        assert "a system with glibc 2.2" in row["would_need"]
        assert ("this Python 3.10 is cp310" in row["reason"]) == ("cp310" not in wheel.abis)


def test_the_story_says_what_a_build_for_cuda_11_means_beside_cuda_12() -> None:
    library = Library(
        component="cublasLt",
        soname="libcublasLt.so.12",
        path="/usr/local/cuda/lib64/libcublasLt.so.12",
        version=Dotted.parse("12.2"),
        origin=Origin.TOOLKIT,
        owner=None,
    )
    best = best_for(replace(settings(*STORY), libraries=(library,)))
    remark = best.remarks[0]

    assert "1.16.3 is a build for CUDA 11 and cuDNN 8" in remark
    assert "Libraries of CUDA 12, which this driver also runs, do not serve it" in remark
    assert "libcublasLt.so.12" in remark
    assert "falls back to the CPU without an error" in remark


def test_the_story_says_which_system_and_which_container_would_give_more() -> None:
    best = best_for(settings(*STORY))
    ways = {str(way.version): way for way in best.ways}

    assert list(ways) == ["1.23.2", "1.26.0"]
    assert ways["1.23.2"].change.startswith("a system with glibc 2.27 or newer (Ubuntu 18.04")
    assert not ways["1.23.2"].suffices
    assert ways["1.26.0"].change.startswith("the container image python:3.")
    assert ways["1.26.0"].suffices
    assert best.container is not None
    assert str(best.container.version) == "1.26.0"


def test_a_way_holds_on_the_machine_that_it_describes() -> None:
    """What a way promises is what the machine gets when it is judged with that change."""
    ways = {way.change: way for way in best_for(settings("python=3.10", "gpu=A10G:8.6")).ways}
    python = next(way for change, way in ways.items() if change.startswith("Python 3."))
    changed = settings(f"python={python.change.removeprefix('Python ')}", "gpu=A10G:8.6")

    assert best_for(changed).version == python.version
    assert best_for(changed).suffices == python.suffices is True


def test_a_new_driver_is_a_way_where_the_driver_is_the_obstacle() -> None:
    best = best_for(settings("python=3.12", "driver=470.82.01", "gpu=A100:8.0"))
    changes = {way.change: str(way.version) for way in best.ways if way.suffices}

    assert changes["NVIDIA driver 580.65.06 or newer"] == "1.31.1"
    assert best.container is None  # no system would help


@pytest.mark.parametrize(
    ("capability", "cuda12", "newest"),
    [
        ("5.2", "1.20.2", "1.20.2"),
        ("6.0", "1.26.0", "1.26.0"),
        ("6.1", "1.26.0", "1.26.0"),
        ("7.0", "1.26.0", "1.26.0"),
        ("7.5", "1.26.0", "1.31.1"),
        ("8.0", "1.26.0", "1.31.1"),
        ("8.6", "1.26.0", "1.31.1"),
        ("8.9", "1.26.0", "1.31.1"),
        ("9.0", "1.26.0", "1.31.1"),
        ("10.0", "1.26.0", "1.28.0"),
        ("10.3", "1.26.0", "1.26.0"),
        ("12.0", "1.26.0", "1.31.1"),
    ],
)
def test_the_newest_release_with_code_for_a_gpu(capability: str, cuda12: str, newest: str) -> None:
    """Fatbins of the Linux wheels: the newest of CUDA 12 (driver 570) and of all (driver 590)."""
    of_cuda12 = best_for(settings("python=3.12", "driver=570.86.10", f"gpu=A GPU:{capability}"))
    of_all = best_for(settings("python=3.12", "driver=590.44.01", f"gpu=A GPU:{capability}"))

    assert (str(of_cuda12.version), str(of_all.version)) == (cuda12, newest)


@pytest.mark.parametrize(
    ("capability", "cuda12", "newest"),
    [
        ("5.2", "1.26.0", "1.26.0"),
        ("6.0", "1.20.2", "1.20.2"),
        ("7.0", "1.20.2", "1.20.2"),
        ("8.0", "1.20.2", "1.31.1"),
        ("9.0", "1.26.0", "1.28.0"),
        ("10.0", "1.26.0", "1.28.0"),
        ("12.0", "1.26.0", "1.31.1"),
    ],
)
def test_the_newest_release_with_code_for_a_gpu_on_windows(capability: str, cuda12: str, newest: str) -> None:
    """Fatbins of the Windows wheels, which hold other GPUs than the Linux ones."""
    windows = ("os=windows", "python=3.12", f"gpu=A GPU:{capability}")
    of_cuda12 = recommend(settings("driver=571.96", *windows), MATRIX, Goal.GENERATE, feeds=False)
    of_all = recommend(settings("driver=591.44", *windows), MATRIX, Goal.GENERATE, feeds=False)

    assert of_cuda12 is not None
    assert of_all is not None
    assert (str(of_cuda12.version), str(of_all.version)) == (cuda12, newest)


def test_ptx_is_remarked_on() -> None:
    best = best_for(settings("python=3.12", "driver=580.95.05", "gpu=B300:10.3"))

    assert any("PTX and no machine code for B300 (compute capability 10.3)" in one for one in best.remarks)


def test_ptx_needs_a_driver_as_new_as_its_toolkit() -> None:
    """1.26.0 has PTX of CUDA 12.8 for a B200; driver 550 offers 12.4 and takes 1.23.2's, of 12.2."""
    best = best_for(settings("python=3.12", "driver=550.54.15", "gpu=B200:10.0"))
    plain = {one["version"]: one for one in best.to_json()["rejected"]}

    assert str(best.version) == "1.23.2"
    assert "only PTX of CUDA 12.8" in plain["1.26.0"]["reason"]


def test_torch_of_another_cuda_is_replaced_by_one_of_the_same() -> None:
    seen = settings("python=3.12", "driver=580.95.05", "package=torch==2.10.0")
    older = settings("python=3.12", "driver=550.54.15", "package=torch==2.13.0")

    assert best_for(seen).companions == ("torch>=2.11",)
    assert best_for(older).companions == ("torch>=2.4,<2.11",)


@pytest.mark.parametrize("torch", ["2.13.0", "2.14.1", "2.10.0+cpu", "2.10.0+cu130"])
def test_torch_that_shares_the_cuda_or_has_none_stays(torch: str) -> None:
    assert best_for(settings("python=3.12", "driver=580.95.05", f"package=torch=={torch}")).companions == ()


def test_what_torch_says_of_itself_counts_more_than_its_version() -> None:
    seen = settings("python=3.12", "driver=580.95.05", "package=torch==2.10.0")
    probe = TorchProbe(
        outcome=Outcome.RAN,
        version="2.10.0",
        cuda="13.0",
        cudnn=91900,
        cuda_available=True,
        message="",
        native_log="",
    )

    assert best_for(replace(seen, torch_probe=probe)).companions == ()


def test_both_cudnn_majors_are_found_and_removed() -> None:
    diagnosis = judge(load("two_cudnn_majors"))
    best = diagnosis.recommendation

    assert findings_of(diagnosis, "cudnn-two-majors")
    assert best is not None
    assert set(best.remedy.uninstall) == {"nvidia-cudnn-cu12", "nvidia-cudnn-cu13"}
    assert best.companions == ("torch>=2.11",)


def test_cudnn_of_the_releases_own_major_stays_and_another_goes() -> None:
    assert best_for(load("healthy_cuda13")).remedy.uninstall == ()
    assert best_for(load("healthy_cuda12")).remedy.uninstall == ()
    assert best_for(load("cuda12_packages_with_newest_wheel")).remedy.uninstall == ("nvidia-cudnn-cu12",)


@pytest.mark.parametrize(("driver", "version"), [("528.33", "1.26.0"), ("527.41", "1.18.1")])
def test_wsl_is_judged_by_the_driver_of_windows(driver: str, version: str) -> None:
    seen = settings("python=3.12", f"driver={driver}", "gpu=RTX 3090:8.6")

    assert str(best_for(seen).version) == "1.26.0"
    assert str(best_for(replace(seen, wsl=True)).version) == version


@pytest.mark.parametrize(("gpu", "version"), [("A10G:8.6", "1.31.1"), ("GeForce RTX 3090:8.6", "1.26.0")])
def test_the_compatibility_package_counts_on_data_centre_gpus(gpu: str, version: str) -> None:
    library = Library(
        component="cuda",
        soname="libcuda.so.1",
        path="/usr/local/cuda-13.0/compat/libcuda.so.580.65.06",
        version=Dotted.parse("580.65.06"),
        origin=Origin.LD_LIBRARY_PATH,
        owner=None,
    )
    seen = settings("python=3.12", "driver=535.104.05", f"gpu={gpu}")

    assert str(best_for(seen).version) == "1.26.0"
    assert str(best_for(replace(seen, libraries=(library,))).version) == version


def test_the_compatibility_package_is_named_where_it_would_do() -> None:
    data_centre = best_for(settings("python=3.12", "driver=535.104.05", "gpu=A10G:8.6")).rejected[0]
    desktop = best_for(settings("python=3.12", "driver=535.104.05", "gpu=GeForce RTX 3090:8.6")).rejected[0]

    assert "cuda-compat-13-0" in data_centre.to_json()["would_need"]
    assert desktop.to_json()["would_need"] == "NVIDIA driver 580.65.06 or newer"


def test_a_glibc_that_refuses_executable_stacks_takes_no_module_with_one() -> None:
    """1.14.1 is the last release with code for 5.0; its module asks for an executable stack."""
    on_2_40 = settings("glibc=2.40", "python=3.10", "driver=535.104.05", "gpu=GTX 750:5.0")
    on_2_41 = settings("glibc=2.41", "python=3.10", "driver=535.104.05", "gpu=GTX 750:5.0")

    assert str(best_for(on_2_40).version) == "1.14.1"
    assert recommend(on_2_41, MATRIX, Goal.GENERATE) is None


@pytest.mark.parametrize(
    "change",
    [
        with_python(bits=32),
        with_python(implementation="pypy", abi="pypy311_pp73"),
    ],
)
def test_a_python_that_wheels_are_not_for_gets_none(change: object) -> None:
    assert callable(change)
    seen = change(settings("python=3.12", "driver=580.95.05"))

    assert recommend(seen, MATRIX, Goal.GENERATE) is None


def test_an_old_pip_is_renewed_before_anything_is_installed() -> None:
    best = best_for(settings("python=3.12", "driver=580.95.05", "pip=20.2.4"))

    assert best.commands[0] == "python -m pip install --upgrade pip"


def test_a_feed_is_named_only_where_the_default_index_has_nothing() -> None:
    with_wheels = settings("python=3.12", "driver=470.82.01", "gpu=A100:8.0")
    without = settings("python=3.13", "driver=470.82.01", "gpu=A100:8.0")

    assert best_for(with_wheels).index.url is None
    best = best_for(without)
    assert (str(best.version), best.index.name, best.suffices) == ("1.20.2", "onnxruntime-cuda-11", False)
    assert recommend(without, MATRIX, Goal.GENERATE, feeds=False) is None
    assert any("whose wheels were not read" in one for one in best.remarks)


def test_a_feed_serves_no_gpu_that_its_cuda_has_dropped() -> None:
    """The feed for CUDA 13 has 1.24 to 1.26, and CUDA 13 has no code for a GTX 750."""
    assert recommend(settings("python=3.12", "gpu=GTX 750:5.0"), MATRIX, Goal.GENERATE) is None


@pytest.mark.parametrize(
    ("seen", "helps"),
    [
        (
            settings("musl=1.2", "python=3.12", "driver=580.95.05", "gpu=A10G:8.6"),
            [
                "a system with glibc 2.28 or newer (RHEL 8, Rocky 8, AlmaLinux 8, Debian 10) gives 1.31.1",
                "the container image python:3.13-slim-bookworm (Debian 12, glibc 2.36, Python 3.13) "
                "gives 1.31.1",
            ],
        ),
        (
            settings("os=windows", "python=3.13", "free_threaded=true", "driver=580.88", "gpu=A10G:8.6"),
            ["a Python 3.13 that is not free-threaded gives 1.31.1"],
        ),
        (
            settings("arch=aarch64", "glibc=2.31", "python=3.12", "driver=580.95.05", "gpu=GB10:12.1"),
            [
                "a system with glibc 2.34 or newer (RHEL 9, Rocky 9, AlmaLinux 9, Amazon Linux 2023) "
                "gives 1.31.1",
                "the container image python:3.13-slim-bookworm (Debian 12, glibc 2.36, Python 3.13) "
                "gives 1.31.1",
            ],
        ),
        (settings("gpu=GTX 750:5.0", "driver=580.95.05", "python=3.12"), ["a GPU that its code covers"]),
    ],
    ids=["musl", "free-threaded Windows", "aarch64", "old GPU"],
)
def test_where_nothing_fits_the_finding_says_what_would(seen: Machine, helps: list[str]) -> None:
    diagnosis = judge(seen)
    (finding,) = findings_of(diagnosis, "no-wheel-serves")
    remedy = finding.remedies[0]

    assert diagnosis.recommendation is None
    assert isinstance(remedy, ByHand)
    # The CPU's package has no wheel for musl, nor for a free-threaded Python on Windows.
    cpu = [] if seen.musl or seen.python.free_threaded else ["or use the CPU: onnxsd[cpu]"]
    assert list(remedy.steps) == [*helps, *cpu]
    assert [one.package for one in diagnosis.instead] == (["onnxruntime"] if cpu else [])
