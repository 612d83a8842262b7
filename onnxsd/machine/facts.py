"""The facts about a machine, as read and as probed; nothing here judges them or reads anything."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from onnxsd.records import Dotted, decode, encode

SCHEMA = 1


class OperatingSystem(enum.Enum):
    """The systems that wheels are built for."""

    LINUX = "linux"
    WINDOWS = "windows"
    MACOS = "macos"
    OTHER = "other"


class CpuArchitecture(enum.Enum):
    """The processors that wheels are built for."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"
    OTHER = "other"


class Environment(enum.Enum):
    """Where this Python's packages go."""

    VENV = "venv"
    CONDA = "conda"
    SYSTEM = "system"


class Provider(enum.Enum):
    """An execution provider, by onnxruntime's name for it."""

    CPU = "CPUExecutionProvider"
    CUDA = "CUDAExecutionProvider"


class Outcome(enum.Enum):
    """How the attempt to run the probe model on one provider ended."""

    RAN = "ran"
    FELL_BACK = "fell-back"
    REFUSED = "refused"
    NOT_INSTALLED = "not-installed"
    IMPORT_FAILED = "import-failed"
    CRASHED = "crashed"
    HUNG = "hung"


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """The interpreter that would run onnxsd."""

    version: Version
    implementation: str
    abi: str  # as in a wheel's name: cp311, cp313t
    free_threaded: bool
    environment: Environment
    externally_managed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One CUDA device, as its driver describes it."""

    name: str
    memory_bytes: int | None
    compute_capability: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One installed package, by its metadata; `provides` are the import names that it owns."""

    name: str
    version: Version
    provides: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable that changes what is loaded or seen."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A fact that could not be read, by its field's name, and why."""

    fact: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionProbe:
    """What came of a session over the probe model in a child process, on one provider."""

    provider: Provider
    outcome: Outcome
    runtime_version: str | None  # as the module says it; a nightly's is no release's
    available_providers: tuple[str, ...]  # what the build knows, which proves nothing
    session_providers: tuple[str, ...]
    outputs: tuple[float, ...]
    message: str  # the error, or why the process ended
    native_log: str  # what onnxruntime itself wrote


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine as a value: a bug report, a replay and a test fixture in one format."""

    schema: int = SCHEMA
    os: OperatingSystem
    arch: CpuArchitecture
    glibc: Dotted | None
    musl: Dotted | None
    python: Python
    pip: Version | None
    platform_tags: tuple[str, ...]  # as in a wheel's name, best first
    driver: Dotted | None
    gpus: tuple[Gpu, ...]
    distributions: tuple[Distribution, ...]
    variables: tuple[Variable, ...]
    memory_bytes: int | None
    disk_free_bytes: int | None
    probes: tuple[SessionProbe, ...] | None  # None: no probe was made
    unreadable: tuple[Unreadable, ...]

    @property
    def platform(self) -> str:
        """The matrix's name for the system and the processor together: `linux_x86_64`."""
        return f"{self.os.value}_{self.arch.value}"

    def owners_of(self, import_name: str) -> tuple[Distribution, ...]:
        """The packages that install files under `import_name`."""
        return tuple(found for found in self.distributions if import_name in found.provides)

    def distribution(self, name: str) -> Distribution | None:
        """The installed package called `name` (in its normalised spelling)."""
        return next((found for found in self.distributions if found.name == name), None)

    def variable(self, name: str) -> str | None:
        """The value of an environment variable that was set."""
        return next((found.value for found in self.variables if found.name == name), None)

    def probe(self, provider: Provider) -> SessionProbe | None:
        """What came of the session on `provider`, where one was tried."""
        return next((found for found in self.probes or () if found.provider is provider), None)

    def reason_unreadable(self, fact: str) -> str | None:
        """Why `fact` could not be read; None where it was."""
        return next((found.reason for found in self.unreadable if found.fact == fact), None)

    def to_json(self) -> dict[str, Any]:
        """The facts as plain values, in the order of the fields."""
        plain: dict[str, Any] = encode(self)
        return plain

    @classmethod
    def from_json(cls, plain: Any, *, source: str) -> Machine:
        """The machine that `to_json` wrote down; `source` names the file in errors."""
        return decode(cls, plain, source=source)
