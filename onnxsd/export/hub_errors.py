"""huggingface_hub's exceptions in this project's words, over the versions and HTTP libraries it has had."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from onnxsd.errors import BadInputError, OnnxsdError, ResourceError

_DISK_FULL = (
    frozenset({errno.ENOSPC, errno.EDQUOT}) if hasattr(errno, "EDQUOT") else frozenset({errno.ENOSPC})
)


class UnreachableError(ResourceError):
    """The Hub did not answer, or answered that it cannot serve now."""


class BrokenConnectionError(UnreachableError):
    """There was no connection, or it broke before the end."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise what huggingface_hub raises inside as one of our errors about `what`."""
    from huggingface_hub import errors

    # The HTTP library is requests, httpx or httpx2, by version; HfHubHTTPError's first base is its base.
    transport = cast("type[Exception]", errors.HfHubHTTPError.__bases__[0])
    try:
        yield
    except (OSError, errors.EntryNotFoundError, errors.HFValidationError, transport) as error:
        raise explain(error, what) from error


def explain(error: Exception, what: str) -> OnnxsdError:
    """What an exception of huggingface_hub means for a user who asked for `what`."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.HFValidationError):
        return BadInputError(f"{what}: {error}", hint="a Hub id is OWNER/NAME")
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return explain(
            error.__cause__, what
        )  # "not in the cache either": the cause says why it was not fetched
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error, what)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return ResourceError(
            f"the disk filled up while downloading {what} to {constants.HF_HUB_CACHE}",
            hint="free some space, or set HF_HOME to a folder on a larger disk; files that came are kept",
        )
    if isinstance(error, OSError) and error.filename:  # a path: the disk refused, not the network
        return ResourceError(
            f"cannot keep {what} in the cache: {error.strerror}: {error.filename}",
            hint="set HF_HOME to a folder that you may write",
        )
    return BrokenConnectionError(f"cannot get {what} from {constants.ENDPOINT}: {_one_line(error)}")


def _explain_status(error: Exception, what: str) -> OnnxsdError:
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status in (401, 403):
        return ResourceError(
            f"{constants.ENDPOINT} refused {what} (HTTP {status}): it is gated, private, or does not exist",
            hint="check the name; accept the terms on its page while logged in; then set HF_TOKEN to a token "
            "of that account, or run `hf auth login`",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return BadInputError(f"{what}: no such revision on {constants.ENDPOINT}", hint="check --revision")
    if isinstance(error, errors.EntryNotFoundError):
        return BadInputError(f"{what}: no such file on {constants.ENDPOINT}")
    if status == 404:
        return BadInputError(
            f"{what}: no such model on {constants.ENDPOINT}, and no folder of that name here",
            hint="check the spelling; `onnxsd models` lists the short names",
        )
    said = getattr(error, "server_message", None)
    answer = f"it answered HTTP {status}{f': {said}' if said else ''}"
    return UnreachableError(f"cannot get {what} from {constants.ENDPOINT}: {answer}")


def _one_line(error: Exception) -> str:
    """The exception's name and first line of text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
