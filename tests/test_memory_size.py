"""Sizes of memory on the command line."""

from __future__ import annotations

import click
import pytest

from onnxsd.cli.sizes import MemorySize


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("8GB", 8_000_000_000),
        ("8gb", 8_000_000_000),
        ("7.5GiB", 8_053_063_680),
        ("8000 MB", 8_000_000_000),
        ("7500MiB", 7_864_320_000),
        ("1024", 1024),
        ("1024B", 1024),
    ],
)
def test_a_size_in_bytes(text: str, size_bytes: int) -> None:
    assert MemorySize().convert(text, None, None) == size_bytes


@pytest.mark.parametrize("text", ["", "GB", "8Q", "-8GB", "8 G B", "0", "0.0GB", "eight", "8e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter):
        MemorySize().convert(text, None, None)
