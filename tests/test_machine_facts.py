"""A machine as a value: its file, its tags, and what `--set` makes of it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from doctor_cases import load, settings
from packaging import tags
from packaging.version import Version

from onnxsd import machine
from onnxsd.errors import BadInputError, UsageError
from onnxsd.machine import Machine
from onnxsd.machine.file import text_of
from onnxsd.machine.tags import platform_tags_of
from onnxsd.records import Dotted


def test_facts_survive_a_file(tmp_path: Path) -> None:
    seen = load("gpu_hidden")
    machine.save(seen, tmp_path / "facts.json")

    assert machine.load(tmp_path / "facts.json") == seen


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "is not JSON"),
        ("[]", "schema None"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 2, "os": "plan9"}', "os: expected one of linux, windows, macos, other, found 'plan9'"),
    ],
)
def test_facts_that_cannot_be_used_are_refused(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "facts.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(BadInputError, match=r"facts\.json") as caught:
        machine.load(path)
    assert part in str(caught.value)


def test_this_machine_is_read_and_its_facts_survive() -> None:
    seen = machine.snapshot(probe=False)

    assert seen.python.version == Version(".".join(map(str, sys.version_info[:3])))
    assert seen.python.abi == next(tags.cpython_tags()).abi
    assert seen.probes is None
    assert Machine.from_json(json.loads(text_of(seen)), source="here") == seen


@pytest.mark.skipif(sys.platform != "linux", reason="manylinux tags")
def test_tags_computed_from_facts_equal_packagings() -> None:
    seen = machine.snapshot(probe=False)

    computed = platform_tags_of(seen.os, seen.arch, glibc=seen.glibc, musl=seen.musl)
    assert sorted(computed) == sorted(seen.platform_tags)


def test_another_system_forgets_what_is_installed_here() -> None:
    changed = settings("glibc=2.26")

    assert changed.distributions == ()
    assert changed.probes is None
    assert changed.platform_tags[1] == "manylinux_2_26_x86_64"
    assert changed.gpus == load("healthy_cuda13").gpus


def test_a_driver_without_a_gpu_assumes_one_and_says_so() -> None:
    changed = machine.with_settings(load("laptop_without_gpu"), ["driver=535.104.05"])

    assert changed.gpus[0].compute_capability == (8, 0)
    assert "assumes" in changed.gpus[0].name
    assert changed.distributions == load("laptop_without_gpu").distributions


def test_packages_can_be_set_and_removed() -> None:
    changed = settings("package=onnxruntime==1.31.1", "package=nvidia-cudnn-cu13==none")

    assert {one.name for one in changed.owners_of("onnxruntime")} == {"onnxruntime", "onnxruntime-gpu"}
    assert changed.distribution("nvidia-cudnn-cu13") is None


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("glibc=2", "2.26 or 1.2"),
        ("gpu=A10G", "NAME:CC"),
        ("gpu=A10G:8", "NAME:CC"),
        ("os=other", "linux, windows, macos"),
        ("arch=arm64", "x86_64, aarch64"),
        ("python=3", "3.12"),
        ("package=numpy", "NAME==VERSION"),
        ("package=onnxruntime-gpu[cuda]==1.26.0", "NAME==VERSION"),
    ],
)
def test_a_refused_setting_says_what_it_wants(change: str, wanted: str) -> None:
    with pytest.raises(UsageError, match=re.escape(wanted)):
        settings(change)


@pytest.mark.parametrize(
    "change", ["glibc", "glibc=new", "colour=red", "gpu=A100", "os=plan9", "python=three", "free_threaded=1"]
)
def test_a_setting_that_means_nothing_is_refused(change: str) -> None:
    with pytest.raises(UsageError, match=change.partition("=")[0]):
        settings(change)


def test_a_driver_keeps_its_spelling_and_compares_by_number() -> None:
    assert str(Dotted.parse("450.80.02")) == "450.80.02"
    assert Dotted.parse("535.104.05") > Dotted.parse("535.54.03")
    assert Dotted.parse("580") <= Dotted.parse("580.65.06")
