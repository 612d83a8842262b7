"""Another interpreter's environment: the same readers run as text; what is no interpreter is refused."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from environments import install

from onnxsd import machine
from onnxsd.errors import UsageError
from onnxsd.machine import Environment, interpreter

SAYS_3_8 = "[ $1 = --version ] && echo 'Python 3.8.20' && exit"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")


def program(path: Path, text: str) -> str:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def bare_environment(folder: Path) -> tuple[str, Path]:
    """A virtual environment without any package: its interpreter and its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(next(path for path in folder.glob("[bS]*/python*") if path.stem == "python"))
    return python, next(folder.rglob("site-packages"))


def test_another_interpreter_says_the_same_as_this_one_of_itself() -> None:
    here, there = machine.snapshot(probe=False), machine.snapshot(probe=False, python=sys.executable)

    unlike = {  # what changes by itself, or is read in another way
        "disk_free_bytes": 0,
        "temp_free_bytes": 0,
        "cache_free_bytes": 0,
        "platform_tags": (),
        "modules": (),
    }
    assert replace(here, **unlike, distributions=()) == replace(there, **unlike, distributions=())
    # pytest puts the checkout on its own path, where an editable install leaves a second onnxsd.
    assert [one for one in here.distributions if one.name != "onnxsd"] == [
        one for one in there.distributions if one.name != "onnxsd"
    ]
    assert set(here.platform_tags) == set(there.platform_tags)
    assert {one.name for one in here.modules} == {one.name for one in there.modules}


def test_an_environment_without_onnxsd_is_read(tmp_path: Path) -> None:
    python, site = bare_environment(tmp_path / "venv")
    install(site, "onnxruntime-gpu", "1.20.0", {"onnxruntime/__init__.py": ""})
    seen = machine.snapshot(probe=False, python=python)

    assert [(one.name, str(one.version)) for one in seen.owners_of("onnxruntime")] == [
        ("onnxruntime-gpu", "1.20.0")
    ]
    assert seen.python.environment is Environment.VENV
    assert seen.python.executable == python
    assert seen.pip is None
    assert seen.module("onnxruntime") is not None


@POSIX
def test_what_prints_when_a_python_starts_is_not_taken_for_the_answer(tmp_path: Path) -> None:
    python, site = bare_environment(tmp_path / "venv")
    (site / "sitecustomize.py").write_text("print('{\"hello\": 1}', flush=True)\n")

    assert machine.snapshot(probe=False, python=python).distributions == ()


@POSIX
@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("echo 'cat (GNU coreutils) 9.1'", "is no Python: asked for its version, it says 'cat"),
        ("exit 1", "it says 'nothing'"),
        ("echo 'Python 2.7.18' >&2", "is Python 2.7, and environments can be read from 3.8 on"),
        ("echo 'Python 3.7.17'", "is Python 3.7"),
        (
            "[ $1 = --version ] && echo 'Python 3.8.20' && exit; echo 'no such module' >&2; exit 3",
            "no such module",
        ),
        ("[ $1 = --version ] && echo 'Python 3.12.1' && exit; exit 3", "ended with exit code 3"),
        ("[ $1 = --version ] && echo 'Python 3.12.1' && exit; echo '{}'", "could not look at"),
    ],
)
def test_what_is_no_python_to_ask_is_refused(tmp_path: Path, text: str, part: str) -> None:
    python = program(tmp_path / "exe", text)

    with pytest.raises(UsageError, match="--python") as caught:
        machine.snapshot(probe=False, python=python)
    assert part in str(caught.value)


@POSIX
@pytest.mark.parametrize("text", ["exec sleep 60", f"{SAYS_3_8}; exec sleep 60"])
def test_an_interpreter_that_hangs_is_not_waited_for(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"no answer within 0\.5 s"):
        interpreter.of(program(tmp_path / "exe", text), timeout_s=0.5)


def test_a_program_that_is_not_there_is_refused_with_the_one_inside_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such program"):
        machine.snapshot(probe=False, python=str(tmp_path / "none"))

    python, _ = bare_environment(tmp_path / "venv")
    with pytest.raises(UsageError, match="it is a folder: name") as caught:
        machine.snapshot(probe=False, python=str(tmp_path / "venv"))
    assert Path(python).name in str(caught.value)


@POSIX
def test_a_file_that_cannot_be_started_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "exe"
    path.write_bytes(b"\x7fELF of another machine")
    path.chmod(0o755)

    with pytest.raises(UsageError, match="cannot be started"):
        interpreter.of(str(path))


@pytest.mark.parametrize("name", ["python", "packages", "damage", "modules", "probe", "torch"])
def test_what_other_interpreters_run_is_python_3_8_and_imports_the_standard_library(name: str) -> None:
    path = Path(interpreter.__file__).with_name(f"{name}_child.py")
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=interpreter.OLDEST)

    at_top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in at_top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in at_top if isinstance(node, ast.ImportFrom)}
    assert {one.split(".")[0] for one in names} <= set(sys.stdlib_module_names)
    since_3_9 = {"removeprefix", "removesuffix", "is_relative_to", "readlink", "with_stem", "bit_count"}
    assert not since_3_9 & {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's folder cannot be removed")
def test_a_hostile_environment_gives_facts_and_no_traceback(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    take = (
        "import os, sys; os.rmdir(os.getcwd()); sys.path += ['', '/dev/null', b'/bytes', '\\udcff']\n"
        "from onnxsd import machine\n"
        "from onnxsd.machine.file import text_of\n"
        "print(text_of(machine.snapshot(probe=False)))"
    )
    environ = {
        "PATH": os.pathsep.join(["", ".", "\udcff", "/proc/self/mem", "x" * 5000]),
        "PYTHONPATH": str(Path(machine.__file__).parents[2]),
        "LD_LIBRARY_PATH": ":/dev/null:::\udcff/none:relative:/proc/1/root",
        "CUDA_HOME": "/dev/null",
        "CUDA_VISIBLE_DEVICES": "\udce9",
        "PIP_CONFIG_FILE": "/dev/null",
        "TMPDIR": "/nowhere",
    }
    environ |= {f"ORT_FILLER_{at}": "x" * 100 for at in range(500)}
    done = subprocess.run(
        [sys.executable, "-c", take], cwd=gone, env=environ, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    (tmp_path / "facts.json").write_text(done.stdout)
    seen = machine.load(tmp_path / "facts.json")
    assert seen.reason_unreadable("disk_free_bytes") is not None
    assert seen.variable("CUDA_VISIBLE_DEVICES") == r"\xe9"
