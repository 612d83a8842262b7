"""The matrix: its file, its rows, and what it answers."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from onnxsd import matrix
from onnxsd.errors import BadInputError
from onnxsd.matrix import Goal, Matrix, Release, Wheel, lines
from onnxsd.matrix.faults import faults_of, tables_of
from onnxsd.matrix.file import parse
from onnxsd.records import Dotted, decode, encode

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "compat_matrix.yaml").read_text(encoding="utf-8")
MATRIX = matrix.load()
TABLES = tables_of(MATRIX)
GLIBC_TAG = re.compile(r"manylinux_(\d+)_(\d+)_")
FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def message_of(text: str) -> str:
    """What parsing a faulty text says."""
    with pytest.raises(BadInputError) as caught:
        parse(text, source="matrix.yaml")
    return str(caught.value)


def values_in(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Every value of a YAML tree; keys are none."""
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from values_in(value)
    else:
        for item in node.value:
            yield from values_in(item)


def line_of(text: str, part: str) -> int:
    """The number of the first line that holds a part."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_the_file_is_dumped_as_it_was_read() -> None:
    assert matrix.dump(parse(TEXT, source="the file")) == TEXT


def test_the_files_reader_reads_what_pyyaml_reads() -> None:
    assert lines.read(TEXT) == (yaml.safe_load(TEXT), [])


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [0, 12, true, null, ~, 0x10, 010, -3, 1.5, 2026-01-02, plain text]\n",
        "- 'single ''quotes'''\n- |\n  block\n  lines\n- []\n- {}\n- {a: {b: []}}\n",
        r'- "double \" \u00e9 \\"',
        "# nothing but a comment\n",
        "--- 12\n",
        "",
    ],
)
def test_values_are_those_of_yaml(text: str) -> None:
    assert lines.read(text) == (yaml.safe_load(text), [])


@pytest.mark.parametrize(
    "text", ["a: &x 1\nb: *x\n", "a: !!str 1\n", "--- 1\n--- 2\n", "? [a]\n: 1\n", "a: [", "\ta: 1"]
)
def test_what_the_file_does_without_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        lines.read(text)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_a_source_and_a_date(name: str) -> None:
    assert TABLES[name]
    for row in TABLES[name]:
        assert row.source.strip()
        assert datetime.date(2020, 1, 1) < row.checked <= datetime.date.today()


@pytest.mark.parametrize("name", TABLES)
def test_a_row_without_a_source_is_a_fault(name: str) -> None:
    row = dataclasses.replace(TABLES[name][0], source=" ")
    broken = dataclasses.replace(MATRIX, **{name: (row, *TABLES[name][1:])})

    assert f"{name}[0]: no source" in list(faults_of(broken))


@pytest.mark.parametrize("name", TABLES)
def test_a_row_without_a_date_is_a_fault(name: str) -> None:
    plain = encode(MATRIX)
    del plain[name][0]["checked"]

    with pytest.raises(BadInputError, match=rf"{name}\[0\].checked: missing"):
        decode(Matrix, plain, source="matrix.yaml")


def test_every_text_is_quoted_so_that_no_version_becomes_a_number() -> None:
    kinds = {
        (node.tag.rpartition(":")[2], node.style or None)
        for node in values_in(yaml.compose(TEXT, Loader=FAST))
    }

    assert kinds == {("str", '"'), ("int", None), ("bool", None), ("null", None)}


def test_notes_are_fields_and_no_comments() -> None:
    assert not any(line.lstrip().startswith("#") for line in TEXT.splitlines())


def test_faults_are_reported_together_with_their_lines() -> None:
    text = TEXT.replace('version: "1.31.1"', "version: 1.31", 1).replace('glibc: "2.17"', 'glibc: "two"', 1)
    text = text.replace("extras_fault:", "extra_fault:").replace("schema: 2\n", "schema: 2\nschema: 2\n")

    said = message_of(text)

    release, glibc = line_of(text, "version: 1.31"), line_of(text, 'glibc: "two"')
    for part in (
        f"line {release}: releases[0].version: expected quoted text (Version), found 1.31",
        f"line {glibc}: systems[0].glibc: expected a Dotted, found 'two'",
        "extra_fault: there is no such field",
        "line 2: schema a second time",
    ):
        assert part in said


def test_a_missing_field_is_located_at_its_row() -> None:
    text = TEXT.replace(
        '  - feature: "externally-managed"\n    pip: "23.0"\n', '  - feature: "externally-managed"\n'
    )

    row = line_of(text, 'feature: "externally-managed"')
    assert f"line {row}: pip_features[0].pip: missing" in message_of(text)


@pytest.mark.parametrize("text", ["", "[]", "a: [", "schema: 2\n? [a]\n: 1\n"])
def test_a_text_that_is_no_matrix_is_refused(text: str) -> None:
    assert "matrix.yaml" in message_of(text)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schema": 1}, "schema: this onnxsd reads 2, found 1"),
        ({"feeds": ()}, "feeds: empty"),
        ({"releases": MATRIX.releases[::-1]}, "releases: wanted each once, newest first"),
        ({"releases": MATRIX.releases[:1] * 2}, "releases: wanted each once, newest first"),
        ({"drivers": MATRIX.drivers[1:]}, "releases[0]: 1.31.1 has no row of drivers for CUDA 13"),
        ({"runtimes": MATRIX.runtimes[1:]}, "floors[0]: onnxruntime-gpu has no row of runtimes"),
        (
            {"vanished": (dataclasses.replace(MATRIX.vanished[0], instead=Version("1.10")),)},
            "vanished[0]: 1.10 is not among the releases",
        ),
    ],
)
def test_faults_between_rows(change: dict[str, Any], fault: str) -> None:
    assert fault in list(faults_of(dataclasses.replace(MATRIX, **change)))


def test_a_release_cannot_have_vanished_too() -> None:
    row = dataclasses.replace(
        MATRIX.vanished[0], versions=SpecifierSet("==1.31.1"), instead=Version("1.31.0")
    )

    assert list(faults_of(dataclasses.replace(MATRIX, vanished=(row,)))) == [
        "vanished[0]: 1.31.1 is among the releases"
    ]


def test_a_wheel_group_knows_the_file_names_of_its_wheels() -> None:
    for release in MATRIX.releases:
        for wheel in release.wheels:
            for abi in wheel.abis:
                name, version, _, tags = parse_wheel_filename(
                    wheel.file_name(MATRIX.package, release.version, abi)
                )
                assert (name, version) == (MATRIX.package, release.version)
                assert {tag.platform for tag in tags} == set(wheel.tags)
                assert {tag.abi for tag in tags} == {abi}
            assert wheel.file is None or wheel.file in {
                wheel.file_name(MATRIX.package, release.version, abi) for abi in wheel.abis
            }


def test_the_file_name_of_a_free_threaded_and_of_an_old_wheel() -> None:
    wheel = MATRIX.releases[0].wheels[0]

    assert "-cp313-cp313t-" in wheel.file_name("onnxruntime-gpu", Version("1.31.1"), "cp313t")
    assert "-cp37-cp37m-" in wheel.file_name("onnxruntime-gpu", Version("1.11.0"), "cp37m")


@pytest.mark.parametrize(
    ("version", "cuda"),
    [
        ("2.10.0", "12.8"),
        ("2.11.0", "13.0"),
        ("2.9.7", "12.8"),  # a patch that is not on record is like the newest of its minor release
        ("2.9.1+cu126", "12.6"),
        ("2.12.0+cu130", "13.0"),
        ("2.12.0+cpu", None),
        ("2.12.0+rocm6.4", None),
        ("1.13.0", None),
    ],
)
def test_the_cuda_version_of_a_torch(version: str, cuda: str | None) -> None:
    found = MATRIX.torch_cuda(Version(version))

    assert (str(found) if found else None) == cuda


@pytest.mark.parametrize(
    ("library", "cuda_major", "package"),
    [
        ("libcublasLt.so.12", None, "nvidia-cublas-cu12"),
        ("libcublas.so.13", None, "nvidia-cublas"),
        ("cudnn64_9.dll", None, "nvidia-cudnn-cu13"),
        ("cudnn64_9.dll", 12, "nvidia-cudnn-cu12"),
        ("libcudnn_graph.so.9", 12, "nvidia-cudnn-cu12"),
        ("libcurand.so.10", 11, "nvidia-curand-cu11"),
        ("libcurand.so.10", 10, None),
        ("libcuda.so.1", None, None),
    ],
)
def test_the_package_of_a_library(library: str, cuda_major: int | None, package: str | None) -> None:
    found = MATRIX.package_of(library, cuda_major)

    assert (found.package if found else None) == package


def test_questions_of_the_matrix() -> None:
    assert MATRIX.cuda_of(Dotted.parse("535.104.05")) == Dotted.parse("12.2")
    assert MATRIX.cuda_of(Dotted.parse("390.10")) is None
    assert "Ubuntu 18.04" in MATRIX.systems_with(Dotted.parse("2.27"))
    assert MATRIX.systems_with(Dotted.parse("9.9")) == ()
    assert "A10G" in MATRIX.gpu_names(Dotted.parse("8.6"))
    assert MATRIX.gpu_names(Dotted.parse("99.0")) == ()
    assert MATRIX.minimum_driver(12, windows=True) == Dotted.parse("528.33")
    assert MATRIX.release(Version("1.16.3")) is not None
    assert MATRIX.release(Version("1.16.2")) is None


@pytest.mark.parametrize(
    ("version", "goal", "meets"),
    [
        ("1.31.1", Goal.GENERATE, True),
        ("1.27.0", Goal.GENERATE, False),
        ("1.26.0", Goal.GENERATE, True),
        ("1.16.3", Goal.GENERATE, False),
        ("1.23.2", Goal.EXPORT, True),
    ],
)
def test_floors(version: str, goal: Goal, meets: bool) -> None:
    release = MATRIX.release(Version(version))

    assert release is not None
    assert MATRIX.meets_floor(release, goal) is meets


def test_a_feed_holds_what_its_row_says() -> None:
    feeds = [row for row in MATRIX.feeds if row.name == "onnxruntime-cuda-12"]

    assert any(feed.holds(Version("1.18.1"), "linux_x86_64") for feed in feeds)
    assert not any(feed.holds(Version("1.27.0"), "linux_x86_64") for feed in feeds)
    nightly = next(row for row in MATRIX.feeds if row.nightly)
    assert not nightly.holds(Version("1.25.0"), "linux_x86_64")


def wheels() -> list[tuple[Release, Wheel]]:
    """Every wheel group with its release."""
    return [(release, wheel) for release in MATRIX.releases for wheel in release.wheels]


def test_every_wheel_group_was_read() -> None:
    for _, wheel in wheels():
        assert wheel.evidence == "read"
        assert wheel.sass
        assert wheel.needed
        assert None not in (wheel.file, wheel.size_bytes, wheel.module_needed, wheel.tensorrt_needed)
        is_linux = wheel.platform.startswith("linux")
        assert {wheel.glibc is None, wheel.glibcxx is None, wheel.executable_stack is None} == {not is_linux}


def test_what_a_wheel_loads_is_of_the_releases_cuda() -> None:
    for release, wheel in wheels():
        libraries = " ".join(wheel.needed or ())
        assert {int(number) for number in re.findall(r"cublas(?:\.so\.|64_)(\d+)", libraries)} == {
            release.cuda_major
        }
        assert {int(number) for number in re.findall(r"cudnn(?:\.so\.|64_)(\d+)", libraries)} <= {
            release.cudnn_major
        }
        assert release.cuda is None or release.cuda.parts[0] == release.cuda_major
        assert ("cudnn" in libraries) is release.cudnn_required


def test_a_wheel_asks_for_no_newer_glibc_than_its_tags_promise() -> None:
    for release, wheel in wheels():
        promised = [
            Dotted.parse(f"{match[1]}.{match[2]}") for match in map(GLIBC_TAG.match, wheel.tags) if match
        ]
        assert wheel.glibc is None or wheel.glibc <= min(promised), release.version


def test_each_library_that_a_wheel_needs_has_a_package() -> None:
    """But for the driver's own, and what Windows' installer of Visual C++ brings."""
    for release, wheel in wheels():
        for library in wheel.needed or ():
            if library == "libcuda.so.1" or library.startswith(("MSVCP140", "VCRUNTIME140")):
                continue
            package = MATRIX.package_of(library, release.cuda_major)
            assert package is not None, (release.version, library)


def test_extras_bring_the_packages_of_the_releases_cuda() -> None:
    for release in MATRIX.releases:
        pins = {pin.name: pin.requires for pin in release.pins or ()}
        assert set(release.extras) <= set(pins)
        brought = {Requirement(text).name for name in release.extras for text in pins[name]}
        known = {row.package for row in MATRIX.library_packages if row.cuda_major == release.cuda_major}
        assert brought <= known or release.extras_fault, release.version
