"""What the binaries of one wheel need and hold, each streamed once where that is enough."""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from packaging.version import Version

from onnxsd.errors import BadInputError
from refresh import elf, pe
from refresh.fatbin import FatbinScanner
from refresh.kept import Kept, NotKept
from refresh.remote_zip import Member, RemoteZip

Stream = Callable[[], Iterator[bytes]]
Progress = Callable[[int], None]  # bytes that went by

_FOLDER = re.compile(r"(?:[^/]+\.data/(?:purelib|platlib)/)?onnxruntime/capi/([^/]+)$")
_CUDA = re.compile(r"(lib)?onnxruntime_providers_cuda\.(so|dll)$")
_TENSORRT = re.compile(r"(lib)?onnxruntime_providers_tensorrt\.(so|dll)$")
_MODULE = re.compile(r"onnxruntime_pybind11_state\..*?(so|pyd)$")
_BINARY = re.compile(r"\.(so|dll|pyd)(\.[\d.]+)?$")
_OF_TENSORRT = re.compile(r"lib(nvinfer|nvonnxparser)")
_BUILD_NOTES = ("build_and_package_info.py", "version_info.py")  # the latter on Windows only
_PASSES = 4
_AROUND_BYTES = 1 << 20  # kept around a part that is known to be wanted: the names follow the table
# Every system has them, or the tags and symbol versions say which one it takes.
_ALWAYS_THERE = re.compile(
    r"lib(c|m|dl|rt|pthread|z|gcc_s|stdc\+\+)\.so\.\d+$|ld-linux.*|linux-vdso.*|(lib)?onnxruntime.*"
    r"|(kernel32|advapi32|user32|shell32|ole32|dxcore|dxgi|setupapi|dbghelp|shlwapi|python\w*)\.dll$|api-ms-win.*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """One shared library of a wheel."""

    needed: tuple[str, ...]
    versions: tuple[str, ...]
    run_path: str
    executable_stack: bool | None
    fatbins: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelBinaries:
    """What the binaries of one wheel say together; None: none of them says it."""

    needed: tuple[str, ...]
    module_needed: tuple[str, ...]
    tensorrt_needed: tuple[str, ...]
    glibc: str | None
    glibcxx: str | None
    executable_stack: bool | None
    fatbins: dict[str, int]  # of the CUDA provider: how many hold code for this set of targets
    cuda: str | None  # the toolkit of the build


def read_binaries(archive: RemoteZip, progress: Progress) -> WheelBinaries:
    """The libraries that a wheel's providers need, its symbol versions and its GPU code."""
    files = _files(archive)
    found = {
        name: read_binary(functools.partial(archive.stream, member), progress, member.name)
        for name, member in files.items()
        if _BINARY.search(name)
    }
    provider = _one(found, _CUDA)
    if provider is None:
        raise BadInputError(f"{archive.name} holds no CUDA provider")
    module, tensorrt = _one(found, _MODULE), _one(found, _TENSORRT)
    preloaded = _preloaded(archive, files)
    versions = [version for binary in found.values() for version in binary.versions]
    stacks = [binary.executable_stack for binary in found.values() if binary.executable_stack is not None]
    return WheelBinaries(
        needed=_beyond_system(
            (*provider.needed, *(name for name in preloaded if not _OF_TENSORRT.match(name)))
        ),
        module_needed=_beyond_system(module.needed) if module else (),
        tensorrt_needed=_beyond_system((*tensorrt.needed, *preloaded)) if tensorrt else (),
        glibc=_highest("GLIBC_", versions),
        glibcxx=_highest("GLIBCXX_", versions),
        executable_stack=any(stacks) if stacks else None,
        fatbins=provider.fatbins,
        cuda=_toolkit(archive, files, found),
    )


def inflated_bytes(archive: RemoteZip) -> int:
    """How much of a wheel its binaries take once inflated, for a progress bar."""
    files = _files(archive)
    return sum(member.size_bytes for name, member in files.items() if _BINARY.search(name))


def _files(archive: RemoteZip) -> dict[str, Member]:
    """The files beside the Python module, by name; 1.11 for Windows keeps them in a .data folder."""
    pairs = ((_FOLDER.match(name), member) for name, member in archive.members.items())
    return {match.group(1): member for match, member in pairs if match}


def read_binary(stream: Stream, progress: Progress, name: str) -> Binary:
    """What one library asks for and holds.

    The first pass looks for GPU code and keeps the parts that the headers point at; where a table lies
    elsewhere, the stream is read again with that part wanted.
    """
    wanted: list[tuple[int, int]] = []
    scanner = FatbinScanner()
    try:
        for number in range(_PASSES):
            kept = _pass(stream, wanted, scanner if number == 0 else None, progress)
            missing = _try(kept, scanner.fatbins, name)
            if isinstance(missing, Binary):
                return missing
            wanted.append((max(0, missing.start - _AROUND_BYTES), missing.stop + _AROUND_BYTES))
    except (struct.error, ValueError, LookupError) as error:
        raise BadInputError(f"{name} is damaged: {error!r}") from error
    raise BadInputError(f"{name} is damaged: its tables were not found in {_PASSES} passes")


def _pass(
    stream: Stream, wanted: list[tuple[int, int]], scanner: FatbinScanner | None, progress: Progress
) -> Kept:
    pieces = stream()
    head = b""
    while len(head) < pe.HEADER_BYTES and (piece := next(pieces, b"")):
        head += piece
    kept = Kept([*wanted, *_pointed_at(head)])
    while head:
        kept.feed(head)
        if scanner:
            scanner.feed(head)
            progress(len(head))
        head = next(pieces, b"")
    return kept


def _pointed_at(head: bytes) -> Iterator[tuple[int, int]]:
    """The part that the headers at the start of a file name, and what lies around it."""

    def read(start: int, size_bytes: int) -> bytes:
        return head[start : start + size_bytes]

    if head.startswith(elf.MAGIC):
        start, stop = elf.dynamic_range(head, read)
    elif head.startswith(pe.MAGIC):
        start, stop = pe.import_range(head)
    else:
        return
    yield max(0, start - _AROUND_BYTES), stop + _AROUND_BYTES


def _try(kept: Kept, fatbins: dict[str, int], name: str) -> Binary | NotKept:
    """The binary, or the part that is wanted for it."""
    try:
        return _parsed(kept, fatbins, name)
    except NotKept as missing:
        return missing


def _parsed(kept: Kept, fatbins: dict[str, int], name: str) -> Binary:
    magic = kept.read(0, 4)
    if magic.startswith(pe.MAGIC):
        needed = pe.imports(kept.read)
        return Binary(needed=needed, versions=(), run_path="", executable_stack=None, fatbins=fatbins)
    if magic != elf.MAGIC:
        raise BadInputError(f"{name} is neither an ELF nor a PE file")
    found = elf.parse(kept.read)
    return Binary(
        needed=found.needed,
        versions=found.versions,
        run_path=found.run_path,
        executable_stack=found.executable_stack,
        fatbins=fatbins,
    )


def _one(found: dict[str, Binary], pattern: re.Pattern[str]) -> Binary | None:
    return next((binary for name, binary in found.items() if pattern.match(name)), None)


def _beyond_system(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if not _ALWAYS_THERE.match(name)}))


