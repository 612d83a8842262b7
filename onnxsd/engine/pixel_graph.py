"""The VAE's decoder from the loop's latents to an image's bytes: nothing else crosses to the host."""

from __future__ import annotations

from onnxsd.errors import ConfigurationError
from onnxsd.models.components import Blueprint
from onnxsd.ops import Target, ops_for
from onnxsd.ops.common import scalar
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.ops.operators import TO_IR, Value
from onnxsd.ops.vocabulary import Ops
from onnxsd.tensors import DType


def author_pixels(
    blueprint: Blueprint,
    target: Target,
    dtype: DType,
    *,
    latent: tuple[int, int, int, int],
    scaling_factor: float,
) -> AuthoredGraph:
    """The decoder's graph between float32 latents and uint8 pixels.

    Inputs: `latents` (B, C, H, W) float32, as the loop leaves them.
    Outputs: `pixels` (B, H', W', 3) uint8, rounded as diffusers' VaeImageProcessor does; `spoilt` () float32,
    0 where every number was finite and NaN where one was not, which bytes cannot show.
    """
    decode = blueprint.component.decode
    if decode is None:
        raise ConfigurationError(f"{blueprint.component.name} decodes no latents")
    ops = ops_for(target, f"{blueprint.component.name} pixels", dtype)
    graph = ops.graph
    given = graph.input("latents", DType.FLOAT32, latent)
    unscaled = graph.emit("Div", given, scalar(ops, scaling_factor, DType.FLOAT32))
    sample = ops.nhwc(decode(ops, blueprint, ops.spatial(ops.cast(unscaled, dtype))))
    graph.within("pixels")
    wide = ops.cast(sample, DType.FLOAT32)
    # Nothing times 0 is NaN but NaN and infinity, and a sum keeps it.
    nothing = graph.emit("Mul", wide, scalar(ops, 0.0, DType.FLOAT32))
    graph.output("spoilt", graph.emit("ReduceSum", nothing, keepdims=0))
    graph.output("pixels", _bytes(ops, wide))
    return ops.finish()


def _bytes(ops: Ops, wide: Value) -> Value:
    """−1…1 as 0…255: halved and shifted, clipped, then rounded half to even."""
    graph = ops.graph
    half, zero, one, most = (scalar(ops, number, DType.FLOAT32) for number in (0.5, 0.0, 1.0, 255.0))
    unit = graph.emit("Add", graph.emit("Mul", wide, half), half)
    clipped = graph.emit("Clip", unit, zero, one)
    return graph.emit("Cast", graph.emit("Round", graph.emit("Mul", clipped, most)), to=TO_IR[DType.UINT8])
