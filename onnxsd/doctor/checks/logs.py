"""Checks of what onnxruntime said while the probe ran: faults that no fact of the machine shows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.checks.libraries import missing_libraries
from onnxsd.doctor.finding import ByHand, Finding, Severity
from onnxsd.doctor.native_log import missing_library
from onnxsd.doctor.proof import line_with, said
from onnxsd.machine import OperatingSystem

_SYMBOL = re.compile(r"(GLIBCXX|CXXABI)_([\d.]+)['\"`´]? not found")
_OTHER_API = re.compile(r"requested API version \[?(\d+)\]? is not|version \[(\d+)\] is not supported", re.I)
_VC_RUNTIME = ("msvcp140", "vcruntime140", "(1114)", "error 1114", "initialization routine failed")
_DISCOVERY = ("device discovery failed", "GetGpuDevices", "/sys/class/drm")
_VC_REDISTRIBUTABLE = "https://aka.ms/vs/17/release/vc_redist.x64.exe"


@check("libstdcxx")
def libstdcxx_too_old(case: Case) -> Iterator[Finding]:
    """The C++ library that was loaded is older than the wheel needs.

    onnxruntime is C++, and takes the libstdc++ that the process finds first: conda's, one in
    LD_LIBRARY_PATH, or that of an old system. Where it lacks a symbol version, `import onnxruntime` fails.

    Sources: microsoft/onnxruntime#13629, #1001.
    """
    found = _SYMBOL.search(said(case))
    if found is None:
        return
    path = case.machine.variable("LD_LIBRARY_PATH")
    yield Finding(
        severity=Severity.ERROR,
        summary=f"the libstdc++ that is loaded lacks {found.group(1)}_{found.group(2)}",
        because="it is older than the compiler that onnxruntime was built with",
        evidence=(
            line_with(said(case), found.group(0)) or "",
            *([f"LD_LIBRARY_PATH={path}"] if path else []),
        ),
        remedies=(
            ByHand(
                steps=(
                    "take folders with an old libstdc++ out of LD_LIBRARY_PATH",
                    "with conda: conda install -c conda-forge libstdcxx-ng",
                )
            ),
        ),
    )


@check("windows-runtime")
def windows_runtime_too_old(case: Case) -> Iterator[Finding]:
    """Microsoft's C++ runtime on this Windows is too old for onnxruntime.

    From 1.21 on onnxruntime needs a newer msvcp140.dll than many programs bring: `DLL load failed ... A
    dynamic link library (DLL) initialization routine failed` (1114). An old copy in the folder of Python, or
    of conda, is taken before the system's.

    Sources: microsoft/onnxruntime#24843, #28812, #24120; google/magika#1092.
    """
    line = line_with(said(case), *_VC_RUNTIME)
    if case.machine.os is not OperatingSystem.WINDOWS or line is None:
        return
    yield Finding(
        severity=Severity.ERROR,
        summary="onnxruntime does not load: Microsoft's C++ runtime is missing or too old",
        because="its DLL needs the newest Visual C++ 2015-2022 redistributable",
        evidence=(line,),
        remedies=(ByHand(steps=(f"install {_VC_REDISTRIBUTABLE}, and start Windows anew",)),),
    )


@check("windows-missing-dll")
def windows_missing_dll(case: Case) -> Iterator[Finding]:
    """Windows did not find a DLL that onnxruntime's CUDA provider depends on.

    Said where the CUDA libraries themselves are found: what is missing then is one of theirs, such as cuDNN
    8's zlibwapi.dll, or they lie where Windows does not look. Older releases say only `LoadLibrary failed
    with error 126` and name the provider, not the DLL that is missing; newer ones name the first. CUDA 13's
    packages keep their DLLs in bin/x86_64, where no PATH looks: onnxsd loads them before it makes a session.

    Sources: microsoft/onnxruntime#21769, #20049, #22000, #11826; Gourieff/ComfyUI-ReActor#195.
    """
    text = said(case)
    name, line = missing_library(text), line_with(text, "error 126")
    if case.machine.os is not OperatingSystem.WINDOWS or line is None:
        return
    if missing_libraries(case):  # `library-missing` names them all
        return
    row = case.matrix.package_of(name) if name else None
    brought = f"; {row.package} brings it" if row else ""
    yield Finding(
        severity=case.stops_generate,
        summary=f"Windows did not find {name or 'a DLL that the CUDA provider needs'}",
        because=f"the CUDA provider does not load without it{brought}",
        evidence=(line,),
        remedies=(case.reinstall(beside=True),)
        if row
        else (ByHand(steps=("install what it belongs to, or put its folder on PATH",)),),
    )


@check("windows-old-dll")
def windows_old_dll(case: Case) -> Iterator[Finding]:
    """Another, older onnxruntime.dll was loaded than the one of the package.

    Windows ML keeps one in System32, and programs leave theirs on PATH. The package's module asks it for a
    version of the interface that it does not have.

    Sources: k2-fsa/sherpa-onnx#2528; open-mmlab/mmdeploy#2491; microsoft/onnxruntime#13606.
    """
    found = _OTHER_API.search(said(case))
    if case.machine.os is not OperatingSystem.WINDOWS or found is None:
        return
    yield Finding(
        severity=Severity.ERROR,
        summary="an older onnxruntime.dll was loaded than the package's own",
        because="it does not know the interface that the package asks for",
        evidence=(line_with(said(case), found.group(0)) or "",),
        remedies=(
            ByHand(
                steps=("take the folder of the other onnxruntime.dll out of PATH",),
                commands=("where.exe onnxruntime.dll",),
            ),
        ),
    )


@check("cpu-affinity")
def cpu_affinity(case: Case) -> Iterator[Finding]:
    """The process may not use all processors, and onnxruntime fails to bind its threads to them.

    It counts the processors of the machine; in a container or a batch job that was given some of them, each
    thread prints `pthread_setaffinity_np failed`. Results are right, work on the CPU may be slower.

    Sources: microsoft/onnxruntime#8313, #10113; C0untFloyd/roop-unleashed#769.
    """
    line = line_with(said(case), "pthread_setaffinity_np failed")
    if line is not None:
        yield Finding(
            severity=Severity.INFO,
            summary="onnxruntime cannot bind its threads to processors that this process may not use",
            because="the container or the job has some of the machine's processors; results are right",
            evidence=(line,),
        )


@check("log-noise")
def log_noise(case: Case) -> Iterator[Finding]:
    """onnxruntime warns that GPU device discovery failed, and it means nothing.

    From 1.23 on it reads /sys/class/drm for a list of devices that CUDA does not use. In virtual machines,
    containers and WSL that folder is not as it expects.

    Sources: microsoft/onnxruntime#26763, #26300, #27806.
    """
    line = line_with(said(case), *_DISCOVERY)
    if line is not None:
        yield Finding(
            severity=Severity.INFO,
            summary="onnxruntime's warning about GPU device discovery is harmless",
            because="it reads a list of devices that the CUDA provider does not use",
            evidence=(line,),
        )


CHECKS = (
    libstdcxx_too_old,
    windows_runtime_too_old,
    windows_missing_dll,
    windows_old_dll,
    cpu_affinity,
    log_noise,
)
