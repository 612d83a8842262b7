"""The frame of the command line: its errors and exit codes, and what it imports."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from onnxsd import __version__
from onnxsd.cli import main
from onnxsd.cli.main import ENTRIES, Program
from onnxsd.errors import (
    BadInputError,
    DeviceMemoryError,
    NotReadyError,
    ProviderFallbackError,
    ResourceError,
)

MACHINES = Path(__file__).parent / "machines"
HEAVY = ("numpy", "onnx", "onnxruntime", "torch", "PIL", "huggingface_hub", "tokenizers", "safetensors")


def run(*arguments: str) -> Result:
    """What `onnxsd` with these arguments prints and exits with."""
    return CliRunner().invoke(main, list(arguments), prog_name="onnxsd")


def facts(name: str) -> tuple[str, str]:
    """The options that judge a recorded machine."""
    return "--facts", str(MACHINES / f"{name}.json")


def program_that_raises(error: BaseException) -> click.Group:
    """The real group, over a command that ends in `error`."""

    @click.command("fail")
    def fail() -> None:
        raise error

    class OneCommand(Program):
        def list_commands(self, ctx: click.Context) -> list[str]:
            return ["fail"]

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            from onnxsd.cli.main import accept_debug

            accept_debug(fail)
            return fail

    return OneCommand(params=main.params, callback=main.callback)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (NotReadyError("no runtime", hint="install one"), 1, "error: no runtime (install one)"),
        (BadInputError("a.json is\nnot JSON"), 3, "error: a.json is not JSON"),
        (ProviderFallbackError("asked for CUDA"), 4, "error: asked for CUDA"),
        (DeviceMemoryError("needs 9 GB"), 5, "error: needs 9 GB"),
        (ResourceError("disk"), 6, "error: disk"),
        (MemoryError(), 5, "error: out of memory"),
        (
            PermissionError(errno.EACCES, "Permission denied", "out"),
            6,
            "error: [Errno 13] Permission denied: 'out'",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 6, "error: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "error: unexpected ZeroDivisionError: division by zero (run again with --debug to see where)",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_is_one_line_and_a_code(error: BaseException, code: int, line: str) -> None:
    result = CliRunner().invoke(program_that_raises(error), ["fail"])

    assert result.exit_code == code
    assert result.stderr == line + "\n"
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [("--debug", "fail"), ("fail", "--debug")])
def test_debug_shows_where(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(program_that_raises(BadInputError("no such model")), list(arguments))

    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("error: no such model\n")
    assert result.exit_code == 3


def test_wrong_usage_is_2() -> None:
    assert run("nonsense").exit_code == 2
    assert run("doctor", "--for", "fun").exit_code == 2
    assert run("doctor", "--explain", "nonsense").exit_code == 2


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"onnxsd {__version__}\n"


def test_help_lists_each_command_that_is_there() -> None:
    listed = run("--help").stdout
    present = [entry for entry in ENTRIES if Path(main_folder(), f"{entry.name}.py").exists()]

    assert present
    for entry in present:
        assert f"  {entry.name} " in listed


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_command_that_is_there_has_help_and_debug(entry: object) -> None:
    name = entry.name  # type: ignore[attr-defined]
    if not Path(main_folder(), f"{name}.py").exists():
        assert run(name, "--help").exit_code == 2
        return
    result = run(name, "--help")

    assert result.exit_code == 0, result.output
    assert "--debug" in result.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import onnxsd",
        "from onnxsd.cli import main; main(['--help'], standalone_mode=False)",
        "from onnxsd.cli import main; main(['--version'], standalone_mode=False)",
        "from onnxsd.cli import main; main(['doctor', '--help'], standalone_mode=False)",
        "from onnxsd.cli import main; main(['doctor', '--no-probe', '--json'], standalone_mode=False)",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    ask = f"import sys\n{code}\nprint(','.join(n for n in {HEAVY} if n in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == ""


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "onnxsd", "doctor", *facts("healthy_cuda13"), "--json"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)

    assert done.stderr == ""


def main_folder() -> Path:
    """Where the commands lie."""
    import onnxsd.cli

    return Path(onnxsd.cli.__file__).parent
