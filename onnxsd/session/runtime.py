"""The installed ONNX Runtime: which package and version it is, whether for CUDA, whether it will serve."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from onnxsd.errors import NotReadyError
from onnxsd.session.settings import LogLevel

# The floors that the extras in setup.cfg ask for. 1.27 is left out for CUDA 13: its extras name packages that
# do not exist, and cuDNN attention is chosen by itself from 1.28.
# 1.23.2 is the newest for Python 3.10, which has CPU wheels only.
MINIMUM = Version("1.23.2")
MINIMUM_CUDA12 = Version("1.24")
MINIMUM_CUDA13 = Version("1.28")

_DOCTOR = "`onnxsd doctor` names the wheel for this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One installed distribution that provides the import name `onnxruntime`."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The ONNX Runtime that is imported: its version, owners and providers.

    `cuda` is the CUDA version of the build (`"13.0"`), `None` for a CPU build. `providers` are those compiled
    in, which says nothing about what this machine can start: only a session proves that.
    """

    version: Version
    packages: tuple[Package, ...]
    cuda: str | None
    providers: tuple[str, ...]

    def __str__(self) -> str:
        owners = ", ".join(str(package) for package in self.packages)
        return owners or f"onnxruntime {self.version}"


def load() -> Any:
    """The module `onnxruntime`; an error where it is missing, broken, provided twice or too old."""
    runtime = available()
    require_one_owner(runtime.packages)
    require_floor(runtime)
    return _module()


@contextlib.contextmanager
def talkative() -> Iterator[None]:
    """Let ONNX Runtime's own log be written while reasons are looked for in it.

    Otherwise it is silent: what fails raises an exception, and the log calls every plan that cuDNN refuses
    an error although the next one is taken.
    """
    module = _module()
    module.set_default_logger_severity(LogLevel.WARNING)
    try:
        yield
    finally:
        module.set_default_logger_severity(LogLevel.FATAL)


@functools.cache
def available() -> Runtime:
    """The installed runtime as it is, fit for use or not; an error only where it cannot be imported."""
    module = _module()
    return Runtime(
        version=Version(module.__version__),
        packages=owners(),
        cuda=getattr(module, "cuda_version", None) or None,
        providers=tuple(module.get_available_providers()),
    )


def owners(path: Iterable[str] | None = None) -> tuple[Package, ...]:
    """The distributions on `path` (`sys.path`) that install files under `onnxruntime/`, by name."""
    found: dict[str, Package] = {}
    for distribution in importlib.metadata.distributions(path=list(sys.path if path is None else path)):
        name = canonicalize_name(distribution.name or "")
        if name.startswith(("onnxruntime", "ort-")) and _provides_runtime(distribution):
            # The first one on the path is the one that is imported.
            found.setdefault(name, Package(name=name, version=distribution.version))
    return tuple(found[name] for name in sorted(found))


def require_one_owner(packages: tuple[Package, ...]) -> None:
    """Refuse an environment in which several packages wrote the files of `onnxruntime`."""
    if len(packages) < 2:
        return
    names = " ".join(package.name for package in packages)
    raise NotReadyError(
        f"{len(packages)} packages provide onnxruntime and overwrite each other's files: "
        + ", ".join(str(package) for package in packages),
        hint=f"pip uninstall -y {names}, then install one of them; {_DOCTOR}",
    )


def require_floor(runtime: Runtime) -> None:
    """Refuse a runtime that is older than what onnxsd's graphs need."""
    if runtime.version < MINIMUM:
        name = runtime.packages[0].name if runtime.packages else "onnxruntime"
        raise NotReadyError(
            f"onnxsd needs onnxruntime >= {MINIMUM}, and {runtime} is installed",
            hint=f"pip install -U '{name}>={MINIMUM}'; {_DOCTOR}",
        )


def require_cuda_floor(runtime: Runtime) -> None:
    """Refuse a CUDA build that is older than what the engine's CUDA graphs need."""
    if runtime.cuda is None:
        return
    floor = MINIMUM_CUDA13 if int(runtime.cuda.split(".")[0]) >= 13 else MINIMUM_CUDA12
    if runtime.version < floor:
        raise NotReadyError(
            f"CUDA needs onnxruntime-gpu >= {MINIMUM_CUDA13}, or >= {MINIMUM_CUDA12} built for CUDA 12; "
            f"{runtime}, built for CUDA {runtime.cuda}, is installed",
            hint=f"pip install -U 'onnxruntime-gpu[cuda,cudnn]>={MINIMUM_CUDA13}'; {_DOCTOR}",
        )


@functools.cache
def _module() -> Any:
    try:
        module = importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "onnxruntime":
            raise NotReadyError(
                f"onnxruntime needs {error.name}, which is not installed", hint=_DOCTOR
            ) from error
        raise NotReadyError("onnxruntime is not installed", hint=_DOCTOR) from error
    except (ImportError, OSError, AttributeError) as error:
        raise NotReadyError(
            f"onnxruntime is installed but cannot be imported: {error}", hint=_DOCTOR
        ) from error
    if not hasattr(module, "InferenceSession"):
        # What is left when one of two packages is uninstalled: the folder, without the files both had.
        raise NotReadyError(
            "onnxruntime is installed incompletely: its files are missing",
            hint=f"pip install --force-reinstall the package that should be there; {_DOCTOR}",
        )
    module.set_default_logger_severity(LogLevel.FATAL)
    return module


def _provides_runtime(distribution: importlib.metadata.Distribution) -> bool:
    top_level = distribution.read_text("top_level.txt")
    if top_level is not None:
        return "onnxruntime" in top_level.split()
    return any(file.parts[0] == "onnxruntime" for file in distribution.files or ())
