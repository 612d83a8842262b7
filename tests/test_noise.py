"""Noise by seed is torch's own, number for number, however it is drawn."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from onnxsd.engine.noise import LARGEST_SEED, TorchNoise
from onnxsd.errors import UsageError

SEEDS = (0, 1, 42, 5489, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 2**53 + 1, LARGEST_SEED)
# Latents of both families, blocks of 16 that are full and that are not, and the smallest that there is.
SHAPES = ((1, 4, 128, 128), (2, 4, 9, 13), (1, 4, 3, 3), (17,), (16,), (31,), (32,), (33,), (4, 4, 64, 96))
TOLERANCE = 5e-7


@pytest.mark.reference
@pytest.mark.parametrize("seed", SEEDS)
def test_draws_are_torchs(seed: int) -> None:
    import torch

    generator = torch.Generator("cpu").manual_seed(seed if seed < 2**63 else seed - 2**64)
    noise = TorchNoise(seed)
    for shape in SHAPES:  # one stream: each draw goes on where the last one ended
        expected = torch.randn(shape, generator=generator).numpy()
        np.testing.assert_allclose(noise.draw(shape), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.reference
@pytest.mark.parametrize("shape", SHAPES)
def test_a_first_draw_is_torchs(shape: tuple[int, ...]) -> None:
    import torch

    for seed in (3, 2**40):
        expected = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)).numpy()
        np.testing.assert_allclose(TorchNoise(seed).draw(shape), expected, rtol=0, atol=TOLERANCE)


def test_known_numbers() -> None:
    """torch.randn(16) of seed 0, so that the stream is held without torch too."""
    expected = [
        -1.1258398, -1.1523602, -0.25057858, -0.4338788, 0.84871036, 0.69200915, -0.31601277, -2.1152194,
        0.32227492, -1.2633348, 0.3499832, 0.30813393, 0.11984151, 1.2376579, 1.1167772, -0.24727815,
    ]  # fmt: skip
    np.testing.assert_allclose(TorchNoise(0).draw((16,)), expected, rtol=0, atol=TOLERANCE)


def test_a_stream_is_float32_repeats_and_goes_on() -> None:
    first, again = TorchNoise(9), TorchNoise(9)
    one, two = first.draw((1, 4, 8, 8)), first.draw((1, 4, 8, 8))

    assert one.dtype == np.float32
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(one, again.draw((1, 4, 8, 8)))


def test_seeds_differ() -> None:
    drawn = {hashlib.sha256(TorchNoise(seed).draw((64,)).tobytes()).digest() for seed in range(20)}

    assert len(drawn) == 20


def test_noise_has_unit_variance() -> None:
    noise = TorchNoise(1).draw((1, 4, 128, 128))

    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert float(np.abs(noise).max()) < 6


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(UsageError, match=f"seed {seed} is out of range"):
        TorchNoise(seed)


@pytest.mark.parametrize("shape", [(0,), (15,), (1, 5), (3, 5), (1, 4, 1, 3)])
def test_a_latent_that_torch_draws_otherwise_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="too small"):
        TorchNoise(0).draw(shape)
