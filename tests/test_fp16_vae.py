"""A VAE whose activations leave fp16's range works in fp16 all the same: its stream is kept scaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from authoring import run, with_weights
from reference_models import Subject

from onnxsd.ops import EXPORTED, Target
from onnxsd.tensors import DType
from onnxsd.verify.calibrate import scale_for

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

# SDXL's first widths: 4 and 8 channels in a group, as in the shipped model.
CONFIG: Mapping[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "force_upcast": True,
}
SIZES = {
    "vae_decoder": {"batch": 2, "height": 8, "width": 7},
    "vae_encoder": {"batch": 2, "height": 16, "width": 14},
}
PEAK = 1.5e6
LEAST_PSNR_DB = 45.0

Array = npt.NDArray[Any]
Grown = Callable[[str, Any], Any]


def _everywhere(name: str, weights: Any) -> Any:
    """Every residual block adds more, so that the stream grows from block to block."""
    return weights if name.endswith(".conv2.weight") else weights[:0]


def _in_some_channels(name: str, weights: Any) -> Any:
    """One block throws a few channels far out, and the rest stay near 1."""
    return weights[::16] if name.endswith(".mid_block.resnets.0.conv2.weight") else weights[:0]


def _in_what_passes_by(name: str, weights: Any) -> Any:
    """What enters the stream and passes by the blocks grows, not what they add."""
    return weights if name.endswith((".conv_in.weight", ".conv_shortcut.weight")) else weights[:0]


def _peak(subject: Subject, feeds: Mapping[str, Array]) -> float:
    """The largest magnitude that any module of the component gives, in float32 torch."""
    largest = 0.0

    def watch(module: Any, given: Any, made: Any) -> None:
        nonlocal largest
        if hasattr(made, "abs"):
            largest = max(largest, float(made.abs().max()))

    hooks = [module.register_forward_hook(watch) for module in subject.model.modules()]
    subject.forget_expected()
    subject.expected(feeds)
    for hook in hooks:
        hook.remove()
    return largest


def _grow(subject: Subject, feeds: Mapping[str, Array], grown: Grown) -> float:
    """Grow weights until the activations peak at PEAK; the peak."""
    part = subject.component.removeprefix("vae_")
    for _ in range(8):
        # The root, for what grows may lie twice on a path.
        factor = (PEAK / _peak(subject, feeds)) ** 0.5
        for name, parameter in subject.model.named_parameters():
            if name.startswith(f"{part}."):
                grown(name, parameter.data).mul_(factor)
    return _peak(subject, feeds)


def _psnr_db(found: Array, expected: Array) -> float:
    error = np.mean((found.astype(np.float64) - expected) ** 2)
    return float(10 * np.log10(np.ptp(expected) ** 2 / error))


@pytest.mark.parametrize("component", SIZES)
@pytest.mark.parametrize("grown", [_everywhere, _in_some_channels, _in_what_passes_by])
def test_fp16_needs_the_scale_and_is_right_with_it(component: str, grown: Grown) -> None:
    plain = Subject(name=component, component=component, config=CONFIG)
    graph = plain.author(Target.PORTABLE, DType.FLOAT32)
    feeds = plain.feeds(graph, SIZES[component])
    peak = _grow(plain, feeds, grown)
    assert 1e6 <= peak <= 2e6
    (expected,) = plain.expected(feeds).values()

    for target in EXPORTED:
        for scale in (1.0, scale_for(peak)):
            scaled = Subject(name=component, component=component, config=CONFIG, scale=scale)
            model = with_weights(scaled.author(target, DType.FLOAT16), plain.tensors)
            (found,) = run(model, {name: array.astype(np.float16) for name, array in feeds.items()}).values()
            if scale == 1.0:
                assert not np.isfinite(found).all()
            else:
                assert np.isfinite(found).all()
                assert _psnr_db(found, expected) >= LEAST_PSNR_DB
