"""A session: one model loaded on one provider, which is the one that was asked for or an error."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.errors import UsageError
from onnxsd.session import runtime
from onnxsd.session.binding import Binding
from onnxsd.session.declared import declared_weights, placeholder_files, require_all, require_fit
from onnxsd.session.device import DeviceArray, user_owned
from onnxsd.session.failures import explain, runtime_exceptions
from onnxsd.session.loading import load, native_options, require_consistent, run_options
from onnxsd.session.settings import Optimization, Provider, SessionSettings
from onnxsd.session.specs import require_fits, spec_of

Array = npt.NDArray[Any]
_FOLDER = "session.model_external_initializers_file_folder_path"


class Session:
    """One model on one provider, with everything behind it that ONNX Runtime needs to find alive."""

    def __init__(
        self,
        native: Any,
        *,
        label: str,
        provider: Provider,
        device_id: int,
        settings: SessionSettings,
        kept: tuple[Any, ...],
    ) -> None:
        """Use `Session.create`."""
        self.native = native
        self.label = label
        self.provider = provider
        self.device_id = device_id
        self.settings = settings
        self.inputs = tuple(spec_of(argument) for argument in native.get_inputs())
        self.outputs = tuple(spec_of(argument) for argument in native.get_outputs())
        self._kept = kept

    @classmethod
    def create(
        cls,
        model: bytes | Path,
        *,
        provider: Provider,
        device_id: int = 0,
        options: SessionSettings | None = None,
        initializers: Mapping[str, DeviceArray] | None = None,
        external: Mapping[str, Array] | None = None,
        label: str | None = None,
    ) -> Session:
        """The model, loaded on `provider`; an error where it would run elsewhere or with other weights.

        Args:
            model: its file, or its bytes; with bytes, each weight in external data needs a value below, and
                no file has to exist.
            initializers: weights used in place: what is written to them later, the next run sees (on the
                CPU with `prepack=False`). They lie on the session's device; needs `Optimization.DISABLED`.
            external: weights copied while the session loads, free to go afterwards; with any optimisation.
            label: what messages call the model.
        """
        settings = options or SessionSettings()
        shared, copied = dict(initializers or {}), dict(external or {})
        name = label or (str(model) if isinstance(model, Path) else "the model")
        require_consistent(settings, provider)
        _require_supported(settings, shared, copied)
        native = native_options(settings, provider)
        with ExitStack() as until_loaded:
            if isinstance(model, bytes) or shared or copied:
                _check_weights(model, native, {**shared, **copied}, name, until_loaded)
            kept = _share(native, shared)
            # ONNX Runtime reads the arrays' own memory while it loads, and has copied them afterwards.
            until_loaded.callback(_hand_over(native, copied).clear)
            loaded = load(
                model, native, settings=settings, provider=provider, device_id=device_id, label=name
            )
        return cls(loaded, label=name, provider=provider, device_id=device_id, settings=settings, kept=kept)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name, on the host, for inputs on the host."""
        if self.settings.cuda_graph:
            raise UsageError(f"{self.label}: a session with a captured graph is run through `binding()`")
        self._require_feeds(feeds)
        names = [spec.name for spec in self.outputs]
        try:
            values = self.native.run(names, dict(feeds), run_options(self.settings))
        except runtime_exceptions(runtime.load()) as error:
            raise explain(error, doing=f"run {self.label}", provider=self.provider) from error
        return dict(zip(names, values, strict=True))

    def binding(self) -> Binding:
        """Inputs and outputs that stay on the device from run to run; several may exist."""
        return Binding(self)

    def _require_feeds(self, feeds: Mapping[str, Array]) -> None:
        expected = {spec.name: spec for spec in self.inputs}
        missing = [name for name in expected if name not in feeds]
        unknown = [name for name in feeds if name not in expected]
        if missing or unknown:
            raise UsageError(
                f"{self.label} takes the inputs {', '.join(expected)}: "
                f"missing {', '.join(missing) or 'none'}, unknown {', '.join(unknown) or 'none'}"
            )
        for name, value in feeds.items():
            require_fits(expected[name], value.dtype, value.shape, self.label)


def _require_supported(
    settings: SessionSettings, shared: Mapping[str, DeviceArray], copied: Mapping[str, Array]
) -> None:
    if shared and settings.optimize is not Optimization.DISABLED:
        # Constant folding would read the model's file instead of the value given: wrong numbers, silently.
        raise UsageError(
            "weights can be shared with a session only when its optimisation is off (Optimization.DISABLED)"
        )
    if both := sorted(shared.keys() & copied.keys()):
        raise UsageError(f"weights given both to share and to copy: {', '.join(both)}")


def _check_weights(
    model: bytes | Path, native: Any, given: Mapping[str, Any], label: str, until_loaded: ExitStack
) -> None:
    """Hold the values given against what the model declares; put stand-ins where files are absent."""
    declared = declared_weights(model)
    require_fit(declared, given, label)
    if isinstance(model, bytes):
        require_all(declared, given, label)
        folder = until_loaded.enter_context(placeholder_files(declared))
        native.add_session_config_entry(_FOLDER, str(folder))


def _share(native: Any, shared: Mapping[str, DeviceArray]) -> tuple[Any, ...]:
    """Register weights for use in place; what has to live as long as the session."""
    values = {name: user_owned(array) for name, array in shared.items()}
    for name, value in values.items():
        native.add_initializer(name, value)
    return (*shared.values(), *values.values())


def _hand_over(native: Any, copied: Mapping[str, Array]) -> list[Any]:
    """Register weights for copying; what has to live until the session is loaded."""
    from_numpy = runtime.load().OrtValue.ortvalue_from_numpy
    values = [from_numpy(np.asarray(array, order="C")) for array in copied.values()]
    if values:
        native.add_external_initializers(list(copied), values)
    return values
