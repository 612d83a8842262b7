"""The commands that the bench sends to a contender, each a method; arguments and answers go as JSON."""

from __future__ import annotations

import importlib.metadata
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

Answer = dict[str, Any]


class Contender(ABC):
    """One way to run a model. It is made by `load`, and answers the rest until the process ends.

    Sizes are pixels a side. A call of the denoiser has a row for the negative prompt besides each image's,
    where guidance is above 1.
    """

    @abstractmethod
    def image(
        self, *, size: int, batch: int, steps: int, guidance: float, prompt: str, seed: int, save: str | None
    ) -> Answer:
        """`seconds` from the prompt to pixels that a PNG takes; with `save`, the pixels as .npy, 0…255."""

    @abstractmethod
    def denoise(self, *, size: int, batch: int, guidance: float, calls: int, blocks: int) -> Answer:
        """`seconds` of one call with guidance, one number a block: the mean of its calls, then waited for.

        An image of this size and batch was made before.
        """

    @abstractmethod
    def decode(self, *, size: int, batch: int, calls: int, blocks: int) -> Answer:
        """`seconds` of one decoding of the batch, one number a block, as `denoise` gives them."""

    @abstractmethod
    def unet_output(self, *, inputs: str, out: str) -> Answer:
        """What the denoiser gives for the inputs in an .npz, written as .npy in float32."""

    @abstractmethod
    def vae_output(self, *, inputs: str, out: str) -> Answer:
        """What the decoder gives for the latents in an .npz, written as .npy in float32."""

    def forget(self) -> None:
        """Let go what an error may have left: called after a command that failed."""
        return


def timed_blocks(
    call: Callable[[], object], wait: Callable[[], object], *, calls: int, blocks: int
) -> list[float]:
    """Seconds of one call, for each block: the mean of its calls, with the device waited for at the end."""
    found = []
    for _ in range(blocks):
        wait()
        started = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        found.append((time.perf_counter() - started) / calls)
    return found


def versions_of(*names: str) -> Answer:
    """The versions of those packages that this environment has."""
    return {name: version for name in names if (version := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def variant_in(folder: Path) -> str | None:
    """`fp16` where a checkpoint has its weights under that variant alone."""
    names = [path.name for path in folder.glob("unet/*.safetensors")]
    halves = [name for name in names if ".fp16." in name]
    return "fp16" if halves and len(halves) == len(names) else None
