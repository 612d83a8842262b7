"""Plans for other places: wheels for a machine without network, a container recipe."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from doctor_cases import MATRIX, judge, load, settings
from packaging.tags import Tag, cpython_tags
from packaging.utils import parse_wheel_filename

from onnxsd.doctor.plan import Installer, Shell, WheelList, dockerfile, wheel_list
from onnxsd.errors import NotReadyError
from onnxsd.matrix import Goal

STORY = ("glibc=2.26", "python=3.10", "driver=535.104.05", "gpu=A10G:8.6")


def listed(*changes: str) -> WheelList:
    """The wheels for a clean machine."""
    return wheel_list(judge(settings(*changes)), MATRIX)


def values_of(option: str, argv: tuple[str, ...]) -> list[str]:
    """What follows each occurrence of an option."""
    return [after for word, after in itertools.pairwise(argv) if word == option]


def test_wheels_are_fetched_for_the_other_machine_and_installed_from_the_folder() -> None:
    found = listed("glibc=2.28", "python=3.12", "driver=550.54.15", "gpu=A10G:8.6")
    (fetch,), (install,) = found.fetch, found.install

    assert fetch.argv[:5] == ("python", "-m", "pip", "download", "--dest")
    assert values_of("--python-version", fetch.argv) == ["3.12"]
    assert values_of("--abi", fetch.argv) == ["cp312"]
    assert values_of("--platform", fetch.argv)[0] == "manylinux_2_28_x86_64"
    assert values_of("--platform", fetch.argv)[-2:] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    assert values_of("--find-links", install.argv) == values_of("--dest", fetch.argv)
    assert "--no-index" in install.argv
    assert (
        fetch.argv[-len(found.requirements) :]
        == install.argv[-len(found.requirements) :]
        == found.requirements
    )
    assert found.requirements[-1] == "onnxruntime-gpu[cuda,cudnn]==1.26.0"


@pytest.mark.parametrize(
    ("changes", "platform", "abi"),
    [
        (("glibc=2.35", "python=3.11", "driver=580.95.05"), "manylinux_2_28_x86_64", "cp311"),
        (("os=windows", "python=3.12", "driver=580.88", "gpu=RTX 3090:8.6"), "win_amd64", "cp312"),
        (("python=3.13", "free_threaded=true", "driver=580.95.05"), "manylinux_2_28_x86_64", "cp313t"),
        (
            ("arch=aarch64", "glibc=2.39", "python=3.12", "driver=580.95.05", "gpu=GB10:12.1"),
            "manylinux_2_34_aarch64",
            "cp312",
        ),
    ],
)
def test_the_runtimes_file_has_the_name_of_its_wheel(
    changes: tuple[str, ...], platform: str, abi: str
) -> None:
    found = listed(*changes)
    assert found.wheel is not None
    name, version, _, tags = parse_wheel_filename(found.wheel)

    assert (name, str(version)) == ("onnxruntime-gpu", "1.31.1")
    assert Tag(abi.rstrip("t"), abi, platform) in tags
    assert found.wheel_bytes is not None
    assert found.wheel_bytes > 100_000_000


def test_every_tag_that_pip_is_told_is_one_of_the_machines() -> None:
    found = listed("glibc=2.31", "python=3.12", "driver=580.95.05")
    told = values_of("--platform", found.fetch[0].argv)
    tags = {tag.platform for tag in cpython_tags((3, 12), ["cp312"], told)}

    assert set(told) <= set(settings("glibc=2.31", "python=3.12").platform_tags)
    assert {"manylinux_2_31_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64"} <= tags


def test_a_feeds_wheel_is_fetched_from_the_feed() -> None:
    diagnosis = judge(settings("python=3.13", "driver=470.82.01", "gpu=A100:8.0"))
    best = diagnosis.recommendation
    assert best is not None
    found = wheel_list(replace(diagnosis, recommendation=replace(best, suffices=True)), MATRIX)
    first, second = found.fetch

    assert best.index.url in second.argv
    assert "--no-deps" in second.argv
    assert second.argv[-1] == "onnxruntime-gpu==1.20.2"
    assert "onnxruntime-gpu==1.20.2" not in first.argv
    assert found.wheel is None  # the feed's wheels were not read


def test_where_nothing_suffices_the_wheels_are_the_cpus() -> None:
    found = listed(*STORY)

    assert found.wheel is None
    assert found.requirements[-1] == "onnxruntime>=1.23.2"
    assert "onnxruntime-gpu" not in " ".join(found.requirements)


def test_two_runtimes_are_removed_before_the_folder_is_installed() -> None:
    diagnosis = judge(load("both_runtime_wheels"))
    by_uv = wheel_list(diagnosis, MATRIX, Installer.UV)

    assert [step.argv[3:5] for step in wheel_list(diagnosis, MATRIX).install] == [
        ("uninstall", "-y"),
        ("install", "--no-index"),
    ]
    assert [step.argv[:3] for step in by_uv.install] == [("uv", "pip", "uninstall"), ("uv", "pip", "install")]


def test_the_list_reads_as_a_script() -> None:
    lines = listed("os=windows", "python=3.12", "driver=580.88", "gpu=RTX 3090:8.6").lines(Shell.POWERSHELL)

    assert "# of these onnxruntime_gpu-1.31.1-cp312-cp312-win_amd64.whl" in "\n".join(lines)
    assert sum(not text.startswith("#") for text in lines) == 2
    assert "'onnxruntime-gpu[cuda,cudnn]==1.31.1'" in lines[-1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [(("os=macos", "arch=aarch64", "python=3.12"), "--save-facts"), (("python=3.9",), "use CPython")],
)
def test_wheels_that_cannot_be_named_are_refused(changes: tuple[str, ...], told: str) -> None:
    with pytest.raises(NotReadyError, match="asked for wheels") as caught:
        listed("gpu=none", *changes)

    assert told in str(caught.value)


def test_a_container_is_a_linux_of_its_own() -> None:
    with pytest.raises(NotReadyError, match="runs Windows") as caught:
        dockerfile(judge(load("healthy_windows")), MATRIX)

    assert "--set os=linux" in str(caught.value)


def test_the_storys_machine_gets_a_container() -> None:
    text = dockerfile(judge(settings(*STORY)), MATRIX)

    assert "FROM python:3.13-slim-bookworm\n" in text
    assert (
        "RUN python -m pip install --no-cache-dir 'onnxsd[run]' 'onnxruntime-gpu[cuda,cudnn]==1.26.0'\n"
        in text
    )
    assert "--gpus all" in text
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in text


def test_an_old_gpus_limits_go_into_its_container() -> None:
    text = dockerfile(judge(settings("glibc=2.26", "driver=535.104.05", "gpu=V100:7.0")), MATRIX)

    assert "'nvidia-cudnn-cu12<9.11'" in text


def test_without_a_gpu_the_container_is_for_the_cpu() -> None:
    text = dockerfile(judge(load("laptop_without_gpu")), MATRIX)

    assert "'onnxsd[cpu]'" in text
    assert "--gpus" not in text
    assert "NVIDIA" not in text


def test_an_image_of_nvidia_gets_a_python_of_its_own() -> None:
    """Were there none but NVIDIA's: the newest Ubuntu whose CUDA the driver runs."""
    matrix = replace(MATRIX, images=tuple(row for row in MATRIX.images if row.cuda is not None))
    text = dockerfile(judge(settings(*STORY)), matrix)

    assert "FROM nvidia/cuda:12." in text
    assert "-ubuntu24.04" in text
    assert "python3-venv" in text
    assert "RUN /opt/venv/bin/python -m pip install" in text


@pytest.mark.parametrize(
    "changes", [("driver=470.82.01", "gpu=A100:8.0"), ("gpu=GTX 750:5.0", "driver=580.95.05")]
)
def test_no_container_helps_against_a_driver_or_a_gpu(changes: tuple[str, ...]) -> None:
    with pytest.raises(NotReadyError, match="asked for a container") as caught:
        dockerfile(judge(settings("python=3.12", *changes)), MATRIX)

    assert "NVIDIA driver 580.65.06 or newer" in str(caught.value) or "gpu=none" in str(caught.value)


def test_a_container_for_exports_takes_what_exports_need() -> None:
    text = dockerfile(judge(settings(*STORY), Goal.EXPORT), MATRIX)

    assert "'onnxruntime-gpu[cuda,cudnn]==1.26.0'" in text
