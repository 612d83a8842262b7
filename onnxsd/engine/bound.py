"""A session with its inputs and outputs at fixed places on the device, as a captured graph needs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.session import DeviceArray, Session, empty, update


class Bound:
    """One session's buffers. A captured graph replays over these very addresses, so they live with it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        place = (session.provider, session.device_id)
        self.inputs = {spec.name: _buffer(spec, place) for spec in session.inputs}
        self.outputs = {spec.name: _buffer(spec, place) for spec in session.outputs}
        self._binding = session.binding()
        self._binding.bind(self.inputs, self.outputs)

    def set(self, name: str, array: npt.NDArray[Any]) -> None:
        """Write an input, cast to the type that the session takes."""
        target = self.inputs[name]
        update(target, np.asarray(array.astype(target.dtype, copy=False), order="C"))

    def run(self) -> None:
        """Run over the buffers, and wait for the device."""
        self._binding.run()


def _buffer(spec: Any, place: tuple[Any, int]) -> DeviceArray:
    return empty(tuple(int(size) for size in spec.shape), spec.dtype, *place)
