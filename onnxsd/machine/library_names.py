"""What the files of CUDA, cuDNN and TensorRT are called, and what a name says of the version."""

from __future__ import annotations

import re

from onnxsd.records import Dotted

_COMPONENTS = {"nvinfer": "tensorrt"}  # all others are called as their file is
_STEMS = r"cudart|cublasLt|cublas|cudnn|cufft|curand|nvrtc|nvJitLink|nvinfer|cuda"
# What a wheel asks the loader for: the major alone, but for two libraries of CUDA 11 (libcudart.so.11.0,
# libnvrtc.so.11.2).
_LINUX = re.compile(rf"lib({_STEMS})\.so\.(\d+(?:(?<=\.11)\.\d)?)")
_LINUX_FULL = re.compile(rf"lib(?:{_STEMS})\.so\.(\d+(?:\.\d+)+)")
# cudart64_12.dll, cudart64_110.dll, nvrtc64_120_0.dll, nvJitLink_120_0.dll, cudnn64_9.dll, nvinfer_10.dll
_WINDOWS = re.compile(
    r"(cudart|cublasLt|cublas|cudnn|cufft|curand|nvrtc|nvJitLink|nvinfer)(?:64)?_(\d+)(?:_\d)?\.dll"
)
_DRIVER_DLL = "nvcuda.dll"
_WITH_MINOR_AT = 90  # cudart64_110 is 11.0: no major is that high


def component_of(file_name: str) -> str | None:
    """The component whose library a loader would take this file for; None for any other file."""
    if file_name == _DRIVER_DLL:
        return "cuda"
    found = _LINUX.fullmatch(file_name) or _WINDOWS.fullmatch(file_name)
    if found is None:
        return None
    return _COMPONENTS.get(found.group(1), found.group(1))


def version_in(file_name: str) -> Dotted | None:
    """The version that a file's name tells; of most, the major alone."""
    full = _LINUX_FULL.fullmatch(file_name) or _LINUX.fullmatch(file_name)
    if full is not None:
        return Dotted.parse(full.groups()[-1])
    found = _WINDOWS.fullmatch(file_name)
    if found is None:
        return None
    number = int(found.group(2))
    if number < _WITH_MINOR_AT:
        return Dotted.parse(str(number))
    return Dotted.parse(f"{number // 10}.{number % 10}")
