"""Launches kernels of an emulator's library, in threads that take turns in a chosen order."""

from __future__ import annotations

import ctypes
import enum
import itertools
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeAlias

from emulator.buffers import Buffer
from emulator.build import compile_kernels, kernels_text

Argument: TypeAlias = Buffer | int | float | ctypes.Structure | None


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("attribute_count", ctypes.c_uint),
    )


class Order(enum.IntEnum):
    """In which order threads take turns; the value is the emulator's number for it."""

    FORWARD = 0
    BACKWARD = 1
    SHUFFLED = 2


class LaunchError(Exception):
    """What a GPU would not have done, or what would have had no defined result there."""


class Emulator:
    """Kernels that were compiled for this machine's CPU."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.kernel_name.restype = self._library.failure.restype = ctypes.c_char_p
        self._library.launches.restype = ctypes.c_int64
        self._library.choose.argtypes = (ctypes.c_int32, ctypes.c_uint64, ctypes.c_uint64)
        self._library.launch.argtypes = (ctypes.c_void_p,) * 4
        self.names = tuple(self._names())
        self._chosen = (Order.FORWARD, 0, 0)

    def _names(self) -> Iterator[str]:
        index = 0
        while (name := self._library.kernel_name(index)) is not None:
            yield name.decode()
            index += 1

    @property
    def address(self) -> int:
        """Where the function is that stands for cuLaunchKernelEx."""
        address = ctypes.cast(self._library.launch, ctypes.c_void_p).value
        assert address is not None
        return address

    def handle(self, name: str) -> int:
        """What stands for a kernel's CUfunction."""
        return self.names.index(name) + 1

    def largest_block(self, name: str) -> int:
        """The most threads that a block of a kernel may have, from its launch bounds."""
        return int(self._library.largest_block(self.names.index(name)))

    def _argument_sizes(self, name: str) -> list[int]:
        """How many bytes each of a kernel's arguments has."""
        sizes = map(self._library.argument_size, itertools.repeat(self.names.index(name)), itertools.count())
        return list(itertools.takewhile(bool, sizes))

    def launches(self) -> dict[str, int]:
        """How often each kernel was launched since the library was loaded."""
        return {name: int(self._library.launches(index)) for index, name in enumerate(self.names)}

    @property
    def failure(self) -> str:
        """What was wrong with the last launch; empty where nothing was."""
        return str(self._library.failure().decode())

    @contextmanager
    def running(
        self, order: Order = Order.FORWARD, *, seed: int = 0, approximation: int = 0
    ) -> Iterator[None]:
        """Threads and blocks take turns in `order`, and afterwards as they did before.

        Args:
            order: of threads and blocks.
            seed: which shuffled order it is.
            approximation: draws the errors of approximate instructions; 0 is none.
        """
        before = self._chosen
        self._choose(order, seed, approximation)
        try:
            yield
        finally:
            self._choose(*before)

    def _choose(self, order: Order, seed: int, approximation: int) -> None:
        self._chosen = order, seed, approximation
        self._library.choose(*self._chosen)

    def launch(self, name: str, grid: tuple[int, ...], block: int, *arguments: Argument) -> None:
        """Run a kernel to its end, and look at the guards of all buffers.

        Raises:
            LaunchError: the launch is not allowed, or the threads of a block got stuck.
        """
        config = LaunchConfig(grid=(*grid, 1, 1)[:3], block=(block, 1, 1))
        buffers = [argument for argument in arguments if isinstance(argument, Buffer)]
        values = [_value(argument) for argument in arguments]
        sizes = [ctypes.sizeof(value) for value in values]
        assert sizes == self._argument_sizes(name), f"{name} takes other arguments"
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        if self._library.launch(ctypes.byref(config), self.handle(name), pointers, None):
            raise LaunchError(_located(self.failure, buffers))
        for buffer in buffers:
            buffer.check()


def _located(failure: str, buffers: Iterable[Buffer]) -> str:
    """The failure, with the place of an address that it names."""
    found = re.search(r"at 0x([0-9a-f]+)$", failure)
    places = [buffer.beside(int(found[1], 16)) for buffer in buffers] if found else []
    return ", ".join((failure, *filter(None, places)))


def _value(argument: Argument) -> ctypes.c_void_p | ctypes.c_int | ctypes.c_float | ctypes.Structure:
    if argument is None or isinstance(argument, ctypes.Structure):
        return argument or ctypes.c_void_p(None)
    if isinstance(argument, Buffer):
        return ctypes.c_void_p(argument.address)
    return ctypes.c_int(argument) if isinstance(argument, int) else ctypes.c_float(argument)


@cache
def emulator(text: str = "") -> Emulator:
    """The package's kernels, or those in `text`; compiled once in each process."""
    with tempfile.TemporaryDirectory() as folder:
        return Emulator(compile_kernels(text or kernels_text(), Path(folder)))
