"""What the probe has proved, for checks that would otherwise judge by files and variables alone."""

from __future__ import annotations

from onnxsd.doctor.case import Case
from onnxsd.doctor.finding import Severity
from onnxsd.machine import Outcome, ProbeGraph, Provider


def runs_on_cuda(case: Case) -> bool:
    """Whether a session ran on the GPU here: a proof that outweighs what a search for files did not find."""
    probe = case.machine.probe(Provider.CUDA)
    return probe is not None and probe.outcome is Outcome.RAN


def failed_on_cuda(case: Case) -> bool:
    """Whether a session was tried on the GPU and did not run."""
    probe = case.machine.probe(Provider.CUDA)
    return probe is not None and probe.outcome not in (Outcome.RAN, Outcome.NOT_INSTALLED)


def gravity(case: Case) -> Severity:
    """An error that stops the goal; a warning where a session ran on the GPU in spite of it."""
    return Severity.WARNING if runs_on_cuda(case) else case.stops_generate


def said_on(case: Case, provider: Provider) -> str:
    """All that the probe's session on a provider said, or raised; empty where none was made."""
    probes = [case.machine.probe(provider, graph) for graph in ProbeGraph]
    return "\n".join(f"{one.message}\n{one.native_log}" for one in probes if one).strip()


def said(case: Case) -> str:
    """All that the probes said, of every provider."""
    return "\n".join(said_on(case, provider) for provider in Provider).strip()


def line_with(text: str, *parts: str) -> str | None:
    """The first line that holds one of the parts, whatever the case of its letters."""
    lowered = [part.lower() for part in parts]
    return next((line for line in text.splitlines() if any(part in line.lower() for part in lowered)), None)
