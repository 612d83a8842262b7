"""What a bench gives: settings, machine, and every sample of every contender; a JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from onnxsd import records
from onnxsd.errors import BadInputError, ResourceError

SCHEMA = 1
# The contender that everything is compared with; the same in a second process: the noise; the same without
# kernels of its own.
OURS = "onnxsd"
AGAIN = "onnxsd-again"
STOCK = "onnxsd-stock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is made: square images of so many pixels a side, so many at once."""

    size_px: int
    batch: int

    def __str__(self) -> str:
        return f"{self.size_px}², batch {self.batch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What was asked for. Steps and guidance of None are the model's own."""

    provider: str
    device_id: int
    sizes_px: tuple[int, ...]
    batches: tuple[int, ...]
    steps: int | None
    guidance_scale: float | None
    rounds: int
    contenders: tuple[str, ...]
    in_turn: bool
    timeout_s: float
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRecord:
    """The GPU, as NVML describes it."""

    name: str
    memory_bytes: int | None
    driver: str
    cuda: str | None
    power_limit_w: float | None
    sm_clock_max_mhz: int | None
    memory_clock_mhz: int | None
    # Of the rounds: the lowest, the middle and the highest of the samples in which the GPU was busy.
    sm_clock_mhz: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """Where it was measured."""

    system: str
    processor: str
    cores: int
    memory_bytes: int | None
    python: str
    gpu: GpuRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageVersion:
    """One package that takes part, in the environment of the contender that uses it."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The rate of one large matrix product through ONNX Runtime: what no model here can exceed."""

    rows: int
    dtype: str
    # Floating-point operations a second, of each block of products.
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The arithmetic of a case: of one call of the denoiser with guidance, and of decoding the batch."""

    case: Case
    unet_flops: int
    vae_flops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReport:
    """What one contender did in one case. Every sample is here, in the order in which it was taken."""

    case: Case
    # The first image of this case in a process that was loaded; of the first case, after loading.
    first_image_s: float | None = None
    # The whole process so far, in GPU memory by NVML and in host memory.
    peak_gpu_bytes: int | None = None
    peak_host_bytes: int | None = None
    # Seconds of one call, each the mean of a block of calls that was waited for.
    unet_s: tuple[float, ...] = ()
    vae_s: tuple[float, ...] = ()
    # Seconds from prompt to pixels of each call, and joules of the GPU meanwhile.
    image_s: tuple[float, ...] = ()
    image_joules: tuple[float, ...] = ()
    # Norm of the difference from float32 over the norm of float32; None also where a value is not finite.
    unet_error: float | None = None
    vae_error: float | None = None
    # The same between two runs of the contender on equal inputs: 0 where every bit is the same.
    unet_repeat: float | None = None
    vae_repeat: float | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContenderReport:
    """One contender; `failure` says why it was not measured, or not to the end."""

    name: str
    title: str
    versions: tuple[PackageVersion, ...] = ()
    # Of onnxsd on CUDA: whether it ran on kernels of its own, and why; None for others.
    kernels: str | None = None
    load_s: float | None = None
    # From the start of the process to the first image of the first case.
    cold_start_s: float | None = None
    cases: tuple[CaseReport, ...] = ()
    failure: str | None = None

    def case(self, case: Case) -> CaseReport:
        """What it did in a case; an empty report where it did not come so far."""
        return next((entry for entry in self.cases if entry.case == case), CaseReport(case=case))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """All contenders with one model."""

    name: str
    pipeline: str
    # Where the weights come from.
    weights: str
    steps: int
    guidance_scale: float
    # Whether contenders ran one after another instead of in interleaved rounds.
    in_turn: bool
    checkpoint_s: float | None = None
    export_s: float | None = None
    export_peak_bytes: int | None = None
    workloads: tuple[Workload, ...] = ()
    contenders: tuple[ContenderReport, ...] = ()

    def contender(self, name: str) -> ContenderReport | None:
        """The contender called `name`, if it took part."""
        return next((entry for entry in self.contenders if entry.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of the bench."""

    schema: int
    onnxsd: str
    created: str
    command: str
    seconds: float
    settings: Settings
    machine: MachineRecord
    ceiling: Ceiling | None
    models: tuple[ModelReport, ...]
    # What a reader should know besides the numbers.
    notes: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def failed(self) -> bool:
        """Whether onnxsd itself failed anywhere; others may."""
        ours = [entry for model in self.models for entry in model.contenders if entry.name == OURS]
        if len(ours) < len(self.models) or not ours:
            return True
        return any(entry.failure or any(case.failure for case in entry.cases) for entry in ours)


def text_of(report: Report) -> str:
    """The report as JSON."""
    return json.dumps(records.encode(report), indent=1, ensure_ascii=False) + "\n"


def save(report: Report, path: Path) -> None:
    """Write the report; a file that is there is replaced whole or not at all.

    Raises:
        ResourceError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(text_of(report), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error


def load(path: Path) -> Report:
    """A saved report.

    Raises:
        BadInputError: there is no such file, or it is not a report of this schema; every fault is named.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInputError(
            f"{path} cannot be read: {error}", hint="`onnxsd bench -o FILE` writes a report"
        ) from error
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise BadInputError(f"{path} has schema {found}, this onnxsd reads {SCHEMA}", hint="measure again")
    return records.decode(Report, content, source=str(path))
