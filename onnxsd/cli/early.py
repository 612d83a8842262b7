"""Finding out where to run while the rest of a command is still being imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxsd.session import Choice


@contextmanager
def resolved_meanwhile(provider: str, device: int) -> Iterator[Callable[[], Choice]]:
    """What `session.resolve` says, asked for when the body has ended; an error of it is raised then.

    The body must print nothing: starting a provider catches what native code writes to stderr.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="onnxsd-resolve") as pool:
        found = pool.submit(_resolve, provider, device)
        yield found.result


def _resolve(provider: str, device: int) -> Choice:
    from onnxsd.session import resolve

    return resolve(provider, device)
