"""Decoding as one graph, on a CPU with bodies for the GPU's operators: the bytes of the path on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from onnxsd.artifact.onnx_file import to_bytes
from onnxsd.engine.pixel_graph import author_pixels
from onnxsd.errors import ConfigurationError
from onnxsd.imaging.pixels import from_bytes, to_images
from onnxsd.models import catalogue
from onnxsd.models.components import Blueprint, Component, component
from onnxsd.models.twin import narrow
from onnxsd.ops import Ops, Scope, Target, Tensor
from onnxsd.ops.graph import AuthoredGraph
from onnxsd.session import Optimization, Provider, Session, SessionSettings
from onnxsd.tensors import DType
from onnxsd.verify.bodies import with_reference_bodies
from onnxsd.verify.runnable import random_arrays

Array = npt.NDArray[Any]
SETTINGS = SessionSettings(optimize=Optimization.DISABLED, threads=1)
SCALING = 0.13025
LATENT = (2, 4, 5, 6)
every_target = pytest.mark.parametrize("target", list(Target), ids=lambda target: target.value)
every_type = pytest.mark.parametrize(
    "dtype", [DType.FLOAT32, DType.FLOAT16], ids=lambda dtype: dtype.numpy_name
)
not_finite = pytest.mark.parametrize(
    "bad", [np.nan, np.inf, -np.inf], ids=["NaN", "infinity", "minus infinity"]
)


def tiny_vae(name: str = "sdxl-base-1.0") -> Blueprint:
    return Blueprint(
        component=component("vae_decoder"), config=narrow(catalogue.load(name).models["vae"], depth=None)
    )


def first_three_channels(ops: Ops, blueprint: Blueprint, latents: Tensor) -> Tensor:
    """A decoder whose pixels are three of the latents' channels, exactly: a weight of ones and zeros."""
    return ops.conv(latents, Scope("choose"), out=3, kernel=1, padding=(0, 0, 0, 0))


CHOOSING = Blueprint(
    component=Component(
        name="choosing",
        source="choosing",
        weights_name="none",
        author=lambda ops, blueprint, sizes: None,
        symbols=(),
        decode=first_three_channels,
    ),
    config={},
)


def session_over(graph: AuthoredGraph, weights: Mapping[str, Array]) -> Session:
    runnable = dataclasses.replace(graph, model=with_reference_bodies(graph.model))
    given = {recipe.name: weights[recipe.name] for recipe in graph.recipes}
    return Session.create(to_bytes(runnable), provider=Provider.CPU, options=SETTINGS, external=given)


def pixels_of(
    blueprint: Blueprint, target: Target, dtype: DType, latents: Array, *, scaling: float = SCALING
) -> dict[str, Array]:
    """What the pixel graph gives, over random weights."""
    batch, channels, height, width = latents.shape
    graph = author_pixels(
        blueprint, target, dtype, latent=(batch, channels, height, width), scaling_factor=scaling
    )
    return session_over(graph, random_arrays(graph.recipes)).run({"latents": latents})


def chosen(target: Target, latents: Array) -> dict[str, Array]:
    """What the pixel graph gives for a decoder that leaves three channels as they are."""
    batch, channels, height, width = latents.shape
    graph = author_pixels(
        CHOOSING, target, DType.FLOAT32, latent=(batch, channels, height, width), scaling_factor=1.0
    )
    shapes = {recipe.name: recipe.shape for recipe in graph.recipes}
    ones = np.eye(3, 4, dtype=np.float32).reshape(shapes["choose.weight"])
    return session_over(graph, {"choose.weight": ones, "choose.bias": np.zeros(3, np.float32)}).run(
        {"latents": latents}
    )


def decoded(blueprint: Blueprint, target: Target, dtype: DType, latents: Array) -> Array:
    """What the plain decoder gives of the same weights, as the host's path calls it: float32 (B, 3, H, W)."""
    batch, _, height, width = latents.shape
    graph = blueprint.author(target, dtype, {"batch": batch, "height": height, "width": width})
    unscaled = (latents / np.float32(SCALING)).astype(dtype.numpy_name)
    sample = session_over(graph, random_arrays(graph.recipes)).run({"latent_sample": unscaled})["sample"]
    return sample.astype(np.float32)


def random_latents(spread: float = 1.0) -> Array:
    return (np.random.default_rng(3).standard_normal(LATENT) * spread).astype(np.float32)


