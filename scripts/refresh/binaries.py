"""What the binaries of one wheel say together."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from packaging.version import Version

from onnxsd.errors import BadInputError
from refresh.binary import Binary, Progress, read_binary
from refresh.remote_zip import Member, RemoteZip

_FOLDER = re.compile(r"(?:[^/]+\.data/(?:purelib|platlib)/)?onnxruntime/capi/([^/]+)$")
_CUDA = re.compile(r"(lib)?onnxruntime_providers_cuda\.(so|dll)$")
_TENSORRT = re.compile(r"(lib)?onnxruntime_providers_tensorrt\.(so|dll)$")
_MODULE = re.compile(r"onnxruntime_pybind11_state\..*?(so|pyd)$")
_BINARY = re.compile(r"\.(so|dll|pyd)(\.[\d.]+)?$")
_OF_TENSORRT = re.compile(r"lib(nvinfer|nvonnxparser)")
_BUILD_NOTES = ("build_and_package_info.py", "version_info.py")  # the latter on Windows only
# Every system has them, or the tags and symbol versions say which one it takes.
_ALWAYS_THERE = re.compile(
    r"lib(c|m|dl|rt|pthread|z|gcc_s|stdc\+\+)\.so\.\d+$|ld-linux.*|linux-vdso.*|(lib)?onnxruntime.*"
    r"|(kernel32|advapi32|user32|shell32|ole32|dxcore|dxgi|setupapi|dbghelp|shlwapi|python\w*)\.dll$|api-ms-win.*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelBinaries:
    """Facts of one wheel; None: none of its binaries says it."""

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
