"""Plans: merged from remedies, as commands for pip and uv, quoted for two shells."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from doctor_cases import HEALTHY, MATRIX, judge, load, recorded, settings
from packaging.requirements import Requirement

from onnxsd.doctor import ByHand, Diagnosis, Finding, Pip, Severity
from onnxsd.doctor.actions import Index, Install, NewVenv, Remove, Target, UpgradePip, steps_of
from onnxsd.doctor.plan import Installer, Plan, Shell, plan_of, render, steps_for
from onnxsd.doctor.shells import line, quoted
from onnxsd.errors import NotReadyError
from onnxsd.machine import DamagedFile, Machine
from onnxsd.machine.facts import Problem


def commands(plan: Plan, shell: Shell = Shell.BASH, installer: Installer = Installer.PIP) -> list[str]:
    """The lines of a rendered plan without the reasons."""
    return [text for text in render(plan, shell, installer) if not text.startswith("#")]


def with_remedies(*remedies: Pip | ByHand, severity: Severity = Severity.ERROR) -> Diagnosis:
    """A healthy machine without a recommendation, with one finding for each remedy."""
    findings = tuple(
        Finding(id=f"check-{at}", severity=severity, summary="", because="", remedies=(one,))
        for at, one in enumerate(remedies)
    )
    return replace(judge(load("healthy_cuda13")), findings=findings, recommendation=None)


@pytest.mark.parametrize("name", recorded())
def test_each_machines_plan_leaves_one_runtime(name: str) -> None:
    plan = plan_of(judge(load(name)))
    order = [NewVenv, UpgradePip, Remove, Install]
    wanted = [
        Requirement(text) for one in plan.actions if isinstance(one, Install) for text in one.requirements
    ]
    runtimes = {one.name for one in wanted if one.name.startswith("onnxruntime")}
    if any(one.name == "onnxsd" and "cpu" in one.extras for one in wanted):
        runtimes.add("onnxruntime")

    places = [order.index(type(one)) for one in plan.actions]
    assert places == sorted(places)
    assert len(runtimes) <= 1
    assert all(step.why for step in steps_of(plan.actions, Target()))


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_machine_needs_no_plan(name: str) -> None:
    assert plan_of(judge(load(name))).actions == ()


def test_two_wheels_by_pip_and_by_uv() -> None:
    plan = plan_of(judge(load("both_runtime_wheels")))

    assert commands(plan) == [
        "python -m pip uninstall -y onnxruntime onnxruntime-gpu",
        "python -m pip install 'onnxsd[run]' 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    ]
    assert commands(plan, installer=Installer.UV) == [
        "uv pip uninstall --python python onnxruntime onnxruntime-gpu",
        "uv pip install --python python 'onnxsd[run]' 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    ]


def test_files_that_were_overwritten_are_written_again() -> None:
    plan = plan_of(judge(load("files_missing")))
    wanted = "onnxruntime-gpu==1.31.1 nvidia-cudnn-cu13==9.28.0.42"

    assert commands(plan) == [f"python -m pip install --force-reinstall --no-deps {wanted}"]
    assert commands(plan, installer=Installer.UV) == [
        f"uv pip install --python python --reinstall --no-deps {wanted}"
    ]


def test_a_recommendation_writes_damaged_files_again_unless_they_go_first() -> None:
    damaged = tuple(
        DamagedFile(distribution=name, path="x.so", problem=Problem.MISSING)
        for name in ("onnxruntime-gpu", "nvidia-cudnn-cu13")
    )
    alone = judge(replace(load("healthy_cuda13"), damaged=damaged)).recommendation
    both = judge(replace(load("both_runtime_wheels"), damaged=damaged)).recommendation

    assert alone is not None
    assert alone.remedy.overwrite == ("onnxruntime-gpu==1.31.1", "nvidia-cudnn-cu13==9.28.0.42")
    assert both is not None
    assert "onnxruntime-gpu" in both.remedy.uninstall
    assert both.remedy.overwrite == ("nvidia-cudnn-cu13==9.28.0.42",)


def test_a_python_of_the_system_gets_an_environment_first() -> None:
    plan = plan_of(judge(load("system_python")))

    assert commands(plan) == [
        "python3 -m venv .venv",
        ".venv/bin/python -m pip install 'onnxsd[run]' 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    ]
    assert commands(replace(plan, windows=True), Shell.POWERSHELL)[1].startswith(
        ".venv\\Scripts\\python.exe -m pip install 'onnxsd[run]'"
    )
    assert commands(plan, installer=Installer.UV) == [
        "uv venv --python python3 .venv",
        "uv pip install --python .venv/bin/python 'onnxsd[run]' 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    ]


def test_an_environment_of_its_own_has_nothing_to_be_removed() -> None:
    sick = load("both_runtime_wheels")
    managed = replace(sick, python=replace(sick.python, externally_managed=True))

    assert not any(isinstance(one, Remove) for one in plan_of(judge(managed)).actions)


def test_an_old_pip_is_renewed_first_and_uv_needs_none() -> None:
    plan = plan_of(judge(load("old_pip")))

    assert commands(plan) == ["python -m pip install --upgrade pip"]
    assert commands(plan, installer=Installer.UV) == []


def test_a_plan_runs_in_the_interpreter_that_was_looked_at() -> None:
    seen = load("both_runtime_wheels")
    steps = steps_for(plan_of(judge(seen)), seen)

    assert {step.argv[0] for step in steps} == {seen.python.executable}


def test_uv_installs_where_there_is_no_pip() -> None:
    def without_pip(seen: Machine) -> Machine:
        return replace(seen, pip=None, uv=load("healthy_cuda13").pip)

    seen = without_pip(load("both_runtime_wheels"))
    steps = steps_for(plan_of(judge(load("both_runtime_wheels"))), seen)

    assert steps[0].argv[:5] == ("uv", "pip", "uninstall", "--python", seen.python.executable)


def test_remedies_for_one_package_are_joined() -> None:
    plan = plan_of(
        with_remedies(
            Pip(install=("onnxsd[run]", "numpy>=1.26")),
            Pip(uninstall=("torch",), install=("numpy>=2.1", "numpy<3", "onnxsd[reference]")),
            ByHand(steps=("restart",)),
        )
    )

    assert commands(plan) == [
        "python -m pip uninstall -y torch",
        "python -m pip install 'onnxsd[reference,run]' 'numpy>=2.1,<3'",
    ]
    assert plan.by_hand == (ByHand(steps=("restart",)),)


@pytest.mark.parametrize(
    ("one", "other", "part"),
    [
        ("onnxruntime-gpu==1.31.1", "onnxruntime-gpu==1.26.0", "onnxruntime-gpu==1.31.1 and"),
        ("huggingface-hub>=1.23", "huggingface-hub<1.0", "huggingface-hub<1.0"),
        ("optimum~=2.1.0", "optimum>=2.2", "optimum~=2.1.0"),
        ("numpy==2.5.5", "numpy<2", "numpy<2"),
        ("onnxsd[cpu]", "onnxruntime-gpu==1.31.1", "onnxruntime and onnxruntime-gpu"),
        ("onnxruntime-directml", "onnxruntime-gpu==1.31.1", "onnxruntime-directml"),
    ],
)
def test_remedies_that_disagree_are_refused(one: str, other: str, part: str) -> None:
    with pytest.raises(NotReadyError, match="disagree") as caught:
        plan_of(with_remedies(Pip(install=(one,)), Pip(install=(other,))))

    assert part in str(caught.value)


def test_packages_that_no_version_brings_together_are_left_to_pip() -> None:
    """transformers 4 and diffusers 0.42 want different huggingface-hubs: pip is asked for all of them."""
    last = commands(plan_of(judge(load("companions_apart"))))[-1].split()

    assert {"transformers", "diffusers", "huggingface-hub"} <= set(last)


def test_the_recommendation_is_taken_over_a_checks_own_version() -> None:
    sick = judge(load("both_runtime_wheels"))
    older = Finding(
        severity=Severity.ERROR,
        summary="",
        because="",
        remedies=(Pip(install=("onnxruntime-gpu==1.26.0",)),),
    )
    plan = plan_of(replace(sick, findings=(*sick.findings, older)))

    assert commands(plan)[-1].endswith("'onnxruntime-gpu[cuda,cudnn]==1.31.1'")


def test_what_is_only_remarked_is_not_acted_on() -> None:
    remark = with_remedies(Pip(install=("numpy",)), severity=Severity.INFO)

    assert plan_of(remark).actions == ()


def test_a_feeds_build_comes_after_what_it_depends_on() -> None:
    feed = Index(name="a-feed", url="https://feed.invalid/wheels/")
    remedy = Pip(install=("numpy",), from_index=("onnxruntime-gpu==1.20.2",), index=feed)

    assert commands(plan_of(with_remedies(remedy))) == [
        "python -m pip install numpy",
        "python -m pip install --force-reinstall --no-deps --index-url https://feed.invalid/wheels/ "
        "onnxruntime-gpu==1.20.2",
    ]


@pytest.mark.parametrize(
    ("word", "bash", "powershell"),
    [
        ("numpy", "numpy", "numpy"),
        ("--no-deps", "--no-deps", "--no-deps"),
        ("-m", "-m", "-m"),
        ("numpy<2", "'numpy<2'", "'numpy<2'"),
        ("a[b,c]==1.2", "'a[b,c]==1.2'", "'a[b,c]==1.2'"),
        ("a==1.2", "a==1.2", "a==1.2"),
        ("it's", """'it'"'"'s'""", "'it''s'"),
        ("$HOME", "'$HOME'", "'$HOME'"),
        ("-a.b", "-a.b", "'-a.b'"),
        ("x,y", "x,y", "'x,y'"),
        ("", "''", "''"),
        (".venv\\Scripts\\python.exe", "'.venv\\Scripts\\python.exe'", ".venv\\Scripts\\python.exe"),
    ],
)
def test_words_are_quoted_for_each_shell(word: str, bash: str, powershell: str) -> None:
    assert quoted(word, Shell.BASH) == bash
    assert quoted(word, Shell.POWERSHELL) == powershell


def test_bash_reads_back_what_was_written() -> None:
    argv = ("py thon", "-m", "pip", "install", "a[b]<2", "it's", "$x `y` \\z")

    assert tuple(shlex.split(line(argv, Shell.BASH))) == argv


def test_powershell_calls_a_quoted_program() -> None:
    assert line(("C:\\Program Files\\python.exe", "-V"), Shell.POWERSHELL) == (
        "& 'C:\\Program Files\\python.exe' -V"
    )


def test_the_matrix_names_the_feeds_that_a_plan_may_use() -> None:
    """Python 3.13 on driver 470: the default index has no CUDA 11 build for it, the feed has."""
    best = judge(settings("python=3.13", "driver=470.82.01", "gpu=A100:8.0")).recommendation
    feed = next(row for row in MATRIX.feeds if row.name == "onnxruntime-cuda-11")

    assert best is not None
    assert (best.index.name, best.index.url) == (feed.name, feed.url)
    assert any(feed.url in command for command in best.commands)
