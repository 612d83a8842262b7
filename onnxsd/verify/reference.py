"""Each exported component against the model that it was made of: its relative error, and what it may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.artifact.folder import Folder
from onnxsd.artifact.manifest import CheckRecord
from onnxsd.errors import BadInputError, NotReadyError, VerificationError
from onnxsd.models.components import Blueprint
from onnxsd.models.config import read_json
from onnxsd.ops import Target
from onnxsd.session import Choice, Provider
from onnxsd.tensors import DType
from onnxsd.verify import torch_models
from onnxsd.verify.cases import cases
from onnxsd.verify.exported import exported_session
from onnxsd.verify.folder import free_memory_bytes
from onnxsd.verify.runnable import random_inputs
from onnxsd.verify.shapes import CPU_BYTES_PER_WEIGHT, EXPORTED
from onnxsd.verify.torch_models import Checkpoint

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]
CHECK = "reference"
# Of the Frobenius norm. Sums in another order cost a few 1e-7 in float32; one SDXL UNet call in fp16 costs
# 1.3e-3 on a GPU, and torch's own fp16 1.5e-3.
BOUNDS: Mapping[DType, float] = {DType.FLOAT32: 1e-5, DType.FLOAT16: 3e-3}
# Some models amplify rounding more than others (narrow ones with random weights do): what torch's own float16
# is off by is allowed too, and half as much again, for its kernels round at other places; up to a limit. A
# wrong weight or a lost node is off by far more.
FP16_SLACK = 1.5
MOST_FP16 = 1e-2
# The reference holds one number of float32 for each weight.
REFERENCE_BYTES_PER_WEIGHT = 4


def require_memory(checkpoint: Checkpoint, choice: Choice) -> None:
    """Refuse a comparison that would not fit: the image needs all models at once, of one side at a time.

    Raises:
        NotReadyError: this machine has less memory than is needed; nothing is refused where it does not say.
    """
    ours = CPU_BYTES_PER_WEIGHT if choice.provider is Provider.CPU else 0
    needed = checkpoint.parameter_count * max(ours, REFERENCE_BYTES_PER_WEIGHT)
    free = free_memory_bytes()
    if free is not None and needed > free:
        raise NotReadyError(
            f"a comparison with diffusers needs about {needed / 1e9:.0f} GB of memory for"
            f" {checkpoint.folder}, {free / 1e9:.0f} GB are free",
            hint="compare on a larger machine; `onnxsd verify` without --against needs no reference",
        )


def require_same_models(folder: Folder, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint of other models than the export's, whose numbers would say nothing."""
    pipeline = read_json(checkpoint.folder / "model_index.json").get("_class_name")
    if pipeline != folder.manifest.pipeline:
        raise _not_its_source(folder, checkpoint, f"a {pipeline}, the export is a {folder.manifest.pipeline}")
    for record in folder.manifest.components:
        exported = folder.blueprint(record.name)
        part = checkpoint.parts.get(exported.component.source)
        if part is None:
            raise _not_its_source(folder, checkpoint, f"without the export's {record.name}")
        theirs = Blueprint(
            component=exported.component,
            config=read_json(part.folder / "config.json"),
            time_ids=exported.time_ids,
        )
        if _architecture(exported) != _architecture(theirs):
            raise _not_its_source(folder, checkpoint, f"with a {record.name} of other sizes")


def _architecture(blueprint: Blueprint) -> object:
    """Names and shapes of what goes in and of every weight."""
    graph = blueprint.author(Target.PORTABLE, DType.FLOAT32)
    inputs = [(name, str(shape)) for name, _, shape in graph.inputs]
    return inputs, {recipe.source: recipe.source_shape for recipe in graph.recipes}


def _not_its_source(folder: Folder, checkpoint: Checkpoint, found: str) -> BadInputError:
    return BadInputError(
        f"{folder.path} was not made of {checkpoint.folder}: it is {found}",
        hint=f"the export says that it was made of {folder.manifest.source}",
    )


