"""What a package that is not installed would bring, as far as a what-if needs to know."""

from __future__ import annotations

import re

from packaging.version import Version

from onnxsd.machine.facts import Library, OperatingSystem, Origin
from onnxsd.records import Dotted

# NVIDIA's packages of CUDA 11 and 12 are called nvidia-NAME-cu12 and install into nvidia/FOLDER/lib; those of
# CUDA 13 are called nvidia-NAME and share nvidia/cu13/lib. cuDNN keeps its suffix and its folder.
_FOLDERS = {
    "cuda-runtime": ("cuda_runtime", ("cudart",)),
    "cublas": ("cublas", ("cublas", "cublasLt")),
    "cudnn": ("cudnn", ("cudnn",)),
    "cufft": ("cufft", ("cufft",)),
    "curand": ("curand", ("curand",)),
    "cuda-nvrtc": ("cuda_nvrtc", ("nvrtc",)),
    "nvjitlink": ("nvjitlink", ("nvJitLink",)),
}
_PACKAGE = re.compile(r"nvidia-([a-z-]+?)(?:-cu(\d+))?")
_MODULES = re.compile(r"torch|numpy|onnx|diffusers|transformers|tensorrt|onnxsd")
# Libraries whose number is not CUDA's major; cuFFT's and cuRAND's is their own package's.
_OWN_NUMBER = ("cudnn", "cufft", "curand")
_OF_CUDA_11 = {"cudart": "11.0", "nvrtc": "11.2"}


def module_of(package: str) -> str | None:
    """The import name that a package owns, of those that matter."""
    if package.startswith(("onnxruntime", "ort-")):
        return "onnxruntime"
    return package if _MODULES.fullmatch(package) else None


def libraries_of(package: str, version: Version, folder: str, system: OperatingSystem) -> tuple[Library, ...]:
    """The libraries that one of NVIDIA's packages installs below a folder of Python's path, on Linux."""
    found = _PACKAGE.fullmatch(package)
    if system is not OperatingSystem.LINUX or found is None or found.group(1) not in _FOLDERS:
        return ()
    inside, components = _FOLDERS[found.group(1)]
    place = inside if found.group(2) else "cu13"
    return tuple(
        _library(component, package, version, f"{folder}/nvidia/{place}/lib", found.group(2))
        for component in components
    )


def _library(component: str, package: str, version: Version, folder: str, suffix: str | None) -> Library:
    number = str(version.major)
    if suffix is not None and component not in _OWN_NUMBER:
        number = _OF_CUDA_11.get(component, suffix) if suffix == "11" else suffix
    soname = f"lib{component}.so.{number}"
    return Library(
        component=component,
        soname=soname,
        path=f"{folder}/{soname}",
        version=Dotted.parse(version.base_version),
        origin=Origin.PIP,
        owner=package,
    )
