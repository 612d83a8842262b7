"""Making ONNX Runtime's session: its options, and the proof that it is the one that was asked for."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from onnxsd.errors import NotReadyError, OnnxsdError, ProviderFallbackError, UsageError
from onnxsd.session import cuda, placement, runtime, tensorrt
from onnxsd.session.failures import explain, first_line, is_out_of_memory, runtime_exceptions
from onnxsd.session.native_log import capture, severity
from onnxsd.session.settings import CustomOperators, LogLevel, Provider, SessionSettings
from onnxsd.session.tensorrt import TensorrtOptions

_log = logging.getLogger(__name__)
_REJECTED = re.compile(r"Cannot use user supplied initializer with name: \(([^)]*)\)")
_CPU_NODES_REFUSED = "fallback to CPU EP has been explicitly disabled"


def require_consistent(settings: SessionSettings, provider: Provider) -> None:
    """Refuse settings that a provider cannot follow."""
    if provider is not Provider.CUDA and settings.cuda_graph:
        raise UsageError(f"a CUDA graph was asked of a session on {provider.value}")
    if provider is not Provider.TENSORRT and settings.tensorrt is not None:
        raise UsageError(f"options of TensorRT were given to a session on {provider.value}")
    if provider is Provider.CUDA and not settings.prepack:
        raise UsageError("prepacking cannot be off on CUDA: NhwcConv learns the layout of its weights there")


def native_options(settings: SessionSettings, provider: Provider) -> Any:
    """ONNX Runtime's options for a session that is not loaded yet."""
    module = runtime.load()
    options = module.SessionOptions()
    options.graph_optimization_level = getattr(module.GraphOptimizationLevel, settings.optimize.value)
    # What it warns of while it loads is read for reasons, whatever the user wants to see.
    options.log_severity_level = int(min(LogLevel.WARNING, settings.log))
    if settings.threads is not None:
        options.intra_op_num_threads = settings.threads
    if settings.lean:
        options.enable_mem_pattern = options.enable_mem_reuse = False
        options.execution_order = module.ExecutionOrder.PRIORITY_BASED
    if not settings.prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    # For TensorRT the nodes are looked up afterwards, and named.
    if provider is Provider.CUDA and not settings.cpu_nodes:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if provider is Provider.TENSORRT:
        options.add_session_config_entry(placement.RECORD, "1")
    if settings.custom_operators is not None:
        register(settings.custom_operators, options)
    return options


def register(operators: CustomOperators, options: Any) -> None:
    """Let ONNX Runtime know operators that it does not have; an error with its reason where it refuses."""
    for name, value in operators.entries:
        options.add_session_config_entry(name, value)
    try:
        # After the entries: the library reads them in this call.
        options.register_custom_ops_library(str(operators.library))
    except runtime_exceptions(runtime.load()) as error:
        raise NotReadyError(
            f"ONNX Runtime does not take the operators of {operators.library}: {first_line(error)}",
            hint="install onnxsd again, so that its native library is built anew",
        ) from error


def run_options(settings: SessionSettings, *, graph_id: int | None = None, synchronize: bool = True) -> Any:
    """Options of one run: which captured graph it replays, and whether it waits for the device."""
    options = runtime.load().RunOptions()
    options.log_severity_level = int(settings.log)
    if graph_id is not None:
        options.add_run_config_entry("gpu_graph_id", str(graph_id))
    if not synchronize:
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


