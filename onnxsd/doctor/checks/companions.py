"""Checks of packages against each other: numpy, protobuf, and the tools that bring models to ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from packaging.specifiers import SpecifierSet

from onnxsd.doctor.case import Case, check
from onnxsd.doctor.finding import ByHand, Finding, Pip, Severity
from onnxsd.matrix import Fit

_WRITES_BY_DEFAULT = ("optimum-onnx", "onnxconverter-common", "onnxmltools", "tf2onnx", "skl2onnx")


@check("numpy-abi", needs=("distributions",))
def numpy_abi(case: Case) -> Iterator[Finding]:
    """A package was compiled for another major of numpy than the one that is installed.

    onnxruntime up to 1.18 is compiled for NumPy 1, and only 1.18.1 says so in its metadata, so pip puts
    NumPy 2 beside it: a module that was compiled using NumPy 1.x cannot be run in NumPy 2. The other way
    round, ml-dtypes 0.6 needs NumPy 2.

    Sources: microsoft/onnxruntime#21063; hacksider/Deep-Live-Cam#412; METADATA of the wheels (rows `fits`).
    """
    yield from _misfits(case, Severity.ERROR, lambda row: row.other == "numpy")


@check("protobuf-too-old", needs=("distributions",))
def protobuf_too_old(case: Case) -> Iterator[Finding]:
    """protobuf is older than onnx or onnxruntime needs.

    Both declare what they need, but a package that pins an old protobuf (an old TensorFlow, say) brings
    it back later. Then onnx does not import: descriptors cannot be created directly, or cannot import
    `builder` from google.protobuf.internal.

    Sources: METADATA of the wheels (rows `fits`); onnx/onnx#4222; neuml/txtai#285.
    """
    yield from _misfits(case, Severity.ERROR, lambda row: row.other == "protobuf")


@check("onnx-parts", needs=("distributions",))
def onnx_parts(case: Case) -> Iterator[Finding]:
    """onnx, onnx-ir and ml-dtypes are of versions that do not work together.

    onnx takes its small number formats from ml-dtypes from 1.19 on, and fails to import where those that it
    names are not there: module ml_dtypes has no attribute float4_e2m1fn.

    Source: METADATA of onnx's and onnx-ir's wheels (rows `fits`).
    """
    yield from _misfits(case, Severity.ERROR, lambda row: row.other in ("ml-dtypes", "onnx"))


@check("onnx-newer-than-runtime", needs=("distributions",))
def onnx_newer_than_runtime(case: Case) -> Iterator[Finding]:
    """onnx writes a newer file format by default than the runtime reads.

    onnx 1.23 writes IR version 14, and onnxruntime 1.31 reads up to 13: unsupported model IR version.
    onnxsd writes a version that every supported runtime reads; tools that leave it to onnx do not.

    Sources: microsoft/onnxruntime#23602, #20559; onnx 1.23.2 against onnxruntime 1.26.0 and 1.31.1.
    """
    tools = [name for name in _WRITES_BY_DEFAULT if case.machine.distribution(name)]
    writes = _format_of(case, "onnx")
    if not tools or writes is None:
        return
    for one in case.runtimes:
        reads = _format_of(case, one.name)
        if reads is not None and writes > reads:
            yield Finding(
                severity=Severity.WARNING,
                summary=f"what {', '.join(tools)} exports may not load: onnx writes IR version {writes}, "
                f"{one.name} {one.version} reads up to {reads}",
                because="a model that was saved without a version of its own gets onnx's newest",
                remedies=(ByHand(steps=(f"set model.ir_version = {reads} before it is saved",)),),
            )


@check("optimum-does-not-fit", needs=("distributions",))
def optimum_does_not_fit(case: Case) -> Iterator[Finding]:
    """optimum, optimum-onnx and transformers are of versions that do not work together.

    optimum-onnx 0.1.0 needs optimum 2.1 and transformers before 4.58; with transformers 5 it does not import
    (is_tf_available), and optimum 2.2 and newer cannot take it at all. Resolvers go back to old releases
    instead of saying so.

    Sources: huggingface/optimum#2427; huggingface/optimum-onnx#114, #141, #63; METADATA (rows `fits`).
    """
    yield from _misfits(case, Severity.WARNING, lambda row: row.package.startswith("optimum"), resolved=True)


@check("transformers-does-not-fit", needs=("distributions",))
def transformers_does_not_fit(case: Case) -> Iterator[Finding]:
    """transformers refuses to import beside the tokenizers or huggingface-hub that is installed.

    transformers checks the versions of its dependencies when it is imported: 4.x wants huggingface-hub
    before 1.0, and each release a narrow range of tokenizers. onnxsd itself does without transformers;
    verifying against diffusers, and `[reference]`, do not.

    Source: METADATA of transformers (rows `fits`).
    """
    yield from _misfits(
        case, Severity.WARNING, lambda row: row.package in ("transformers", "tokenizers"), resolved=True
    )


@check("diffusers-does-not-fit", needs=("distributions",))
def diffusers_does_not_fit(case: Case) -> Iterator[Finding]:
    """diffusers is of a version that does not work with the others.

    From 0.40 on it wants huggingface-hub 1.23 or newer, which transformers 4 excludes: with transformers 4
    the newest diffusers is 0.39.0.

    Source: METADATA of diffusers (rows `fits`).
    """
    yield from _misfits(
        case, Severity.WARNING, lambda row: row.package in ("diffusers", "accelerate", "peft"), resolved=True
    )


def _misfits(
    case: Case, severity: Severity, wanted: Callable[[Fit], bool], *, resolved: bool = False
) -> Iterator[Finding]:
    """One finding for each package that is not what others want of it, by rows `fits`.

    `resolved`: what they want is declared, and may be contradictory, so pip is to find versions of all.
    """
    rows = [row for row in case.matrix.fits if wanted(row) and _missed(case, row)]
    for name in dict.fromkeys(row.other for row in rows):
        found = case.machine.distribution(name)
        failed = [row for row in rows if row.other == name]
        wants = " and ".join(f"{_named(case, row.package)} wants {row.wants}" for row in failed)
        if found is not None:
            yield Finding(
                severity=severity,
                summary=f"{name} {found.version} is installed, and {wants}",
                because="; ".join(dict.fromkeys(f"{row.package}: {row.because}" for row in failed)),
                remedies=(_of_all(failed) if resolved else _remedy(case, name, failed),),
            )


def _remedy(case: Case, name: str, rows: list[Fit]) -> Pip | ByHand:
    """Another version of the package; or another runtime, where the one that asks is to go anyway."""
    best = case.recommendation
    runtimes = {one.name for one in case.runtimes}
    if name in runtimes or (
        best is not None
        and best.suffices
        and all(row.package == best.package and best.version not in row.versions for row in rows)
    ):
        return case.reinstall()
    wants = SpecifierSet(",".join(str(row.wants) for row in rows))
    return Pip(install=(f"{name}{wants}",))


def _of_all(rows: list[Fit]) -> Pip:
    """Those that ask and the one that is asked for, without versions: pip knows what they declare."""
    return Pip(install=tuple(dict.fromkeys((*(row.package for row in rows), rows[0].other))))


def _missed(case: Case, row: Fit) -> bool:
    """Whether both packages are installed, and the other is not of a version that the first works with."""
    one, other = case.machine.distribution(row.package), case.machine.distribution(row.other)
    if one is None or other is None or one.version not in row.versions:
        return False
    return not row.wants.contains(other.version, prereleases=True)


def _named(case: Case, package: str) -> str:
    found = case.machine.distribution(package)
    return f"{package} {found.version}" if found else package


def _format_of(case: Case, package: str) -> int | None:
    """The IR version that an installed package writes or reads, as far as it is on record."""
    one = case.machine.distribution(package)
    rows = (row for row in case.matrix.model_formats if row.package == package)
    return next((row.ir for row in rows if one is not None and one.version in row.versions), None)


CHECKS = (
    numpy_abi,
    protobuf_too_old,
    onnx_parts,
    onnx_newer_than_runtime,
    optimum_does_not_fit,
    transformers_does_not_fit,
    diffusers_does_not_fit,
)
