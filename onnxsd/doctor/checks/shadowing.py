"""Checks of what `import` finds: the package that is installed, another copy of it, or half of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from onnxsd.doctor.case import Case, check, names_of
from onnxsd.doctor.finding import ByHand, Finding, Severity
from onnxsd.doctor.folders import imported_instead, in_user_site, of_conda_beside_pip, on_pythonpath
from onnxsd.doctor.proof import gravity
from onnxsd.machine import DamagedFile, Machine, Module, Place, Provider

_SHOWN = 5
_MATTER = ("onnxruntime", "ort-", "torch", "numpy", "nvidia-", "protobuf", "onnx")


@check("ort-shadowed", needs=("modules", "distributions"))
def runtime_shadowed(case: Case) -> Iterator[Finding]:
    """`import onnxruntime` finds another copy than the installed package.

    Python takes the first `onnxruntime` on its path: a folder of PYTHONPATH and the current folder come
    before site-packages. A file called onnxruntime.py, a source checkout, or a second copy installed with
    `pip install --target` hides the package that pip lists, and nothing warns: the module then has no
    InferenceSession, or no CUDA provider.

    Sources: docs.python.org, "The initialization of the sys.path module search path";
    microsoft/onnxruntime#7748.
    """
    found = imported_instead(case.machine)
    if found is None:
        return
    hidden = tuple(
        one
        for one in case.runtimes
        if one.name != found.owner or not found.path.startswith(one.location or "")
    )
    gpu_wins = found.owner == case.matrix.package
    origin = found.owner or "no installed package"
    yield Finding(
        severity=Severity.WARNING if gpu_wins else Severity.ERROR,
        summary=f"`import onnxruntime` takes {found.path}, which hides {names_of(hidden)}",
        because=f"it comes first on Python's path and belongs to {origin}",
        evidence=tuple(f"{one.name} {one.version} lies in {one.location}" for one in case.runtimes),
        remedies=(ByHand(steps=(_away_with(case.machine, found),)),),
    )


@check("ort-files-damaged", needs=("damaged", "distributions"))
def runtime_files_damaged(case: Case) -> Iterator[Finding]:
    """Files of the installed runtime are gone, or are not those that its package brought.

    `onnxruntime` and `onnxruntime-gpu` install into the same folder. Uninstalling one of them removes the
    files that the other shares, and installing one over the other replaces them; pip's records then say
    that all is well, and `pip check` agrees. What is left may import without InferenceSession, or without
    the CUDA provider. Only writing the files again repairs it.

    Sources: microsoft/onnxruntime#7748, #4809; RECORD of the installed package against the disk.
    """
    if len(case.runtimes) > 1:  # `ort-two-wheels` and `ort-shadowed` say why
        return
    for one in case.runtimes:
        files = tuple(file for file in case.machine.damaged if file.distribution == one.name)
        if files:
            yield Finding(
                severity=Severity.ERROR,
                summary=f"{one.name} {one.version} has lost files, or has another package's: {len(files)}",
                because="another package that shares its folder was installed over it, or removed with them",
                evidence=_shown(files),
                remedies=(case.rewrite(one),),
            )


@check("nvidia-files-damaged", needs=("damaged", "distributions"))
def nvidia_files_damaged(case: Case) -> Iterator[Finding]:
    """Files of NVIDIA's packages are gone.

    The packages of CUDA's libraries share folders (nvidia/cudnn for both CUDA majors, nvidia/cu13/lib for
    most of CUDA 13), so uninstalling one can take another's files along; pip still lists it as installed.
    It is a warning where a session ran on the GPU all the same, with a copy of the system's.

    Sources: file lists of the nvidia-* wheels; RECORD of the installed packages against the disk.
    """
    for one in case.machine.distributions:
        files = tuple(file for file in case.machine.damaged if file.distribution == one.name)
        if files and one.name.startswith("nvidia-"):
            others = _taken_instead(case, files)
            yield Finding(
                severity=gravity(case),
                summary=f"{one.name} {one.version} has lost files, or has another package's: {len(files)}",
                because="pip calls it installed; the session ran with another copy, of another version"
                if others
                else "pip calls it installed, but the loader will not find what it needs",
                evidence=(*(f"the session took {path}" for path in others), *_shown(files)),
                remedies=(case.rewrite(one),),
            )


@check("user-site-packages", needs=("distributions",))
def user_site_packages(case: Case) -> Iterator[Finding]:
    """Packages of the user's own folder are mixed into this environment.

    `pip install --user`, or pip without rights to write, installs into ~/.local. Every Python of the same
    version reads that folder, conda's environments too, before its own packages: an old runtime or numpy
    there hides the one that was installed here, and no command in this environment removes it.

    Sources: PEP 370; docs.python.org, PYTHONNOUSERSITE.
    """
    python = case.machine.python
    mattering = tuple(one for one in case.machine.distributions if one.name.startswith(_MATTER))
    own = tuple(one for one in mattering if in_user_site(one))
    if not python.user_site or not own or len(own) == len(mattering):
        return
    yield Finding(
        severity=Severity.WARNING,
        summary=f"from the user's folder, not from this environment, come {names_of(own[:_SHOWN])}"
        + (f" and {len(own) - _SHOWN} more" if len(own) > _SHOWN else ""),
        because="that folder comes first, and is shared by every Python of this version",
        evidence=tuple(f"{one.name} {one.version} in {one.location}" for one in own[:_SHOWN]),
        remedies=(
            ByHand(
                steps=("use a virtual environment, which leaves that folder out, or set PYTHONNOUSERSITE=1",),
                commands=("python -m venv .venv",),
            ),
        ),
    )


@check("conda-pip-mix", needs=("distributions",))
def conda_and_pip_runtimes(case: Case) -> Iterator[Finding]:
    """conda and pip have both installed an onnxruntime into this environment.

    conda's package brings a build and CUDA libraries of its own. pip does not know its files, so it
    overwrites some of them, and cannot uninstall what conda installed: only conda can.

    Sources: conda's documentation, "Using pip in a conda environment"; conda-forge's onnxruntime-feedstock.
    """
    of_conda = of_conda_beside_pip(case.machine)
    others = tuple(one for one in case.runtimes if one not in of_conda)
    if not of_conda:
        return
    yield Finding(
        severity=Severity.ERROR,
        summary=f"conda installed {names_of(of_conda)}, and pip {names_of(others)}",
        because="they share one folder, and neither tool knows what the other has written there",
        evidence=tuple(f"{one.name} {one.version} by {one.installer or 'pip'}" for one in case.runtimes),
        remedies=(
            ByHand(  # in this order: conda removes the files that both have written
                steps=("remove conda's copy with conda, then write pip's files again",),
                commands=(
                    "conda remove --force " + " ".join(one.name for one in of_conda),
                    *case.rewrite(others[0]).commands,
                ),
            ),
        ),
    )


def _away_with(machine: Machine, found: Module) -> str:
    entry = on_pythonpath(machine, found.path)
    if entry is not None:
        return f"take {entry} out of PYTHONPATH"
    if found.place is Place.USER_SITE:
        return f"set PYTHONNOUSERSITE=1, or remove {found.path} from the user's own packages"
    return f"rename or move {found.path}, or run from another folder"


def _taken_instead(case: Case, files: tuple[DamagedFile, ...]) -> tuple[str, ...]:
    """The libraries that the session on the GPU found elsewhere, in place of those that are gone."""
    probe = case.machine.probe(Provider.CUDA)
    gone = tuple(PurePath(file.path).name for file in files)
    return tuple(path for path in (probe.loaded if probe else ()) if PurePath(path).name.startswith(gone))


def _shown(files: tuple[DamagedFile, ...]) -> tuple[str, ...]:
    shown = tuple(f"{file.path} is {file.problem.value}" for file in files[:_SHOWN])
    return (*shown, f"and {len(files) - _SHOWN} more") if len(files) > _SHOWN else shown


CHECKS = (
    runtime_shadowed,
    runtime_files_damaged,
    nvidia_files_damaged,
    user_site_packages,
    conda_and_pip_runtimes,
)
