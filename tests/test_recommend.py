"""Which release is recommended for a machine, and why nothing newer."""

from __future__ import annotations

import pytest
from doctor_cases import findings_of, judge, settings

from onnxsd.doctor import Severity
from onnxsd.doctor.gpu_code import Coverage, coverage
from onnxsd.machine import Gpu
from onnxsd.matrix import Wheel


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
