"""What to install where onnxruntime-gpu does not serve: AMD, Intel, Apple, Jetson, no GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doctor_cases import MATRIX, findings_of, judge, load, settings

from onnxsd.doctor.actions import Install
from onnxsd.doctor.instead import instead
from onnxsd.doctor.plan import plan_of
from onnxsd.machine import Machine, OtherGpu


def with_gpu_of(vendor: str, *changes: str) -> Machine:
    """A clean machine with a GPU of another maker."""
    seen = settings("gpu=none", "python=3.12", *changes)
    return replace(seen, other_gpus=(OtherGpu(vendor=vendor, name=f"a GPU of {vendor}"),))


@pytest.mark.parametrize(
    ("vendor", "changes", "packages"),
    [
        ("amd", (), ["onnxruntime-migraphx", "onnxruntime"]),
        ("amd", ("os=windows",), ["onnxruntime-directml", "onnxruntime"]),
        ("intel", (), ["onnxruntime-openvino", "onnxruntime"]),
        ("intel", ("os=windows",), ["onnxruntime-openvino", "onnxruntime-directml", "onnxruntime"]),
        ("apple", ("os=macos", "arch=aarch64"), ["onnxruntime", "onnxruntime"]),
        ("0x1234", (), ["onnxruntime"]),
    ],
)
def test_other_makers_have_builds_of_their_own(
    vendor: str, changes: tuple[str, ...], packages: list[str]
) -> None:
    diagnosis = judge(with_gpu_of(vendor, *changes))

    assert diagnosis.recommendation is None
    assert [one.package for one in diagnosis.instead] == packages
    assert diagnosis.instead[-1].provider == "CPUExecutionProvider"
    assert diagnosis.instead[-1].remedy.install == ("onnxsd[cpu]",)


def test_apple_gets_the_provider_of_macos() -> None:
    first = instead(with_gpu_of("apple", "os=macos", "arch=aarch64"), MATRIX)[0]

    assert (first.package, first.provider) == ("onnxruntime", "CoreMLExecutionProvider")


@pytest.mark.parametrize(
    ("changes", "serves"),
    [
        (("python=3.10",), True),
        (("python=2.7",), False),
        (("python=3.8",), False),
        (("python=3.9",), False),
        (("python=3.15",), False),
        (("python=3.13", "free_threaded=true"), True),
        (("os=windows", "python=3.13", "free_threaded=true"), False),
        (("os=windows", "arch=aarch64", "python=3.10"), False),
        (("os=macos", "arch=x86_64", "python=3.14"), False),
    ],
)
def test_the_cpu_package_is_advised_where_it_has_a_wheel(changes: tuple[str, ...], serves: bool) -> None:
    diagnosis = judge(settings("gpu=none", *changes))
    installs = [
        text for one in plan_of(diagnosis).actions if isinstance(one, Install) for text in one.requirements
    ]
    (missing,) = findings_of(diagnosis, "ort-missing")

    assert bool(diagnosis.instead) is serves
    assert ("onnxsd[cpu,run]" in installs) is serves
    assert not installs or serves
    assert ("use CPython" in str(missing.remedies)) is not serves


def test_a_build_that_is_not_kept_up_is_not_named() -> None:
    named = {one.package for vendor in ("amd", "apple") for one in instead(with_gpu_of(vendor), MATRIX)}

    assert named.isdisjoint(row.package for row in MATRIX.runtimes if not row.maintained)


def test_the_runtime_that_is_there_goes_first() -> None:
    seen = with_gpu_of("amd", "package=onnxruntime-gpu==1.31.1")
    first, cpu = instead(seen, MATRIX)

    assert first.remedy.commands[0] == "python -m pip uninstall -y onnxruntime-gpu"
    assert cpu.remedy.uninstall == ("onnxruntime-gpu",)


def test_a_build_that_is_there_already_stays() -> None:
    first, _ = instead(with_gpu_of("amd", "package=onnxruntime-migraphx==1.27.1"), MATRIX)

    assert first.remedy.uninstall == ()


def test_jetson_has_an_index_of_its_own() -> None:
    diagnosis = judge(load("jetson_orin"))
    first = diagnosis.instead[0]

    assert diagnosis.recommendation is None
    assert first.index.url is not None
    assert "jp6" in first.index.url
    assert f"--index-url {first.index.url}" in first.remedy.commands[-1]
    (told,) = (remedy for one in findings_of(diagnosis, "jetson") for remedy in one.remedies)
    assert told.commands == first.remedy.commands
    assert diagnosis.instead[-1].package == "onnxruntime"


def test_a_machine_that_gets_its_release_needs_nothing_instead() -> None:
    diagnosis = judge(load("healthy_cuda13"))

    assert diagnosis.instead == ()
    assert "instead" not in diagnosis.to_json()


def test_an_nvidia_gpu_that_no_release_serves_gets_the_cpu() -> None:
    diagnosis = judge(settings("gpu=GTX 750:5.0", "driver=580.95.05", "python=3.12"))
    (plain,) = diagnosis.to_json()["instead"]

    assert plain["package"] == "onnxruntime"
    assert plain["commands"] == ["python -m pip install 'onnxsd[cpu]'"]
