"""Inputs and outputs that stay on the device from one run to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onnxsd.errors import UsageError
from onnxsd.session import runtime
from onnxsd.session.device import DeviceArray, wrap
from onnxsd.session.failures import explain, runtime_exceptions
from onnxsd.session.loading import run_options
from onnxsd.session.specs import TensorSpec, named, require_fits

if TYPE_CHECKING:
    from onnxsd.session.session import Session


class Binding:
    """A session's inputs and outputs, bound to tensors on its device.

    One tensor may be bound as an input and as an output: it is state that each run moves on, if the node that
    writes it reads it element by element. With `cuda_graph` the first run executes the graph three times (two
    to warm up, one to capture), so such state is reset after it; and all runs belong to one thread.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._native = session.native.io_binding()
        self._inputs: dict[str, DeviceArray] = {}
        self._outputs: dict[str, DeviceArray | None] = {}
        self._run_options: dict[tuple[int | None, bool], Any] = {}

    def bind_input(self, name: str, value: DeviceArray) -> None:
        """Read the input `name` from this tensor, where it lies, in every run."""
        self._require(self.session.inputs, name, value)
        self._native.bind_ortvalue_input(name, value.value)
        self._inputs[name] = value

    def bind_output(self, name: str, value: DeviceArray | None = None) -> None:
        """Write the output `name` into this tensor, or into device memory that ONNX Runtime takes itself."""
        if value is None:
            named(self.session.outputs, name, self.session.label)
            if self.session.settings.cuda_graph:
                raise UsageError(
                    f"{self.session.label}: a captured graph needs a tensor for its output {name}"
                )
            self._native.bind_output(name, self.session.provider.value, self.session.device_id)
        else:
            self._require(self.session.outputs, name, value)
            self._native.bind_ortvalue_output(name, value.value)
        self._outputs[name] = value

    def bind(self, inputs: Mapping[str, DeviceArray], outputs: Mapping[str, DeviceArray]) -> None:
        """Bind several inputs and outputs at once."""
        for name, value in inputs.items():
            self.bind_input(name, value)
        for name, value in outputs.items():
            self.bind_output(name, value)

    def run(self, *, graph_id: int | None = None, synchronize: bool = True) -> None:
        """Run once over what is bound.

        Args:
            graph_id: which captured graph this is (a session keeps several); -1 runs without capturing.
            synchronize: wait until the device has finished. Without it, call `synchronize()` before reading
                an output or writing an input from the host.
        """
        missing = [spec.name for spec in self.session.inputs if spec.name not in self._inputs]
        if missing or not self._outputs:
            raise UsageError(
                f"{self.session.label}: not bound: {', '.join(missing) or 'any output'}, and a run needs it"
            )
        options = self._options(graph_id, synchronize)
        try:
            self.session.native.run_with_iobinding(self._native, options)
        except runtime_exceptions(runtime.load()) as error:
            raise explain(error, doing=f"run {self.session.label}", provider=self.session.provider) from error

    def synchronize(self) -> None:
        """Wait until the device has finished every run so far."""
        self._native.synchronize_outputs()

    def outputs(self) -> dict[str, DeviceArray]:
        """The outputs of the last run by name, where they lie."""
        session = self.session
        values = self._native.get_outputs()
        return {
            name: bound or wrap(value, session.provider, session.device_id)
            for (name, bound), value in zip(self._outputs.items(), values, strict=True)
        }

    def _options(self, graph_id: int | None, synchronize: bool) -> Any:
        key = (graph_id, synchronize)
        if key not in self._run_options:
            self._run_options[key] = run_options(
                self.session.settings, graph_id=graph_id, synchronize=synchronize
            )
        return self._run_options[key]

    def _require(self, specs: tuple[TensorSpec, ...], name: str, value: DeviceArray) -> None:
        spec = named(specs, name, self.session.label)
        require_fits(spec, value.dtype, value.shape, self.session.label)
        # ONNX Runtime would copy once, now, and never see what is written to the tensor later.
        if (value.provider, value.device_id) != (self.session.provider, self.session.device_id):
            raise UsageError(
                f"{self.session.label} runs on {self.session.provider.value}:{self.session.device_id}, "
                f"and {name} is given as {value}"
            )
