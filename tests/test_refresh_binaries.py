"""Reading binaries as they stream by: what they need, which systems take them, and their GPU code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_wheels import EXACT, OTHER, PTX, SASS, elf, fatbin, pe

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from refresh import binary, kept
from refresh.elf import parse
from refresh.fatbin import FatbinScanner, served
from refresh.kept import Kept, NotKept
from refresh.pe import imports

from onnxsd.errors import BadInputError

CODE = fatbin((SASS, 80, 0x8041), (SASS, 90, EXACT), (PTX, 90, 0)) + bytes(40) + fatbin((SASS, 80, 0))
FOUND = {"80": 1, "80 90a ptx90": 1}


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    """A content in pieces of a size."""
    return (content[at : at + size] for at in range(0, len(content), size))


def scanned(content: bytes, size: int) -> dict[str, int]:
    """The fatbins that a scanner finds in a content that comes in pieces."""
    scanner = FatbinScanner()
    for piece in pieces(content, size):
        scanner.feed(piece)
    return scanner.fatbins


def reader(content: bytes) -> Callable[[int, int], bytes]:
    """Reads a content by place."""
    return lambda start, size: content[start : start + size]


@pytest.mark.parametrize("size", [1, 3, 7, 8, 16, 47, 48, 49, 64, 100, 10_000])
def test_gpu_code_is_found_whatever_the_pieces(size: int) -> None:
    assert scanned(b"\x01" * 13 + CODE + b"\x01" * 5, size) == FOUND


@settings(deadline=None)
@given(
    st.integers(1, 300),
    st.integers(0, 40),
    st.lists(st.tuples(st.sampled_from([PTX, SASS]), st.integers(30, 130))),
)
def test_every_target_is_found(size: int, before: int, entries: list[tuple[int, int]]) -> None:
    content = bytes(before) + fatbin(
        *((kind, target, 0) for kind, target in entries), payload_bytes=size % 50
    )

    found = [words.split() for words in scanned(content, size)]

    wanted = {str(target) if kind == SASS else f"ptx{target}" for kind, target in entries}
    assert found == (
        [sorted(wanted, key=lambda word: (word[:1] == "p", int(word.strip("ptx"))))] if wanted else []
    )


@pytest.mark.parametrize(
    ("fatbins", "sass", "ptx"),
    [
        ({"75 80 90a ptx120": 10}, ("75", "80", "90a"), ("120",)),
        # 1.30.0 for Windows: more fatbins for sm_90a alone than there are ordinary ones
        ({"75 80 120a": 230, "80 120a": 20, "80 ptx120": 28, "90a": 290}, ("75", "80", "120a"), ()),
        ({"80 90a": 10, "90a": 300, "120a": 4}, ("80", "90a"), ()),
        ({"75 80": 5, "80 86": 5}, ("75", "80", "86"), ()),
        ({"86": 10}, ("86",), ()),  # a build for one GPU
        ({"86": 10, "ptx86": 1}, ("86",), ()),
        ({}, (), ()),
    ],
)
def test_a_gpu_is_served_when_the_ordinary_kernels_are_compiled_for_it(
    fatbins: dict[str, int], sass: tuple[str, ...], ptx: tuple[str, ...]
) -> None:
    found = served(fatbins)

    assert (found.sass, found.ptx) == (sass, ptx)


def test_a_signature_that_stands_there_by_chance_is_passed_over() -> None:
    chance = fatbin((SASS, 70, 0))[:16] + b"\xff" * 60

    assert scanned(chance + CODE, 50) == FOUND


def test_entries_of_other_kinds_are_skipped() -> None:
    assert scanned(fatbin((OTHER, 75, 0), (SASS, 86, 0)), 30) == {"86": 1}


def test_what_looks_like_a_fatbin_inside_a_payload_is_not_read() -> None:
    inner = fatbin((SASS, 99, 0))
    outer = bytearray(fatbin((SASS, 80, 0), payload_bytes=len(inner)))
    outer[-len(inner) :] = inner

    assert scanned(bytes(outer), 33) == {"80": 1}


def test_an_elf_file() -> None:
    content = elf(
        ["libcublas.so.12", "libc.so.6"],
        versions={"libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.28"], "libstdc++.so.6": ["GLIBCXX_3.4.22"]},
        run_path="$ORIGIN:/usr/local/cuda-12.8/lib64",
    )

    found = parse(reader(content))

    assert found.needed == ("libcublas.so.12", "libc.so.6")
    assert found.versions == ("GLIBCXX_3.4.22", "GLIBC_2.2.5", "GLIBC_2.28")
    assert found.run_path == "$ORIGIN:/usr/local/cuda-12.8/lib64"


@pytest.mark.parametrize(("flags", "executable"), [(6, False), (7, True), (None, True)])
def test_an_executable_stack(flags: int | None, executable: bool) -> None:
    assert parse(reader(elf(stack_flags=flags))).executable_stack is executable


def test_a_library_that_wants_no_versions() -> None:
    assert parse(reader(elf(["libcuda.so.1"]))).versions == ()


@pytest.mark.parametrize("content", [b"", b"MZ", b"\x7fELF\x01\x01" + bytes(60), elf()[:56] + bytes(2)])
def test_what_is_no_elf_file(content: bytes) -> None:
    with pytest.raises(BadInputError):
        parse(reader(content.ljust(300, b"\0")))


def test_a_windows_library() -> None:
    content = pe(["cublas64_13.dll", "KERNEL32.dll"], body=b"\xcc" * 5000)

    assert imports(reader(content)) == ("cublas64_13.dll", "KERNEL32.dll")


@pytest.mark.parametrize("content", [b"MZ" + bytes(4096), pe(["a.dll"], machine_magic=0x10B)])
def test_what_is_no_64_bit_windows_library(content: bytes) -> None:
    with pytest.raises(BadInputError):
        imports(reader(content))


@settings(deadline=None)
@given(
    st.binary(min_size=1, max_size=400),
    st.integers(1, 60),
    st.integers(1, 50),
    st.tuples(st.integers(0, 400), st.integers(1, 100)),
    st.tuples(st.integers(0, 400), st.integers(1, 60)),
)
def test_what_is_kept_of_a_stream_is_what_it_held(
    content: bytes, size: int, edge: int, wanted: tuple[int, int], asked: tuple[int, int]
) -> None:
    held = Kept([(wanted[0], wanted[0] + wanted[1])], edge_bytes=edge)
    for piece in pieces(content, size):
        held.feed(piece)
    start, length = asked

    stop = min(start + length, len(content))
    kept_whole = stop <= min(edge, len(content)) or wanted[0] <= start < stop <= sum(wanted)
    try:
        found = held.read(start, length)
    except NotKept as missing:
        found, went_by = None, (missing.start, missing.stop)
    if found is None:
        assert went_by == (start, stop)
        assert not kept_whole
    else:
        assert found == content[start:stop]


def test_a_stream_needs_no_more_memory_than_its_edges() -> None:
    held = Kept([], edge_bytes=1000)
    for _ in range(500):
        held.feed(bytes(1000))

    assert held.size_bytes == 500_000
    assert sum(map(len, held._last)) <= 2000
    with pytest.raises(NotKept):
        held.read(250_000, 1)


@pytest.mark.parametrize("strings_last", [True, False])
def test_a_library_is_read_again_for_a_table_that_went_by(
    monkeypatch: pytest.MonkeyPatch, strings_last: bool
) -> None:
    """Its strings lie in the middle, far from the headers, the dynamic section and both ends."""
    monkeypatch.setattr(kept, "EDGE_BYTES", 600)
    monkeypatch.setattr(Kept.__init__, "__kwdefaults__", {"edge_bytes": 600})
    monkeypatch.setattr(binary, "_AROUND_BYTES", 32)
    content = elf(["libcudart.so.12"], body=bytes(9000) + CODE, strings_last=strings_last) + bytes(5000)
    opened, went_by = [], []

    def stream() -> Iterator[bytes]:
        opened.append(1)
        return pieces(content, 500)

    found = binary.read_binary(stream, went_by.append, "lib.so")

    assert found.needed == ("libcudart.so.12",)
    assert found.fatbins == FOUND  # counted in the first pass alone
    assert sum(went_by) == len(content)
    assert len(opened) == (2 if strings_last else 1)


@pytest.mark.parametrize("size", [100, 4096, 100_000])
def test_a_windows_library_is_read_in_one_pass(size: int) -> None:
    content = pe(["cudnn64_9.dll"], body=bytes(3000) + CODE)
    opened = []

    def stream() -> Iterator[bytes]:
        opened.append(1)
        return pieces(content, size)

    found = binary.read_binary(stream, lambda _: None, "a.dll")

    assert (found.needed, found.fatbins, found.executable_stack) == (("cudnn64_9.dll",), FOUND, None)
    assert opened == [1]


def test_a_file_of_another_kind_is_named() -> None:
    with pytest.raises(BadInputError, match="kernel is neither an ELF nor a PE file"):
        binary.read_binary(lambda: iter([b"#!/bin/sh\n"]), lambda _: None, "kernel")


@pytest.mark.parametrize(
    "content",
    [
        elf(["a.so"])[:54] + bytes(2) + elf(["a.so"])[56:],  # program headers of no size
        elf(["a.so"])[:200],
        pe(["a.dll"])[:300],
        b"MZ",
    ],
)
def test_a_damaged_library_is_named(content: bytes) -> None:
    with pytest.raises(BadInputError, match="kernel"):
        binary.read_binary(lambda: iter([content]), lambda _: None, "kernel")
