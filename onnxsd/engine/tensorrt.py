"""Sessions on TensorRT, over the files that `onnxsd export --target portable` wrote, at one size each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from onnxsd.artifact import manifest as manifests
from onnxsd.artifact.folder import Folder, hash_of
from onnxsd.artifact.manifest import ComponentRecord, FileRecord, TensorRecord
from onnxsd.errors import BadInputError, NotReadyError, UsageError
from onnxsd.ops import Target
from onnxsd.session import (
    Optimization,
    Provider,
    Session,
    SessionSettings,
    TensorrtOptions,
    TensorSpec,
    available,
    gpus,
    tensorrt_libraries,
)
from onnxsd.session.engine_cache import Builder, EngineKey, kept
from onnxsd.session.loading import require
from onnxsd.tensors import DType

# What ONNX Runtime says of an engine's file that is damaged, as by a disk that was full.
_UNREADABLE = "could not deserialize engine"
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


def tensorrt_session(
    folder: Folder,
    component: str,
    sizes: Mapping[str, int],
    device_id: int = 0,
    *,
    rest_on_cuda: bool = False,
) -> Session:
    """A component's session on TensorRT at these sizes, and no others; its engine is kept for the next time.

    Building an engine takes minutes; one that was kept loads in seconds.

    Args:
        folder: an export of the portable target.
        sizes: the values of the component's symbols.
        rest_on_cuda: let CUDA and the CPU run nodes that TensorRT does not take; each is named in a warning.

    Raises:
        BadInputError: an export of another target, whose operators TensorRT does not know.
        ProviderFallbackError: TensorRT does not start, or leaves nodes to other providers.
    """
    require_portable(folder)
    record = folder.manifest.component(component)
    require(Provider.TENSORRT)
    options = TensorrtOptions(
        fp16=folder.manifest.precision is DType.FLOAT16,
        shapes=profile(record, sizes),
        rest_on_cuda=rest_on_cuda,
    )
    key = engine_key(folder.path, record, options, builder(device_id))
    root = cache_folder()
    timings = root / key.timing_name
    timings.mkdir(parents=True, exist_ok=True)
    with kept(root, key) as engine_folder:
        placed = replace(options, engine_folder=engine_folder, timing_folder=timings)
        session = _create(folder.path / record.model.path, placed, device_id, component)
    # Another size would have the engine built anew in the middle of a run.
    session.inputs = tuple(_fixed(spec, dict(options.shapes)) for spec in session.inputs)
    return session


def require_portable(folder: Folder) -> None:
    """Refuse an export whose files hold ONNX Runtime's own operators."""
    if folder.target is not Target.PORTABLE:
        raise BadInputError(
            f"{folder.path} was exported for {folder.target.value}, "
            "and TensorRT does not know the operators that its files hold",
            hint=f"onnxsd export {folder.manifest.source} FOLDER --target portable, and take that folder; "
            "or --provider cuda",
        )


def profile(record: ComponentRecord, sizes: Mapping[str, int]) -> Shapes:
    """The shape of each input that has symbolic sizes, at these sizes."""
    symbolic = [tensor for tensor in record.inputs if not all(size.isdecimal() for size in tensor.shape)]
    return tuple((tensor.name, _shape(record, tensor, sizes)) for tensor in symbolic)


def engine_key(root: Path, record: ComponentRecord, options: TensorrtOptions, made_by: Builder) -> EngineKey:
    """What a component's engine depends on."""
    return EngineKey(
        component=record.name,
        model_sha256=_sha256(root, record.model),
        data_sha256=_sha256(root, record.data),
        options=tuple(sorted(options.build_options().items())),
        builder=made_by,
    )


def builder(device_id: int) -> Builder:
    """What builds engines for a GPU of this machine."""
    found = gpus.visible_gpus()
    gpus.require_device(Provider.TENSORRT.value, device_id, found)
    if not found:
        raise NotReadyError(
            "the NVIDIA driver does not say which GPUs there are", hint="run `onnxsd doctor --for generate`"
        )
    installed, gpu = available(), found[device_id]
    return Builder(
        onnxruntime=f"{installed}, CUDA {installed.cuda}",
        tensorrt=tensorrt_libraries.version(),
        driver=gpus.driver_version(),
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
    )


def cache_folder() -> Path:
    """The folder of kept engines, which may be emptied at any time."""
    from platformdirs import user_cache_path

    return user_cache_path("onnxsd") / "tensorrt"


def _create(model: Path, options: TensorrtOptions, device_id: int, component: str) -> Session:
    settings = SessionSettings(
        # TensorRT optimises by itself; it is to see the file as it was verified.
        optimize=Optimization.DISABLED,
        cpu_nodes=options.rest_on_cuda,
        tensorrt=options,
    )
    try:
        return Session.create(
            model, provider=Provider.TENSORRT, device_id=device_id, options=settings, label=component
        )
    except BadInputError as error:
        if _UNREADABLE not in error.message:
            raise
        raise BadInputError(
            f"the kept engine of {component} cannot be read: {error.message}",
            hint=f"delete {options.engine_folder}, and it is built again",
        ) from error


def _sha256(root: Path, file: FileRecord) -> str:
    """A file's hash: the manifest's, unless the file was written after the manifest."""
    path = root / file.path
    if path.stat().st_mtime_ns <= (root / manifests.NAME).stat().st_mtime_ns:
        return file.sha256
    return hash_of(path)


def _shape(record: ComponentRecord, tensor: TensorRecord, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The input's concrete shape; each of its sizes is a number or a symbol."""
    if missing := [size for size in tensor.shape if not size.isdecimal() and size not in sizes]:
        raise UsageError(f"{record.name}: no value was given for {', '.join(missing)} of {tensor.name}")
    return tuple(int(size) if size.isdecimal() else sizes[size] for size in tensor.shape)


def _fixed(spec: TensorSpec, shapes: Mapping[str, tuple[int, ...]]) -> TensorSpec:
    return replace(spec, shape=shapes.get(spec.name, spec.shape))
