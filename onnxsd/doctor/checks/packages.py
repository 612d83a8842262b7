"""Checks of what is installed: which runtime, how many, and what goes with it."""

from __future__ import annotations

from collections.abc import Iterator

from onnxsd.doctor.case import Case, check, floors_text, names_of
from onnxsd.doctor.finding import Finding, Pip, Severity
from onnxsd.doctor.fit import of_a_kind_with_wheels
from onnxsd.doctor.folders import by_folder
from onnxsd.machine import Outcome

_SHOWN = 3


@check("ort-two-wheels", needs=("distributions",))
def two_runtime_wheels(case: Case) -> Iterator[Finding]:
    """More than one package provides `onnxruntime`, and each overwrites the other's files.

    `onnxruntime` and `onnxruntime-gpu` install into the same folder, and no wheel of either declares that
    it replaces the other, so pip installs both without a word; the last one wins, and the CUDA provider
    vanishes or its libraries stay without the module that loads them. Asking for two of onnxsd's extras
    `cpu`, `cuda12` and `cuda13` does the same.

    Packages that ask for plain `onnxruntime` (rembg, fastembed, insightface, ultralytics) bring it too.

    Sources: METADATA of all 341 onnxruntime-gpu wheels; microsoft/onnxruntime#26996, #7748, #3326;
    qdrant/fastembed#608; ultralytics/ultralytics#21092.
    """
    if any(one.installer == "conda" for one in case.runtimes):  # `conda-pip-mix` knows what removes those
        return
    for folder, owners in by_folder(case.runtimes).items():
        if len(owners) < 2:
            continue
        names = {one.name for one in owners}
        replaced = tuple(file for file in case.machine.damaged if file.distribution in names)
        whole = names - {file.distribution for file in replaced}
        won = f"; those there now are {whole.pop()}'s" if replaced and len(whole) == 1 else ""
        yield Finding(
            severity=Severity.ERROR,
            summary=f"{len(owners)} packages provide onnxruntime: {names_of(owners)}",
            because=f"they write the same files, and the last one wins{won}: the CUDA provider can vanish",
            evidence=(
                *(f"{one.name} {one.version} lies in {folder or 'the same folder'}" for one in owners),
                *(f"{file.path} is no longer {file.distribution}'s" for file in replaced[:_SHOWN]),
            ),
            remedies=(case.reinstall(),),
        )


@check("ort-missing", needs=("distributions",))
def runtime_missing(case: Case) -> Iterator[Finding]:
    """No package provides `onnxruntime`.

    The base install of onnxsd brings no runtime, because the right one depends on the machine: the doctor
    names it. Without one, `export` cannot check what it writes, and `generate` cannot run.

    Source: onnxsd's own setup.cfg.
    """
    imported = any(one.outcome is not Outcome.NOT_INSTALLED for one in case.machine.probes or ())
    if case.runtimes or imported:  # one that was built from source may have no metadata
        return
    yield Finding(
        severity=Severity.ERROR,
        summary="onnxruntime is not installed",
        because="it runs the graphs, and checks them after an export",
        remedies=(case.reinstall(),) if of_a_kind_with_wheels(case.machine) else (),
    )


@check("ort-below-floor", needs=("distributions",))
def runtime_below_floor(case: Case) -> Iterator[Finding]:
    """The installed runtime is older than the task needs.

    pip takes the newest wheel that the system, the Python and its own version allow, and does not say when
    that is years old: on glibc 2.26 it is 1.16.3. The floors, with their reasons, are in
    compat_matrix.yaml.

    Sources: tags and Requires-Python of all onnxruntime-gpu wheels; microsoft/onnxruntime#20737.
    """
    for one in case.runtimes:
        release = case.matrix.release(one.version) if one.name == case.matrix.package else None
        floors = [row for row in case.matrix.floors if row.goal is case.goal and row.package == one.name]
        major = release.cuda_major if release else None
        fitting = [row for row in floors if major is None or row.cuda_major in (None, major)]
        if not floors or any(one.version >= row.version for row in fitting):
            continue
        wanted = floors_text(case, one.name)
        built = f", a build for CUDA {major}," if major else ""
        yield Finding(
            severity=Severity.ERROR,
            summary=f"{one.name} {one.version}{built} is too old: {case.goal.value} needs {wanted} or newer",
            because="; ".join(f"{row.version}: {row.because}" for row in floors),
            remedies=(case.reinstall(),),
        )


@check("ort-cpu-wheel-with-gpu", needs=("distributions", "gpus"))
def cpu_wheel_beside_gpu(case: Case) -> Iterator[Finding]:
    """There is an NVIDIA GPU, and the installed runtime is the build for the CPU.

    `pip install onnxruntime` is the CPU build; it knows no CUDA provider, so images would be made on the
    processor, many times slower.

    Source: contents of the onnxruntime and onnxruntime-gpu wheels.
    """
    if not case.machine.gpus or case.gpu_runtime or not case.machine.distribution(case.matrix.cpu_package):
        return
    yield Finding(
        severity=case.stops_generate,
        summary=f"{case.machine.gpus[0].name} is there, but the installed onnxruntime is the CPU build",
        because="it has no CUDA provider, so the GPU would stay idle",
        remedies=(case.reinstall(),),
    )


@check("run-packages", needs=("distributions",))
def run_packages_missing(case: Case) -> Iterator[Finding]:
    """Packages that `onnxsd[run]` brings are missing or too old.

    The base install is enough for the doctor; export and generate also need numpy, onnx and the others.

    Source: onnxsd's own setup.cfg, extra `run`.
    """
    faults = []
    for row in case.matrix.requirements:
        found = case.machine.distribution(row.name)
        if found is None:
            faults.append(f"{row.name} is not installed")
        elif found.version < row.minimum:
            faults.append(f"{row.name} {found.version} is older than {row.minimum}")
    if faults:
        yield Finding(
            severity=Severity.ERROR,
            summary=f"{len(faults)} of the packages of onnxsd[run] are missing or too old",
            because="export and generate need them",
            evidence=tuple(faults),
            remedies=(Pip(install=("onnxsd[run]",)),) if case.takes_wheels else (),
        )


CHECKS = (
    two_runtime_wheels,
    runtime_missing,
    runtime_below_floor,
    cpu_wheel_beside_gpu,
    run_packages_missing,
)
