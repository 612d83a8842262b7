"""How far a VAE's activations reach in float32, and the scale that keeps them in fp16's range."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsd.models import vae
from onnxsd.models.components import Blueprint
from onnxsd.ops import Target
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.session import Provider
from onnxsd.tensors import DType
from onnxsd.verify.runnable import arrays_from, session_of
from onnxsd.weights.checkpoint import WeightSource

# Largest number of fp16 is 65504; real pictures may reach further than the calibration's.
FP16_LARGEST = 65504.0
MARGIN = 16.0
# Latents along a side: statistics of group norms do not depend on the size, and this takes seconds on a CPU.
LATENTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The largest activation that was seen, and the power of two that brings it into range."""

    peak: float
    scale: float


def calibrate(blueprint: Blueprint, source: WeightSource) -> Calibration:
    """Run a VAE's encoder or decoder in float32 on noise and on smooth pictures, and look at its peaks."""
    graph = dataclasses.replace(blueprint, scale=1.0).author(Target.PORTABLE, DType.FLOAT32)
    _report_peaks(graph)
    session = session_of(
        graph, arrays_from(source, graph.recipes), provider=Provider.CPU, label=blueprint.component.name
    )
    ((name, _, _),) = graph.inputs
    config = vae.parse(blueprint.config)
    feed = _latents(config) if blueprint.component.name == "vae_decoder" else _pictures(config)
    outputs = session.run({name: feed})
    # ReduceMax may pass NaN over; the pictures do not.
    finite = all(np.isfinite(value).all() for value in outputs.values())
    peaks = [float(value) for key, value in outputs.items() if key.startswith(PEAK)]
    peak = max(peaks) if finite else math.inf
    return Calibration(peak=peak, scale=scale_for(peak))


def scale_for(peak: float) -> float:
    """The largest power of two, at most 1, that keeps `peak` a margin below fp16's largest number."""
    if not math.isfinite(peak):
        return math.nan
    return 2.0 ** min(0, math.floor(math.log2(FP16_LARGEST / MARGIN / max(peak, 1e-30))))


PEAK = "peak."


def _report_peaks(graph: AuthoredGraph) -> None:
    """Add the largest magnitude of every convolution and residual sum that is kept scaled as an output."""
    for node in list(graph.model.graph):
        if node.op_type in ("Conv", "Add") and _is_kept_scaled(node.name or ""):
            magnitude = ir.node("Abs", [node.outputs[0]])
            largest = ir.node("ReduceMax", [magnitude.outputs[0]], {"keepdims": 0})
            largest.outputs[0].name = f"{PEAK}{node.name}"
            largest.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            largest.outputs[0].shape = ir.Shape([])
            graph.model.graph.extend([magnitude, largest])
            graph.model.graph.outputs.append(largest.outputs[0])


def _is_kept_scaled(name: str) -> bool:
    scope = name.rpartition("/")[0]
    return scope == "add" or scope.endswith(
        ("conv_in", "conv1", "conv2", "conv_shortcut", ".conv", "to_out.0")
    )


def _latents(config: vae.VaeConfig) -> npt.NDArray[Any]:
    """Latents as the denoiser leaves them (deviation 1 before the scaling factor): noise and smooth."""
    generator = np.random.default_rng(0)
    shape = (2, config.latent_channels, LATENTS, LATENTS)
    noise = generator.standard_normal(shape, np.float32)
    noise[1] = _smooth(noise[1])
    latents: npt.NDArray[Any] = noise / np.float32(config.scaling_factor)
    return latents


def _pictures(config: vae.VaeConfig) -> npt.NDArray[Any]:
    """Pixels in [−1, 1]: noise and smooth."""
    generator = np.random.default_rng(0)
    side = LATENTS * config.factor
    pixels = generator.uniform(-1, 1, (2, config.in_channels, side, side)).astype(np.float32)
    pixels[1] = np.clip(_smooth(pixels[1]), -1, 1)
    return pixels


def _smooth(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A picture (channels, side, side) of large shapes, drawn from the given noise."""
    coarse = picture[:, ::4, ::4]
    large: npt.NDArray[Any] = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2) * np.float32(2.0)
    return large