def _highest(prefix: str, versions: list[str]) -> str | None:
    numbers = [text.removeprefix(prefix) for text in versions if text.startswith(prefix)]
    return max((text for text in numbers if text[:1].isdigit()), key=Version, default=None)


def _toolkit(archive: RemoteZip, files: dict[str, Member], found: dict[str, Binary]) -> str | None:
    """The CUDA toolkit of the build: from what the wheel says of itself, else from a library path."""
    for name in _BUILD_NOTES:
        text = _text(archive, files, name)
        if said := re.search(r"""^cuda_version\s*=\s*["'](\d+\.\d+)""", text, re.MULTILINE):
            return said.group(1)
    paths = [path for binary in found.values() for path in re.findall(r"cuda-(\d+\.\d+)", binary.run_path)]
    return max(paths, key=Version, default=None)


def _preloaded(archive: RemoteZip, files: dict[str, Member]) -> tuple[str, ...]:
    """What `import onnxruntime` loads for the providers: up to 1.15 their own lists of needs were emptied."""
    return tuple(re.findall(r"CDLL\(\s*[\"']([^\"']+)", _text(archive, files, "_ld_preload.py")))


def _text(archive: RemoteZip, files: dict[str, Member], name: str) -> str:
    """A small file of the folder; empty where it is not there."""
    return archive.read(files[name].name).decode("utf-8") if name in files else ""
