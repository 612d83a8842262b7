"""The facts about a machine, as read and as probed; nothing here judges them or reads anything."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from onnxsd.records import Dotted, decode, encode

SCHEMA = 2


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
    UNSUPPORTED = "unsupported"  # the runtime has no such operator; only of ProbeGraph.ATTENTION


class ProbeGraph(enum.Enum):
    """The graph that a session was made of: standard operators, or com.microsoft's attention."""

    PLAIN = "plain"
    ATTENTION = "attention"


class Origin(enum.Enum):
    """Where a native library lies, by what put it there or what would find it."""

    PIP = "pip"
    TOOLKIT = "toolkit"
    LD_LIBRARY_PATH = "ld-library-path"
    LD_CACHE = "ld-cache"
    CONDA = "conda"
    SYSTEM = "system"
    BUNDLED = "bundled"  # inside torch/lib or onnxruntime/capi


class Place(enum.Enum):
    """The kind of folder in which an import finds a module."""

    ENVIRONMENT = "environment"
    USER_SITE = "user-site"
    PYTHONPATH = "pythonpath"
    CURRENT_FOLDER = "current-folder"  # for `python -m`, `python -c` and scripts that lie there
    OTHER = "other"


class Problem(enum.Enum):
    """How a file on the disk differs from what its package's RECORD says."""

    MISSING = "missing"
    ALTERED = "altered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distro:
    """A Linux distribution, as /etc/os-release names it."""

    id: str
    version: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What this process is enclosed in, and what it may use there."""

    kind: str  # docker, podman, kubernetes, lxc, systemd-nspawn
    memory_limit_bytes: int | None
    cpus: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """The interpreter that would run onnxsd."""

    version: Version
    implementation: str
    abi: str  # as in a wheel's name: cp311, cp313t
    free_threaded: bool
    environment: Environment
    externally_managed: bool
    bits: int  # 32 or 64
    executable: str
    user_site: bool  # whether packages of ~/.local are imported too


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One CUDA device, as its driver describes it."""

    name: str
    memory_bytes: int | None
    compute_capability: tuple[int, int]
    mig: bool | None = None  # whether it is cut into instances; None: it cannot be, or not known
    fabric: str | None = (
        None  # NVLink fabric: completed, in-progress, not-started, not-supported; None: no such
    )
    minor: int | None = None  # N of /dev/nvidiaN


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherGpu:
    """A GPU of another maker, by its PCI identity or as macOS names it."""

    vendor: str  # amd, intel, apple, or the PCI vendor's number
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One installed package, by its metadata; `provides` are the import names that it owns."""

    name: str
    version: Version
    provides: tuple[str, ...]
    installer: str | None = None  # pip, uv, conda; None: it does not say
    location: str | None = None  # the folder on sys.path; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A place where `import name` would find a module, by a search of the path without an import."""

    name: str
    path: str  # its file; a folder where there is no `__init__`, so that the import gives an empty module
    owner: str | None  # the distribution whose file it is; None: of no distribution
    place: Place = Place.ENVIRONMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedFile:
    """An installed file that is not what its package's RECORD says."""

    distribution: str
    path: str  # as in RECORD
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """One place where a native library was found.

    `component` is one of cudart, cublas, cublasLt, cudnn, cufft, curand, nvrtc, nvJitLink, tensorrt, and cuda
    (the driver's libcuda).
    """

    component: str
    soname: str  # what a wheel asks the loader for: libcudnn.so.9
    path: str
    version: Dotted | None  # by file name, else by its package; the major alone where nothing says more
    origin: Origin
    owner: str | None  # the distribution that installed it


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
    graph: ProbeGraph = ProbeGraph.PLAIN
    loaded: tuple[str, ...] = ()  # the CUDA libraries that the process had loaded in the end


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchProbe:
    """What came of `import torch` in a child process."""

    outcome: Outcome
    version: str | None
    cuda: str | None  # the CUDA version that it is built for; None: a CPU build, or not known
    cudnn: int | None  # as torch says it: 91900 is 9.19.0
    cuda_available: bool | None
    message: str
    native_log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnKernels:
    """What onnxsd's own CUDA kernels need of its installation and of the user's folders."""

    library: bool  # whether the native library lies in the package; it does not where it was not built
    outdated: bool | None = None  # whether it was built from other sources than lie here; None: not asked
    cache_folder: str  # where compiled kernels are kept
    cache_fault: str | None  # why they cannot be kept there; None: they can


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine as a value: a bug report, a replay and a test fixture in one format."""

    schema: int = SCHEMA
    os: OperatingSystem
    arch: CpuArchitecture
    distro: Distro | None  # None: no Linux, or one that does not say
    glibc: Dotted | None
    musl: Dotted | None
    wsl: bool
    container: Container | None  # None: in none
    python: Python
    pip: Version | None
    uv: Version | None
    pip_index: str | None  # "default" or "configured"; never the address, which may hold a password
    platform_tags: tuple[str, ...]  # as in a wheel's name, best first
    driver: Dotted | None  # as NVML says it
    driver_cuda: Dotted | None  # the newest CUDA that the driver offers, as NVML says it
    kernel_driver: Dotted | None  # the loaded kernel module's version
    driver_library: Dotted | None  # the version in libcuda's file name
    device_nodes: tuple[str, ...]  # /dev/nvidia*, /dev/dxg
    gpus: tuple[Gpu, ...]
    other_gpus: tuple[OtherGpu, ...]
    nvidia_pci: tuple[str, ...] = ()  # NVIDIA's GPUs on the PCI bus, with or without a driver: "10de:2335"
    distributions: tuple[Distribution, ...]
    modules: tuple[Module, ...]  # within a name in the order of the search: the first one is imported
    damaged: tuple[DamagedFile, ...]
    libraries: tuple[Library, ...]  # within a component in the order in which the loader would look
    variables: tuple[Variable, ...]
    memory_bytes: int | None
    disk_free_bytes: int | None
    temp_free_bytes: int | None
    cache_free_bytes: int | None  # where pip keeps its downloads
    probes: tuple[SessionProbe, ...] | None  # None: no probe was made
    torch_probe: TorchProbe | None  # None: no probe was made
    own_kernels: OwnKernels | None = None  # None: no onnxsd that has some, or facts of before it was asked
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

    def module(self, name: str) -> Module | None:
        """Where `import name` would come from; None where nothing would answer."""
        return next((found for found in self.modules if found.name == name), None)

    def libraries_of(self, component: str) -> tuple[Library, ...]:
        """Every place where a component's library was found, in the loader's order."""
        return tuple(found for found in self.libraries if found.component == component)

    def probe(self, provider: Provider, graph: ProbeGraph = ProbeGraph.PLAIN) -> SessionProbe | None:
        """What came of the session on `provider`, where one was tried."""
        made = self.probes or ()
        return next((one for one in made if one.provider is provider and one.graph is graph), None)

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
