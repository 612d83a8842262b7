"""A session with its inputs and outputs at fixed places on the device, as a captured graph needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.session import DeviceArray, Session, TensorSpec, empty_together, to_host, update

Array = npt.NDArray[Any]


class Bound:
    """One session's buffers. A captured graph replays over these very addresses, so they live with it."""

    def __init__(
        self,
        session: Session,
        *,
        places: Mapping[str, DeviceArray] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        """Bind everything.

        Args:
            session: of fixed sizes.
            places: tensors that some inputs or outputs lie in; the others get memory of their own.
            aliases: outputs that are written where an input lies, by their names.
        """
        self.session = session
        given, written_over = places or {}, aliases or {}
        specs = [*session.inputs, *session.outputs]
        wanted = [spec for spec in specs if spec.name not in given and spec.name not in written_over]
        own = empty_together(
            {spec.name: (_shape(spec), spec.dtype) for spec in wanted}, session.provider, session.device_id
        )
        found = {**own, **given}
        found |= {output: found[taken] for output, taken in written_over.items()}
        self.inputs = {spec.name: found[spec.name] for spec in session.inputs}
        self.outputs = {spec.name: found[spec.name] for spec in session.outputs}
        self._binding = session.binding()
        self._binding.bind(self.inputs, self.outputs)

    def set(self, name: str, array: Array) -> None:
        """Write an input, cast to the type that the session takes."""
        target = self.inputs[name]
        update(target, array.astype(target.dtype, copy=False))

    def warm_up(self) -> None:
        """Run once on zeros: kernels are chosen, memory is taken, and a graph is captured."""
        for name, target in self.inputs.items():
            self.set(name, np.zeros(target.shape, target.dtype))
        self.run()

    def get(self, name: str) -> Array:
        """A copy of an output."""
        return to_host(self.outputs[name])

    def run(self) -> None:
        """Run over the buffers, and wait for the device."""
        self._binding.run()


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    sizes = tuple(size for size in spec.shape if isinstance(size, int))
    assert len(sizes) == len(spec.shape), f"{spec.name} has no fixed sizes"
    return sizes
