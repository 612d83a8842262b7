"""What a built wheel holds and asks for, and that the versions in the scripts are the tests' own."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import package_builds
import pytest
from package_builds import ROOT
from packaging.requirements import Requirement

BASE = {"click", "packaging", "PyYAML", "nvidia-ml-py", "rich"}
RUNTIMES = {"onnxruntime", "onnxruntime-gpu"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is made from, so that no leftover of another build can get into it."""
    return package_builds.copy_whole(tmp_path_factory.mktemp("source") / "onnxsd")


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds, with what was built of native/ if there is a compiler."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--wheel-dir", str(out), "-q"]
    if _can_build_here():
        command.append("--no-build-isolation")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def _can_build_here() -> bool:
    """Whether this environment's setuptools is as new as pyproject.toml asks."""
    from importlib import metadata

    try:
        return int(metadata.version("setuptools").split(".")[0]) >= 77
    except metadata.PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def about(wheel: Path) -> Message:
    """The wheel's METADATA."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_every_file_of_the_package(source: Path, wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("onnxsd/")}
    packaged = {
        path.relative_to(source).as_posix() for path in (source / "onnxsd").rglob("*") if path.is_file()
    }

    assert inside - {package_builds.LIBRARY} == packaged | {"onnxsd/compat_matrix.yaml"}
    assert {"onnxsd/py.typed", "onnxsd/machine/probe.onnx"} <= inside
    assert any(name.startswith("onnxsd/models/configurations/") for name in inside)
    assert {"onnxsd/builtin/shapes/README.md", "onnxsd/builtin/shapes/model_index.json"} <= inside
    assert any(name.startswith("onnxsd/builtin/shapes/unet/") for name in inside)


def test_the_wheel_holds_the_roots_matrix(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        assert archive.read("onnxsd/compat_matrix.yaml") == (ROOT / "compat_matrix.yaml").read_bytes()


def test_the_wheel_is_enough_for_the_doctor(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere, it finds its matrix and its probe without the checkout."""
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    facts = ROOT / "tests" / "machines" / "healthy_cuda13.json"
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import onnxsd; from onnxsd.cli import main\n"
        f"assert onnxsd.__file__.startswith({str(tmp_path)!r}), onnxsd.__file__\n"
        f"main(['doctor', '--facts', {str(facts)!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "ready to generate" in done.stdout


def test_the_wheel_says_its_licence_and_python(about: Message) -> None:
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Requires-Python"] == ">=3.10"


def test_the_base_install_is_light(about: Message) -> None:
    base = {Requirement(text).name for text in about.get_all("Requires-Dist", []) if "extra ==" not in text}

    assert base == BASE


def wanted(about: Message, extra: str, python: str) -> set[str]:
    """Names of what an extra asks for on a version of Python, extras of onnxsd followed."""
    environment = {"extra": extra, "python_version": python}
    names = set()
    for text in about.get_all("Requires-Dist", []):
        one = Requirement(text)
        if "extra ==" in text and one.marker is not None and one.marker.evaluate(environment):
            if one.name == "onnxsd":
                names |= {name for below in one.extras for name in wanted(about, below, python)}
            else:
                names.add(one.name)
    return names


@pytest.mark.parametrize(
    ("extra", "python", "runtimes"),
    [
        ("run", "3.12", set()),
        ("cpu", "3.12", {"onnxruntime"}),
        ("cpu", "3.10", {"onnxruntime"}),
        ("cuda13", "3.12", {"onnxruntime-gpu"}),
        ("cuda12", "3.12", {"onnxruntime-gpu"}),
        ("cuda", "3.12", {"onnxruntime-gpu"}),
        ("cuda13", "3.10", set()),
        ("cuda12", "3.10", set()),
        ("reference", "3.12", set()),
        ("test", "3.12", set()),
    ],
)
def test_an_extra_brings_its_runtime_and_no_other(
    about: Message, extra: str, python: str, runtimes: set[str]
) -> None:
    names = wanted(about, extra, python)

    assert names & RUNTIMES == runtimes
    if runtimes:
        assert wanted(about, "run", python) <= names


def test_gpu_extras_ask_for_the_cuda_libraries_too(about: Message) -> None:
    gpu = [
        Requirement(text) for text in about.get_all("Requires-Dist", []) if text.startswith("onnxruntime-gpu")
    ]

    assert len(gpu) == 2
    assert all(one.extras == {"cuda", "cudnn"} for one in gpu)


def test_constraints_hold_every_package_they_name_at_one_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    rows = [Requirement(line) for line in lines if line and not line.startswith("#")]

    assert {row.name for row in rows} >= {"torch", "diffusers", "transformers", "onnxruntime"}
    assert all(re.fullmatch(r"==[\w.]+", str(row.specifier)) for row in rows)


def test_every_mark_that_can_be_asked_for_is_declared() -> None:
    from conftest import ON_REQUEST, REFERENCE

    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    declared = {line.split(":")[0] for line in setup["tool:pytest"]["markers"].strip().splitlines()}

    assert {*ON_REQUEST, REFERENCE} <= declared
