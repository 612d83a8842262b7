"""Sizes of memory as people write them."""

from __future__ import annotations

import re

import click

_UNITS = {
    "": 1,
    "b": 1,
    "mb": 10**6,
    "gb": 10**9,
    "mib": 2**20,
    "gib": 2**30,
}
_WRITTEN = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)")


class MemorySize(click.ParamType[int]):
    """`8GB` (10⁹ bytes each), `7.5GiB` (2³⁰), `8000MB`, `7500MiB`, or a number of bytes."""

    name = "SIZE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The size in bytes."""
        if isinstance(value, int):
            return value
        found = _WRITTEN.fullmatch(str(value).strip().lower())
        if found is None or found["unit"] not in _UNITS:
            self.fail(f"{value!r} is not a size, as 8GB or 7500MiB", param, ctx)
        size_bytes = int(float(found["number"]) * _UNITS[found["unit"]])
        if not size_bytes:
            self.fail("a limit of nothing leaves no room for a model", param, ctx)
        return size_bytes