def load(
    model: bytes | Path,
    options: Any,
    *,
    settings: SessionSettings,
    provider: Provider,
    device_id: int,
    label: str,
) -> Any:
    """An `InferenceSession` whose first provider is the one asked for, with the weights that were given."""
    module = runtime.load()
    notes = require(provider)
    source = str(model) if isinstance(model, Path) else model
    failure: Exception | None = None
    with capture() as log, runtime.talkative():
        try:
            # enable_fallback=0: otherwise the Python class prints a failure and starts over on the CPU.
            native = module.InferenceSession(
                source, options, providers=providers_for(settings, provider, device_id), enable_fallback=0
            )
        except runtime_exceptions(module) as error:
            failure = error
    # First, since a session over bytes fails when it turns from such weights to its empty files.
    require_shared(log.text, label)
    if failure is not None:
        raise load_failure(failure, log.text, notes, provider, label) from failure
    native.disable_fallback()
    if native.get_providers()[0] != provider.runtime_name:
        raise did_not_start(provider, cuda.reason_in(log.text, notes))
    if provider is Provider.TENSORRT:
        require_all_nodes(native, settings, label)
    _pass_on(log.text, label)
    return native


def require(provider: Provider) -> str:
    """What loading a provider's libraries had to say; an error where this build does not have it."""
    if provider is Provider.TENSORRT:
        return tensorrt.require()
    return cuda.require() if provider is Provider.CUDA else ""


def providers_for(
    settings: SessionSettings, provider: Provider, device_id: int
) -> list[tuple[str, dict[str, str]]]:
    """The providers that ONNX Runtime is given, with their options; the CPU comes last by itself."""
    if provider is Provider.CPU:
        return [(provider.runtime_name, {})]
    on_cuda = (Provider.CUDA.runtime_name, settings.cuda_options(device_id))
    if provider is Provider.CUDA:
        return [on_cuda]
    options = settings.tensorrt or TensorrtOptions()
    first = (provider.runtime_name, options.provider_options(device_id))
    return [first, on_cuda] if options.rest_on_cuda else [first]


def require_all_nodes(native: Any, settings: SessionSettings, label: str) -> None:
    """Refuse a session of which nodes run where they may not; those that TensorRT leaves are named."""
    found = placement.elsewhere(native, Provider.TENSORRT)
    may = {Provider.CPU.runtime_name} if settings.cpu_nodes else set()
    if settings.tensorrt is not None and settings.tensorrt.rest_on_cuda:
        may.add(Provider.CUDA.runtime_name)
    if refused := {name: nodes for name, nodes in found.items() if name not in may}:
        raise tensorrt.nodes_elsewhere(label, placement.told(refused))
    if found:
        _log.warning("%s: TensorRT does not take all of it: %s", label, placement.told(found))


def did_not_start(provider: Provider, reason: str | None) -> ProviderFallbackError:
    """The error for a provider that did not start, with ONNX Runtime's own reason."""
    return tensorrt.not_started(reason) if provider is Provider.TENSORRT else cuda.not_started(reason)


def load_failure(error: Exception, said: str, notes: str, provider: Provider, label: str) -> OnnxsdError:
    """Why a session was not made: the provider did not start, leaves nodes, or the model is at fault."""
    text = str(error)
    if provider.on_gpu and not is_out_of_memory(error):
        if tensorrt.says_not_started(text) or tensorrt.says_not_started(said):
            return did_not_start(provider, cuda.reason_in(text, said, notes))
        if _CPU_NODES_REFUSED in text:
            return ProviderFallbackError(
                f"{cuda.ASKED}{label} has nodes that would run on the CPU",
                hint="author shapes as initializers, or allow it with SessionSettings(cpu_nodes=True)",
            )
    return explain(error, doing=f"load {label}", provider=provider)


def require_shared(said: str, label: str) -> None:
    """Refuse a session that ignored weights which were given, because they lie on another device."""
    if rejected := _REJECTED.findall(said):
        raise UsageError(
            f"{label}: {len(rejected)} weights were not used in place, "
            f"because ONNX Runtime wants them on another device: {', '.join(rejected[:5])}"
        )


def _pass_on(said: str, label: str) -> None:
    for line in said.splitlines():
        if level := severity(line):
            _log.log(logging.ERROR if level in "EF" else logging.DEBUG, "%s: %s", label, line)
