"""NVRTC, NVIDIA's compiler as a library: from the text of kernels to a cubin.

`onnxruntime-gpu[cuda]` brings it along; it needs neither a CUDA toolkit nor a GPU to compile.

Source: NVRTC documentation, sections Error Handling, General Information Query, Compilation.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from onnxsd.errors import NotReadyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What a compilation gives: machine code for one architecture, and what the compiler said."""

    cubin: bytes
    log: str


class Nvrtc:
    """One NVRTC library.

    version: `(13, 5)`. architectures: those that it compiles for, 90 for sm_90, rising.
    """

    def __init__(self, library: Any) -> None:
        """`library` is libnvrtc."""
        self._library = library
        self.version = self._read_version()
        self.architectures = self._read_architectures()

    def __str__(self) -> str:
        return "NVRTC {}.{}".format(*self.version)

    def compile(
        self, source: str, *, name: str, architecture: int, options: tuple[str, ...] = ()
    ) -> Compiled:
        """The cubin of one translation unit, which runs on its architecture and later ones of its major.

        Args:
            source: CUDA C++ that includes nothing: NVRTC has no headers here.
            name: what the log calls the source.

        Raises:
            NotReadyError: with the first error of the log.
        """
        program = ctypes.c_void_p()
        created = self._library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), name.encode(), 0, None, None
        )
        self._require(created, "nvrtcCreateProgram")
        try:
            # A real architecture and not a virtual one: PTX would be compiled anew by each driver.
            all_options = [f"--gpu-architecture=sm_{architecture}", *options]
            words = (ctypes.c_char_p * len(all_options))(*(word.encode() for word in all_options))
            status = self._library.nvrtcCompileProgram(program, len(words), words)
            log = self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            if status:
                raise self._failed(status, log, f"compile {name} for sm_{architecture}")
            return Compiled(cubin=self._read(program, "CUBIN"), log=log)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._require(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), what)
        buffer = ctypes.create_string_buffer(size.value)
        self._require(getattr(self._library, f"nvrtcGet{what}")(program, buffer), what)
        return buffer.raw

    def _read_version(self) -> tuple[int, int]:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._require(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
        return major.value, minor.value

    def _read_architectures(self) -> tuple[int, ...]:
        count = ctypes.c_int()
        self._require(
            self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "nvrtcGetNumSupportedArchs"
        )
        found = (ctypes.c_int * count.value)()
        self._require(self._library.nvrtcGetSupportedArchs(found), "nvrtcGetSupportedArchs")
        return tuple(sorted(found))

    def _require(self, status: int, name: str) -> None:
        if status:
            raise NotReadyError(f"NVRTC's {name} failed: {self._name_of(status)}")

    def _failed(self, status: int, log: str, doing: str) -> NotReadyError:
        return NotReadyError(f"{self} cannot {doing}: {first_error(log) or self._name_of(status)}")

    def _name_of(self, status: int) -> str:
        name = self._library.nvrtcGetErrorString
        name.restype = ctypes.c_char_p
        return str(name(status).decode())


def first_error(log: str) -> str | None:
    """The first line of a compiler's log that names an error, else its first line; None where it is empty."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[0] if lines else None)


def architecture_for(capability: tuple[int, int], nvrtc: Nvrtc) -> int:
    """The architecture to compile for: the GPU's own, else the latest one before it of the same major.

    A cubin runs on its own architecture and on later ones of its major, on no other
    (CUDA C++ Programming Guide, Binary Compatibility).
    """
    major, minor = capability
    fitting = [one for one in nvrtc.architectures if one // 10 == major and one % 10 <= minor]
    if not fitting:
        known = ", ".join(f"sm_{one}" for one in nvrtc.architectures)
        raise NotReadyError(
            f"{nvrtc} compiles nothing for a GPU of compute capability {major}.{minor}: it knows {known}",
            hint="install the NVRTC that the installed onnxruntime-gpu[cuda] asks for",
        )
    return max(fitting)
