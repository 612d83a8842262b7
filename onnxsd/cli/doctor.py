"""`onnxsd doctor`: look at a machine, or at a saved one, say what stops it, and mend what pip can mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("doctor")
@click.option(
    "--for",
    "goal",
    type=click.Choice(["generate", "export"]),
    default="generate",
    show_default=True,
    help="What the machine must be ready for.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--strict", is_flag=True, help="Let warnings count as errors.")
@click.option(
    "--facts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge a saved machine, not this one.",
)
@click.option(
    "--save-facts",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write what was seen to a file: the bug report.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a fact before judging, repeatable: os, arch, glibc, musl, python, free_threaded, pip, "
    "driver, gpu=NAME:CC, package=NAME==VERSION.",
)
@click.option("--python", metavar="EXE", help="Look at another interpreter's environment.")
@click.option(
    "--no-probe", is_flag=True, help="Read only: start no process that imports onnxruntime or torch."
)
@click.option("--check", "check_id", metavar="ID", help="Run one check.")
@click.option("--list-checks", is_flag=True, help="List the checks.")
@click.option("--explain", metavar="ID", help="Say what a check means, why, and where that is known from.")
@click.option("--symptom", metavar="TEXT", help="Say what an error text points to; - reads it from stdin.")
@click.option("--apply", is_flag=True, help="Show the plan, ask, run it, and look again.")
@click.option("--yes", is_flag=True, help="With --apply: do not ask.")
@click.option("--shell", type=click.Choice(["bash", "powershell"]), help="Print the plan for this shell.")
@click.option(
    "--wheel-list", is_flag=True, help="Print the plan as wheels to carry to a machine without network."
)
@click.option("--dockerfile", is_flag=True, help="Print the plan as a container recipe.")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Say what stops this machine, and how to fix it.

    Exits with 0 when the machine is ready, with 1 when something stops it.
    """
    from onnxsd.cli.doctor_answer import Asked, answer

    ctx.exit(answer(Asked(**options)))
