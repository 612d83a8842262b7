"""What a failed session's own words say: the library that was not found, CUDA's error, how it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass

# glibc's loader: "... with error: libcublasLt.so.13: cannot open shared object file: No such file ..."
_LINUX_LIBRARY = re.compile(r"(lib[\w+.-]+\.so(?:\.\d+)*): cannot open shared object file")
# onnxruntime on Windows: '... which depends on "cublasLt64_12.dll" which is missing. (Error 126: ...)'
_WINDOWS_LIBRARY = re.compile(r'which depends on "([^"]+\.dll)" which is missing', re.IGNORECASE)
_LOADING = "Failed to load library"  # stands behind the place where it was thrown
_CUDA_FAILURE = re.compile(r"CUDA failure (\d+): ([^;\n]+)")

# CUDA's own numbers (cudaError_t), and what they mean for a runtime that starts.
_MEANINGS = {
    35: "the driver is older than the CUDA of this build",
    36: "the libraries call an entry point that this driver does not have",
    46: "another process holds the GPU for itself, or its compute mode forbids sharing",
    100: "CUDA sees no device: hidden by a variable, or not given to the container",
    101: "the number of the device is not among those that CUDA sees",
    209: "the build holds no code for this GPU",
    222: "the driver is older than the toolkit that made the PTX, and cannot compile it",
    802: "NVLink's fabric manager has not set the GPU up",
    803: "libcuda is not of the same version as the loaded kernel module",
    804: "a libcuda for forward compatibility was loaded on a GPU that does not allow it",
    999: "the driver failed inside; often nvidia-uvm after a suspend",
}
_BY_PACKAGES = (35, 36, 209, 222)
# How a process ended that could not speak: POSIX signals, and Windows' exit codes (NTSTATUS).
_END = re.compile(r"ended (?:by signal|with exit code) (\d+)")
_ENDS = {
    4: "an instruction that this processor does not have",
    6: "it gave up by itself (abort)",
    9: "it was killed, mostly because memory ran out",
    11: "it touched memory that is not its own: libraries of two versions, or damaged files",
    0xC0000005: "it touched memory that is not its own: libraries of two versions, or damaged files",
    0xC000001D: "an instruction that this processor does not have",
    0xC0000135: "a DLL was not found",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaFailure:
    """An error that CUDA gave, by its number."""

    number: int
    words: str

    @property
    def by_packages(self) -> bool:
        """Whether other packages can help: those of another CUDA, or with code for this GPU."""
        return self.number in _BY_PACKAGES or self.number not in _MEANINGS

    @property
    def meaning(self) -> str:
        """What the number means here; CUDA's own words where that is not on record."""
        return _MEANINGS.get(self.number, self.words)


def missing_library(text: str) -> str | None:
    """The library that the loader did not find. It names the first alone, whatever else is missing."""
    found = _LINUX_LIBRARY.search(text) or _WINDOWS_LIBRARY.search(text)
    return found.group(1) if found else None


def cuda_failure(text: str) -> CudaFailure | None:
    """The first error of CUDA in the text."""
    found = _CUDA_FAILURE.search(text)
    return CudaFailure(number=int(found.group(1)), words=found.group(2).strip()) if found else None


def meaning_of_end(text: str) -> str | None:
    """What the signal or exit code means that ended a process: `ended by signal 4`."""
    found = _END.search(text)
    meaning = _ENDS.get(int(found.group(1))) if found else None
    return f"{found.group(0)}: {meaning}" if found and meaning else None


def telling_line(text: str) -> str | None:
    """The words that name the reason, out of a log of C++ signatures; None where none do."""
    library, failure = missing_library(text), cuda_failure(text)
    if library is not None:
        line = next(line for line in text.splitlines() if missing_library(line) == library)
        return line[max(line.find(_LOADING), 0) :]
    return f"CUDA error {failure.number}: {failure.words}" if failure else None


def reason_in(text: str) -> str | None:
    """Why a session failed, in one sentence; None where the text says nothing that is known."""
    library, failure = missing_library(text), cuda_failure(text)
    if library is not None:
        return f"{library} is not found (the loader names only the first that is missing)"
    return f"CUDA error {failure.number}: {failure.meaning}" if failure else meaning_of_end(text)
