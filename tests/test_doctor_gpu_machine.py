"""One machine with two H200, recorded healthy and after each of the faults that were made on it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doctor_cases import MATRIX, findings_of, judge, load
from packaging.version import Version

from onnxsd import machine
from onnxsd.doctor import ByHand, Diagnosis, Severity
from onnxsd.doctor.case import Case
from onnxsd.doctor.folders import in_environment, removable
from onnxsd.doctor.plan import Shell, plan_of, render, wheel_list
from onnxsd.machine import Distribution, Machine, Outcome, Place, Provider
from onnxsd.matrix import Goal

SITE = "/home/user/venv/lib/python3.12/site-packages"


def diagnosis_of(fault: str) -> Diagnosis:
    """What is said of the machine with one fault."""
    return judge(load(f"recorded_h200x2_{fault}"))


def errors_of(diagnosis: Diagnosis) -> list[str]:
    """The checks that found what stops the machine."""
    return [one.id for one in diagnosis.findings if one.severity is Severity.ERROR]


def commands_of(diagnosis: Diagnosis) -> list[str]:
    """The plan without its reasons."""
    return [text for text in render(plan_of(diagnosis), Shell.BASH) if not text.startswith("#")]


def steps_of(diagnosis: Diagnosis) -> str:
    """What the plan leaves to a person."""
    return "\n".join(step for one in plan_of(diagnosis).by_hand for step in one.steps)


def test_the_healthy_machine_is_ready_and_needs_no_plan() -> None:
    diagnosis = diagnosis_of("healthy")

    assert [(one.id, one.severity) for one in diagnosis.findings] == [
        ("libraries-in-two-places", Severity.INFO)  # NVIDIA's image brings a cuDNN of its own
    ]
    assert diagnosis.exit_code(strict=True) == 0
    assert commands_of(diagnosis) == []
    assert steps_of(diagnosis) == ""


def test_overwritten_files_end_with_one_runtime() -> None:
    diagnosis = diagnosis_of("overwritten")

    assert errors_of(diagnosis) == ["ort-two-wheels"]
    assert "those there now are onnxruntime's" in findings_of(diagnosis, "ort-two-wheels")[0].because
    assert commands_of(diagnosis) == [
        "python -m pip uninstall -y onnxruntime onnxruntime-gpu",
        "python -m pip install 'onnxsd[run]' 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    ]


def test_a_copy_on_pythonpath_is_another_finding_and_no_matter_for_pip() -> None:
    diagnosis = diagnosis_of("shadowed")

    assert errors_of(diagnosis) == ["ort-shadowed"]
    assert commands_of(diagnosis) == []
    assert "take /home/user/shadow out of PYTHONPATH" in steps_of(diagnosis)
    assert diagnosis.recommendation is not None
    assert not any("uninstall" in command for command in diagnosis.recommendation.commands)
    assert not any("uninstall" in step.argv for step in wheel_list(diagnosis, MATRIX).install)


def test_what_the_imported_module_knows_is_the_proof_of_both() -> None:
    for fault in ("overwritten", "shadowed"):
        (finding,) = findings_of(diagnosis_of(fault), "cuda-not-in-build")

        assert finding.severity is Severity.INFO
        assert finding.because == "it knows AzureExecutionProvider, CPUExecutionProvider"


def test_a_gpu_hidden_by_a_variable_is_one_error() -> None:
    diagnosis = diagnosis_of("gpu_hidden")
    (followed,) = findings_of(diagnosis, "cuda-does-not-run")

    assert errors_of(diagnosis) == ["gpu-hidden"]
    assert commands_of(diagnosis) == []
    assert "unset CUDA_VISIBLE_DEVICES" in steps_of(diagnosis)
    assert followed.severity is Severity.INFO
    assert followed.evidence == ("CUDA error 100: no CUDA-capable device is detected",)


def test_no_device_without_the_variable_stays_an_error() -> None:
    hidden = load("recorded_h200x2_gpu_hidden")
    others = tuple(one for one in hidden.variables if one.name != "CUDA_VISIBLE_DEVICES")

    assert errors_of(judge(replace(hidden, variables=others))) == ["cuda-does-not-run"]


def test_a_lost_cudnn_is_a_warning_where_the_systems_own_served() -> None:
    diagnosis = diagnosis_of("cudnn_hidden")
    (finding,) = diagnosis.findings

    assert (finding.id, finding.severity) == ("nvidia-files-damaged", Severity.WARNING)
    assert finding.evidence[0] == "the session took /usr/lib/x86_64-linux-gnu/libcudnn.so.9.14.0"
    assert diagnosis.exit_code() == 0
    assert diagnosis.exit_code(strict=True) == 1
    assert commands_of(diagnosis) == [
        "python -m pip install --force-reinstall --no-deps nvidia-cudnn-cu13==9.19.0.56"
    ]


def test_a_lost_cudnn_is_an_error_where_no_session_ran() -> None:
    seen = load("recorded_h200x2_cudnn_hidden")
    refused = tuple(
        replace(one, outcome=Outcome.REFUSED) if one.provider is Provider.CUDA else one
        for one in seen.probes or ()
    )

    for probes in (refused, None):
        (finding,) = findings_of(judge(replace(seen, probes=probes)), "nvidia-files-damaged")
        assert finding.severity is Severity.ERROR


def in_the_current_folder(seen: Machine) -> Machine:
    """The machine on which the copy lies in the folder that Python was started in."""
    variables = tuple(one for one in seen.variables if one.name != "PYTHONPATH")
    first, *rest = seen.modules
    return replace(seen, variables=variables, modules=(replace(first, place=Place.CURRENT_FOLDER), *rest))


def test_a_copy_in_the_current_folder_is_left_to_a_person_too() -> None:
    diagnosis = judge(in_the_current_folder(load("recorded_h200x2_shadowed")))

    assert errors_of(diagnosis) == ["ort-shadowed"]
    assert commands_of(diagnosis) == []
    assert "run from another folder" in steps_of(diagnosis)


def test_a_runtime_of_conda_is_left_to_conda() -> None:
    seen = load("recorded_h200x2_overwritten")
    by_conda = tuple(
        replace(one, installer="conda") if one.name == "onnxruntime" else one for one in seen.distributions
    )
    diagnosis = judge(replace(seen, distributions=by_conda))
    (remedy,) = findings_of(diagnosis, "conda-pip-mix")[0].remedies

    assert errors_of(diagnosis) == ["conda-pip-mix"]
    assert isinstance(remedy, ByHand)
    assert remedy.commands[0] == "conda remove --force onnxruntime"
    assert commands_of(diagnosis) == []
    assert diagnosis.recommendation is not None
    assert not any("uninstall" in command for command in diagnosis.recommendation.commands)


@pytest.mark.parametrize(
    ("location", "variable", "inside"),
    [
        (SITE, "", True),
        (SITE, f"/home/user/shadow:{SITE}", True),  # on the variable, and the environment's all the same
        (None, "", True),
        ("/home/user/.local/lib/python3.12/site-packages", "", True),
        ("/usr/lib/python3/dist-packages", "", True),
        ("/home/user/shadow", "/home/user/shadow", False),
        ("/home/user/project", "", False),
        ("/opt/other/lib/python3.12/site-packages", "/opt/other/lib/python3.12/site-packages", False),
    ],
)
def test_what_pip_may_remove_lies_among_packages(location: str | None, variable: str, inside: bool) -> None:
    seen = load("recorded_h200x2_shadowed")
    variables = tuple(
        replace(one, value=variable) if one.name == "PYTHONPATH" else one for one in seen.variables
    )
    one = Distribution(
        name="onnxruntime", version=Version("1.30.0"), provides=("onnxruntime",), location=location
    )
    placed = replace(seen, variables=variables, distributions=(one,))

    assert in_environment(placed, one) is inside
    assert removable(placed) == (("onnxruntime",) if inside else ())


def test_a_reinstall_leaves_alone_what_lies_elsewhere() -> None:
    seen = load("recorded_h200x2_shadowed")
    case = Case(machine=seen, matrix=MATRIX, goal=Goal.GENERATE, recommendation=judge(seen).recommendation)

    assert case.reinstall().uninstall == ("onnxruntime-gpu",)


def test_another_copy_of_the_same_package_is_named_as_hidden() -> None:
    seen = load("recorded_h200x2_shadowed")
    first = next(one for one in seen.distributions if one.name == "onnxruntime")
    older = replace(first, name="onnxruntime-gpu", version=Version("1.20.0"))
    others = tuple(one for one in seen.distributions if one.name != "onnxruntime")
    module, *rest = seen.modules
    changed = replace(
        seen,
        distributions=(older, *others),
        modules=(replace(module, owner="onnxruntime-gpu"), *rest),
    )

    (finding,) = findings_of(judge(changed), "ort-shadowed")
    assert finding.summary.endswith("which hides onnxruntime-gpu 1.31.1")


def test_another_system_is_taken_to_have_its_drivers_library() -> None:
    bare = replace(load("recorded_h200x2_healthy"), driver_library=None)
    asked = machine.with_settings(bare, ["glibc=2.26"])

    assert bare.kernel_driver is not None
    assert asked.libraries == ()
    assert findings_of(judge(asked), "driver-library-missing") == []


def test_another_gpu_is_not_hidden_by_the_number_of_one_that_is_here() -> None:
    second = load("recorded_h200x2_healthy")
    asked = machine.with_settings(second, ["gpu=T4:7.5"])

    assert second.variable("CUDA_VISIBLE_DEVICES") == "1"
    assert findings_of(judge(asked), "gpu-hidden") == []