@every_target
@every_type
@pytest.mark.parametrize("name", ["sdxl-base-1.0", "sd-1.5"])
def test_the_bytes_are_those_of_the_host(name: str, dtype: DType, target: Target) -> None:
    blueprint, latents = tiny_vae(name), random_latents()
    sample = decoded(blueprint, target, dtype, latents)
    found = pixels_of(blueprint, target, dtype, latents)

    # Some of it is cut off on both sides, and most is not.
    assert 0.001 < np.mean(sample < -1) < 0.4
    assert 0.001 < np.mean(sample > 1) < 0.4
    assert found["pixels"].dtype == np.uint8
    assert found["pixels"].shape == (2, 40, 48, 3)
    expected = np.stack([np.asarray(image) for image in to_images(sample)])
    np.testing.assert_array_equal(found["pixels"], expected)
    np.testing.assert_array_equal(np.asarray(from_bytes(found["pixels"][1])), expected[1])
    assert found["spoilt"].shape == ()
    assert found["spoilt"] == 0


def rounding_ties() -> Array:
    """Samples whose bytes lie in the middle of two before they are rounded, in float32.

    Below −0.5 there is none: samples are farther apart there than what rounds to a middle.
    """
    middles = (np.arange(255, dtype=np.float64) + 0.5) / 255
    near = np.nextafter(middles.astype(np.float32), np.float32(0))
    candidates = np.concatenate([near, middles.astype(np.float32), np.nextafter(near, np.float32(2))])
    samples = np.unique(candidates * 2 - 1)
    scaled = (samples / 2 + np.float32(0.5)) * np.float32(255)
    ties: Array = samples[scaled % 1 == np.float32(0.5)]
    return ties


# Beside ties: ends, their neighbours, what is far outside, both zeros and what is too small to count.
BORDERS = np.array(
    [-1, 1, -np.nextafter(1, 2), np.nextafter(1, 2), -np.nextafter(1, 0), np.nextafter(1, 0), 0.0, -0.0,
     -1.7, 1.7, -3e38, 3e38, 1e-45, -1e-45, 0.5, -0.5],
    np.float32,
)  # fmt: skip


@every_target
def test_ties_and_what_lies_outside_round_as_on_the_host(target: Target) -> None:
    ties = rounding_ties()
    assert len(ties) == 191
    values = np.concatenate([ties, BORDERS, np.linspace(-1.2, 1.2, 3 * 11 * 32 - len(ties) - 16)])
    latents = np.zeros((1, 4, 11, 32), np.float32)
    latents[0, :3] = values.reshape(3, 11, 32)
    found = chosen(target, latents)

    np.testing.assert_array_equal(found["pixels"][0], np.asarray(to_images(latents[:, :3])[0]))
    assert found["spoilt"] == 0
    # Half to even, by another way of counting: 127.5 is 128, as 128.5 is.
    assert {value % 2 for value in found["pixels"][0].transpose(2, 0, 1).flat[: len(ties)]} == {0}


@every_target
@every_type
@not_finite
def test_bad_numbers_in_the_latents_spoil_the_picture(bad: float, dtype: DType, target: Target) -> None:
    latents = random_latents()
    latents[1, 2, 3, 4] = bad

    assert np.isnan(pixels_of(tiny_vae(), target, dtype, latents)["spoilt"])


@every_target
@not_finite
@pytest.mark.parametrize("place", [(0, 0, 0), (3, 4, 2), (1, 2, 1)], ids=str)
def test_one_bad_number_among_the_pixels_is_seen(
    place: tuple[int, int, int], bad: float, target: Target
) -> None:
    y, x, channel = place
    latents = random_latents()
    latents[1, channel, y, x] = bad

    assert np.isnan(chosen(target, latents)["spoilt"])


@every_target
def test_large_numbers_are_no_bad_ones(target: Target) -> None:
    """Their sum is infinite, and each of them is finite."""
    latents = np.full(LATENT, 3e38, np.float32)
    found = chosen(target, latents)

    assert found["spoilt"] == 0
    assert (found["pixels"] == 255).all()


@every_target
def test_an_overflow_in_float16_is_seen(target: Target) -> None:
    found = pixels_of(tiny_vae(), target, DType.FLOAT16, random_latents(spread=1e5))

    assert np.isnan(found["spoilt"])


def test_a_component_that_decodes_nothing_is_refused() -> None:
    blueprint = Blueprint(component=component("unet"), config={})

    with pytest.raises(ConfigurationError, match="unet decodes no latents"):
        author_pixels(blueprint, Target.CUDA, DType.FLOAT32, latent=LATENT, scaling_factor=SCALING)
