"""How a script ends on an error of onnxsd: one line on stderr, and the error's own exit code."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

from onnxsd.errors import OnnxsdError

_Given = ParamSpec("_Given")


def one_line_errors(main: Callable[_Given, int]) -> Callable[_Given, int]:
    """`main`, which gives an exit code, without a traceback for what is no fault of the program."""

    @functools.wraps(main)
    def told(*arguments: _Given.args, **options: _Given.kwargs) -> int:
        try:
            return main(*arguments, **options)
        except OnnxsdError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code

    return told
