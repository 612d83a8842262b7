"""The command group: its commands are imported when they run, so `--help` loads none of them."""

from __future__ import annotations

import importlib
import importlib.util
import traceback
from dataclasses import dataclass
from typing import Any

import click

from onnxsd import __version__
from onnxsd.cli.errors import INTERRUPTED, exit_code_of, line_of

_DEBUG_KEY = "onnxsd.debug"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One command: `onnxsd/cli/<name>.py` holds it as `command`."""

    name: str
    summary: str

    @property
    def module(self) -> str:
        """Where the command lies."""
        return f"onnxsd.cli.{self.name}"


# A new command is its file and its line here.
ENTRIES = (
    Entry(name="doctor", summary="Say what stops this machine, and how to fix it."),
    Entry(name="export", summary="Turn a checkpoint into verified ONNX."),
    Entry(name="verify", summary="Repeat the checks of an exported folder."),
    Entry(name="generate", summary="Make images from a prompt."),
    Entry(name="info", summary="Show what a folder, a checkpoint or an image holds."),
    Entry(name="samplers", summary="List the samplers."),
    Entry(name="models", summary="List the models that an alias names."),
    Entry(name="bench", summary="Measure this machine, beside other ways to run the same model."),
)


class Program(click.Group):
    """A group that imports a command only to run it, and that turns every error into a line and a code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands whose module this installation has."""
        return [entry.name for entry in ENTRIES if importlib.util.find_spec(entry.module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`, imported now; None where there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"onnxsd.cli.{cmd_name}").command
        accept_debug(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from `ENTRIES`, without importing one."""
        present = self.list_commands(ctx)
        rows = [(entry.name, entry.summary) for entry in ENTRIES if entry.name in present]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error ends it with its line and exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise  # click reports usage errors with exit code 2, and is quiet about a closed pipe
        except click.Abort:
            ctx.exit(INTERRUPTED)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (the one place where all errors end)
            if ctx.meta.get(_DEBUG_KEY):
                click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
            click.echo(line_of(error), err=True)
            ctx.exit(exit_code_of(error))


def _remember_debug(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_DEBUG_KEY] = True  # click shares `meta` between a command and its group


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        callback=_remember_debug,
        help="Show a traceback when something goes wrong.",
    )


def accept_debug(command: click.Command) -> None:
    """Give a command, and each command below it, the `--debug` option that the group has."""
    if not any(option.name == "debug" for option in command.params):
        command.params.append(_debug_option())
    for below in getattr(command, "commands", {}).values():
        accept_debug(below)


@click.group(
    cls=Program,
    params=[_debug_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="onnxsd", message="%(prog)s %(version)s")
def main() -> None:
    """Stable Diffusion on ONNX Runtime: the right wheel, a verified export, an image."""
