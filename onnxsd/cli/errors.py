"""How an error becomes one line on stderr and an exit code."""

from __future__ import annotations

import errno

from onnxsd.errors import OnnxsdError

INTERRUPTED = 130
OUT_OF_MEMORY = 5
NO_RESOURCE = 6
UNEXPECTED = 1

# What a disk or a permission answers with; a missing file is not here: it is a bad path, not a bad disk.
_RESOURCE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EMFILE, errno.EFBIG}
)


def exit_code_of(error: BaseException) -> int:
    """The exit code that an error ends the program with."""
    if isinstance(error, OnnxsdError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    return NO_RESOURCE if _is_resource_error(error) else UNEXPECTED


def line_of(error: BaseException) -> str:
    """The one line that says what went wrong; line breaks in a message become spaces."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = " ".join(str(error).split())
    if isinstance(error, OnnxsdError):
        return f"error: {text}"
    if isinstance(error, MemoryError):
        return f"error: out of memory: {text}" if text else "error: out of memory"
    if _is_resource_error(error):
        return f"error: {text}"
    return f"error: unexpected {type(error).__name__}: {text} (run again with --debug to see where)"


def _is_resource_error(error: BaseException) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    return isinstance(error, OSError) and error.errno in _RESOURCE_ERRNOS
