"""Finding out where to run and loading kernels there, while the rest of a command is still being imported."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxsd.session import Choice


@contextmanager
def resolved_meanwhile(provider: str, device: int, kernels: str) -> Iterator[Callable[[], Choice]]:
    """What `session.resolve` says, asked for when the body has ended; an error of it is raised then.

    The body must print nothing: starting a provider catches what native code writes to stderr.

    Args:
        provider, device: as `session.resolve` takes them.
        kernels: the kernels that an engine will be asked for, by the name that `Kernels` has for them.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="onnxsd-resolve") as pool:
        found = pool.submit(_resolve, provider, device, kernels)
        yield found.result


def _resolve(provider: str, device: int, kernels: str) -> Choice:
    from onnxsd.session import Provider, resolve

    choice = resolve(provider, device)
    if choice.provider is Provider.CUDA and kernels != "stock":
        _load_kernels(choice)
    return choice


def _load_kernels(choice: Choice) -> None:
    """Load own kernels for whoever asks next; they stay loaded."""
    from onnxsd.errors import OnnxsdError
    from onnxsd.kernels.choice import Kernels, choose
    from onnxsd.tensors import DType

    # What goes wrong goes wrong for the engine too, which knows the model and what was asked, and says it.
    with contextlib.suppress(OnnxsdError):
        choose(Kernels.AUTO, provider=choice.provider, device_id=choice.device_id, precision=DType.FLOAT16)
