"""A machine in a few lines: what decides which runtime it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from onnxsd.machine import OperatingSystem, Outcome, Provider

if TYPE_CHECKING:
    from onnxsd.machine import Gpu, Machine

_GIB = 1 << 30
_PROVIDERS = {Provider.CPU: "CPU", Provider.CUDA: "CUDA"}
_OUTCOMES = {
    Outcome.RAN: "runs",
    Outcome.FELL_BACK: "fell back to the CPU",
    Outcome.REFUSED: "refused",
    Outcome.NOT_INSTALLED: "no onnxruntime",
    Outcome.IMPORT_FAILED: "import failed",
    Outcome.CRASHED: "crashed",
    Outcome.HUNG: "hung",
}


def facts_of(machine: Machine) -> Iterator[tuple[str, str]]:
    """Name and value of each line."""
    yield "system", _system(machine)
    yield "python", _python(machine)
    yield from (("gpu", text) for text in _gpus(machine))
    yield "runtime", _runtime(machine)
    if machine.probes:
        yield "session", ", ".join(dict.fromkeys(_session(machine)))


def _system(machine: Machine) -> str:
    linux = machine.os is OperatingSystem.LINUX
    name = machine.distro.name if linux and machine.distro else machine.os.value
    libc = f"glibc {machine.glibc}" if machine.glibc else f"musl {machine.musl}" if machine.musl else None
    inside = f"in a {machine.container.kind} container" if machine.container else None
    parts = (f"{name} {machine.arch.value}", libc, "WSL" if machine.wsl else None, inside)
    return ", ".join(part for part in parts if part)


def _python(machine: Machine) -> str:
    python = machine.python
    threads = ", free-threaded" if python.free_threaded else ""
    bits = ", 32-bit" if python.bits == 32 else ""
    place = "the system's" if python.environment.value == "system" else f"a {python.environment.value}"
    pip = f"pip {machine.pip}" if machine.pip else f"uv {machine.uv}" if machine.uv else "no pip"
    return f"{python.version}{threads}{bits} in {place} environment, {pip}".replace(
        "a venv environment", "a venv"
    )


def _gpus(machine: Machine) -> Iterator[str]:
    reason = machine.reason_unreadable("gpus")
    if reason:
        yield f"could not be read: {reason}"
    elif not machine.gpus:
        others = ", ".join(one.name for one in machine.other_gpus)
        yield "no NVIDIA GPU" + (f" ({others})" if others else "")
    counts: dict[Gpu, int] = {}
    for gpu in machine.gpus:
        alike = next((one for one in counts if _same(one, gpu)), gpu)
        counts[alike] = counts.get(alike, 0) + 1
    for gpu, count in counts.items():
        memory = f", {gpu.memory_bytes / _GIB:.0f} GiB" if gpu.memory_bytes else ""
        major, minor = gpu.compute_capability
        times = f"{count} × " if count > 1 else ""
        yield f"{times}{gpu.name} (sm_{major}{minor}{memory}), driver {machine.driver or 'unknown'}"


def _same(one: Gpu, other: Gpu) -> bool:
    return (one.name, one.memory_bytes, one.compute_capability) == (
        other.name,
        other.memory_bytes,
        other.compute_capability,
    )


def _runtime(machine: Machine) -> str:
    reason = machine.reason_unreadable("distributions")
    if reason:
        return f"could not be read: {reason}"
    return ", ".join(f"{one.name} {one.version}" for one in machine.owners_of("onnxruntime")) or "none"


def _session(machine: Machine) -> Iterator[str]:
    """One text for each provider: the worst that its graphs did."""
    for provider, name in _PROVIDERS.items():
        outcomes = [probe.outcome for probe in machine.probes or () if probe.provider is provider]
        if outcomes:
            worst = next((one for one in outcomes if one is not Outcome.RAN), Outcome.RAN)
            told = _OUTCOMES[worst]
            yield told if worst is Outcome.NOT_INSTALLED else f"{name} {told}"
