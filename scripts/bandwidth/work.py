"""The work that own operators do for a picture, and the bytes that it must move."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from determinism.calls import Found, Kind, Operand, distinct, shape_and_type

from onnxsd.artifact.manifest import LatentRecord
from onnxsd.engine.decoding import DECODER
from onnxsd.engine.loop import FEWEST_CALLS
from onnxsd.engine.pixel_graph import author_pixels
from onnxsd.engine.step_graph import LoopShape, author_loop
from onnxsd.models.components import Blueprint
from onnxsd.ops import Target
from onnxsd.ops.operators import OWN
from onnxsd.prompt.tokenizer import CONTEXT_TOKENS
from onnxsd.tensors import DType, aligned

# What operands are for, by their places.
OPERANDS: Mapping[str, tuple[str, ...]] = {
    "FusedGroupNorm": ("x", "gamma", "beta", "skip", "bias"),
    "FusedLayerNorm": ("x", "gamma", "beta", "skip", "bias"),
    "GEGLU": ("x", "bias"),
    "UpsampleNearest": ("x", "skip", "bias"),
    "Interleave": ("x", "bias"),
    "FusedAdd": ("x", "skip", "bias"),
    "FusedConcat": ("x", "other", "skip", "bias"),
    "RowSoftmax": ("x",),
}
# The same of outputs, where there are several.
OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "FusedGroupNorm": ("y", "scratch", "sum"),
    "FusedLayerNorm": ("y", "sum"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One distinct call of an own operator in a graph."""

    graph: str
    found: Found

    @property
    def operator(self) -> str:
        """Its name."""
        return self.found.call.operator

    @property
    def count(self) -> int:
        """How often the graph has it."""
        return len(self.found.nodes)

    @property
    def operands(self) -> dict[str, tuple[int, Operand]]:
        """What it is given, and where, by what that is for."""
        pairs = zip(OPERANDS[self.operator], enumerate(self.found.call.operands), strict=False)
        return {role: (index, operand) for role, (index, operand) in pairs if operand is not None}

    @property
    def outputs(self) -> dict[str, tuple[int, int]]:
        """The place and the bytes of each output that it writes, by what that is for."""
        roles = OUTPUTS.get(self.operator, ("y",))
        values = zip(roles, enumerate(self.found.node.outputs), strict=False)
        return {
            role: (index, _bytes(*shape_and_type(value))) for role, (index, value) in values if value.name
        }

    @property
    def moved_bytes(self) -> int:
        """Each operand once and each output once, without scratch; a norm of a feature map reads it again.

        A map's mean and variance are known when all of it has been read, and no block holds a map.
        """
        read = {role: _bytes(operand.shape, operand.dtype) for role, (_, operand) in self.operands.items()}
        written = {role: size for role, (_, size) in self.outputs.items() if role != "scratch"}
        return sum(read.values()) + sum(written.values()) + self._read_again(read, written)

    def _read_again(self, read: Mapping[str, int], written: Mapping[str, int]) -> int:
        """What a group norm normalizes: its sum where it was written, else what it is summed of."""
        if self.operator != "FusedGroupNorm":
            return 0
        return written["sum"] if "sum" in written else read["x"] + read.get("skip", 0)

    @property
    def buffers_bytes(self) -> tuple[int, int]:
        """What the activations that it reads and the outputs that it writes take, scratch included."""
        read = [operand for _, operand in self.operands.values() if operand.kind is Kind.ACTIVATION]
        inputs = sum(aligned(_bytes(operand.shape, operand.dtype)) for operand in read)
        return inputs, sum(aligned(size) for _, size in self.outputs.values())

    def __str__(self) -> str:
        attributes, operands = dict(self.found.call.attributes), self.operands
        parts = ["×".join(map(str, operands["x"][1].shape))]
        if "other" in operands:
            parts.append(f"| {operands['other'][1].shape[-1]}")
        if "skip" in operands:
            rows = len(operands["skip"][1].shape) < len(operands["x"][1].shape)
            parts.append("+ rows" if rows else "+ skip")
        parts += ["+ bias"] if "bias" in operands else []
        parts += [f"→ {attributes['height']}×{attributes['width']}"] if "height" in attributes else []
        parts += ["→ y, sum"] if "sum" in self.outputs else []
        return " ".join(parts)


def works(blueprint: Callable[[str], Blueprint], latent: LatentRecord, size: int) -> tuple[Work, ...]:
    """Every distinct call in a step with guidance and in a decode of one image.

    Args:
        blueprint: a component by its name.
        latent: what the denoiser works on.
        size: pixels a side.
    """
    side = size // latent.factor
    shape = LoopShape(
        images=1, channels=latent.channels, height=side, width=side, sequence=CONTEXT_TOKENS,
        calls=FEWEST_CALLS, kept=0, guided=True, noisy=False,
    )  # fmt: skip
    step = author_loop(blueprint(latent.denoiser), Target.OWN, DType.FLOAT16, shape).step
    decode = author_pixels(
        blueprint(DECODER), Target.OWN, DType.FLOAT16, latent=shape.latent,
        scaling_factor=latent.scaling_factor,
    )  # fmt: skip

    def found() -> Iterator[Work]:
        for name, graph in (("step", step), ("decode", decode)):
            for call in distinct([(name, graph)]):
                if call.call.domain == OWN:
                    yield Work(graph=name, found=call)

    return tuple(found())


def _bytes(shape: tuple[int, ...], dtype: DType) -> int:
    return math.prod(shape) * dtype.size_bytes
