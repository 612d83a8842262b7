"""Who can take part: each contender's name, what it is, and the file that runs it."""

from __future__ import annotations

from dataclasses import dataclass

from onnxsd.bench.report import AGAIN, OURS, STOCK
from onnxsd.errors import UsageError
from onnxsd.session import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One contender: `onnxsd/bench/contenders/<module>.py` runs it."""

    name: str
    title: str
    module: str
    # Providers on which it takes part without being named, and whether only `--long` asks for it.
    by_default_on: tuple[Provider, ...] = (Provider.CUDA,)
    long: bool = False
    # Whether it runs a folder that was exported for every runtime, in place of the one for this provider.
    portable: bool = False
    # Modules without which nothing is prepared for it.
    needs: tuple[str, ...] = ()
    # What its compiler keeps on the disk is left behind, so that each run compiles.
    compiles: bool = False


_BOTH = (Provider.CUDA, Provider.CPU)
# A new contender is its file and its line here.
ROSTER = (
    Entry(name=OURS, title="onnxsd", module="onnxsd_pipeline", by_default_on=_BOTH),
    Entry(name=STOCK, title="onnxsd on ONNX Runtime's stock operators alone", module="onnxsd_pipeline"),
    Entry(name=AGAIN, title="onnxsd in a second process", module="onnxsd_pipeline", by_default_on=_BOTH),
    Entry(
        name="diffusers",
        title="diffusers, eager, SDPA, channels_last",
        module="diffusers_torch",
        by_default_on=_BOTH,
    ),
    Entry(
        name="compile",
        title="diffusers under torch.compile (reduce-overhead, fused QKV)",
        module="diffusers_torch",
        compiles=True,
    ),
    Entry(
        name="compile-max",
        title="diffusers under torch.compile (max-autotune, fused QKV)",
        module="diffusers_torch",
        long=True,
        compiles=True,
    ),
    Entry(
        name="optimum",
        title="Optimum's pipeline on ONNX Runtime",
        module="optimum_ort",
        portable=True,
        needs=("optimum.onnxruntime",),
    ),
)


def entry(name: str) -> Entry:
    """The contender called `name`.

    Raises:
        UsageError: there is none.
    """
    for found in ROSTER:
        if found.name == name:
            return found
    raise UsageError(f"there is no contender {name}", hint=f"there are {', '.join(e.name for e in ROSTER)}")


def chosen(names: tuple[str, ...], provider: Provider, *, long: bool) -> tuple[Entry, ...]:
    """The contenders that take part: those named, always with onnxsd, or those that suit the provider."""
    if names:
        return tuple(entry(name) for name in dict.fromkeys((OURS, *names)))
    return tuple(e for e in ROSTER if provider in e.by_default_on and (long or not e.long))