def compare(
    folder: Folder, checkpoint: Checkpoint, *, choice: Choice, say: Callable[[str], None] = lambda _: None
) -> Iterator[CheckRecord]:
    """One record a component: the same seeded inputs through the exported file and through the reference.

    One model is in memory at a time.

    Args:
        folder: the export; its files are run as they are.
        checkpoint: what it was made of (`require_same_models`).
        choice: the provider that runs the files; the reference runs on the CPU.
        say: is told each component before it is compared.
    """
    for record in folder.manifest.components:
        say(f"comparing {record.name} with diffusers")
        yield _compared(folder, record.name, checkpoint, choice)


def _compared(folder: Folder, name: str, checkpoint: Checkpoint, choice: Choice) -> CheckRecord:
    blueprint = folder.blueprint(name)
    graph = blueprint.author(folder.target, folder.manifest.precision)
    sizes = cases(blueprint)
    runs = tuple(random_inputs(graph, case, seed) for seed, case in enumerate(sizes))
    expected = torch_models.outputs(checkpoint, name, runs)
    try:
        session = exported_session(folder, name, choice)
        worst = _worst([session.run(feeds) for feeds in runs], expected, sizes)
        bound, note = BOUNDS[folder.manifest.precision], ""
        if worst.error > bound and folder.manifest.precision is DType.FLOAT16:
            own = _own_rounding(checkpoint, name, runs, expected, sizes)
            bound, note = (
                max(bound, min(FP16_SLACK * own, MOST_FP16)),
                f", torch's own float16 is off by {own:.1e}",
            )
        passed, detail = worst.error <= bound, f"{worst}; {len(sizes)} sizes; {bound:.1e} is allowed{note}"
    except VerificationError as error:
        passed, detail = False, str(error)
    return CheckRecord(check=CHECK, component=name, subject=EXPORTED, passed=passed, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far one output is from the reference's at one size."""

    error: float
    output: str
    case: Mapping[str, int]

    def __str__(self) -> str:
        sizes = "×".join(str(size) for size in self.case.values())
        return f"relative error {self.error:.1e} against float32, in {self.output} at {sizes}"


def _own_rounding(
    checkpoint: Checkpoint,
    name: str,
    runs: Sequence[Outputs],
    expected: Sequence[Outputs],
    sizes: Sequence[Mapping[str, int]],
) -> float:
    """How far torch's own float16 is off; 0 where it overflows, for that excuses nothing."""
    try:
        found = torch_models.outputs(checkpoint, name, runs, dtype=DType.FLOAT16)
        return _worst(found, expected, sizes).error
    except VerificationError:
        return 0.0


def _worst(
    found: Sequence[Outputs], expected: Sequence[Outputs], sizes: Sequence[Mapping[str, int]]
) -> Difference:
    """The largest difference of all outputs at all sizes."""
    runs = zip(found, expected, sizes, strict=True)
    return max(
        (difference for got, wanted, case in runs for difference in _differences(got, wanted, case)),
        key=lambda difference: difference.error,
    )


def _differences(found: Outputs, wanted: Outputs, case: Mapping[str, int]) -> Iterator[Difference]:
    """Every output's.

    Raises:
        VerificationError: the outputs are not the reference's, or hold NaN or infinity.
    """
    if found.keys() != wanted.keys():
        raise VerificationError(f"outputs are {', '.join(found)}; the reference has {', '.join(wanted)}")
    for name, expected in wanted.items():
        got = found[name]
        if got.shape != expected.shape:
            raise VerificationError(
                f"{name} has shape {list(got.shape)}, the reference {list(expected.shape)}"
            )
        for array, whose in ((expected, "the reference's"), (got, "the export's")):
            if not np.isfinite(array).all():
                raise VerificationError(f"{whose} {name} holds NaN or infinity at {dict(case)}")
        yield Difference(error=relative_error(got, expected), output=name, case=case)


def relative_error(found: Array, expected: Array) -> float:
    """‖found − expected‖ / ‖expected‖, Frobenius, in float64; infinite where only zeros were expected."""
    wide = expected.astype(np.float64)
    apart, size = (float(np.linalg.norm(array)) for array in (found.astype(np.float64) - wide, wide))
    if size == 0:
        return 0.0 if apart == 0 else math.inf
    return apart / size
