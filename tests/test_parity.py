"""Every component gives the numbers of diffusers and transformers, in both targets and both precisions."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from authoring import relative_error, run_session, session, wide_session, with_weights
from reference_models import Sizes, Subject

from onnxsd.models import catalogue
from onnxsd.models.components import component
from onnxsd.models.twin import twin_of
from onnxsd.ops import EXPORTED, Target
from onnxsd.tensors import DType

pytestmark = [
    pytest.mark.reference,
    # What torch, diffusers and transformers say of themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

LARGEST_ERROR = {DType.FLOAT32: 1e-5, DType.FLOAT16: 3e-3}
# Batches 1, 2 and 3; a square, an oblong, odd sizes; one and two chunks of a prompt.
LATENTS: tuple[Sizes, ...] = (
    {"batch": 1, "height": 8, "width": 8, "sequence": 77},
    {"batch": 2, "height": 9, "width": 13, "sequence": 154},
    {"batch": 3, "height": 16, "width": 24, "sequence": 77},
    {"batch": 2, "height": 33, "width": 20, "sequence": 154},
)
# An encoder takes any size of at least 8 pixels, and lets go of what is left of a multiple of 8.
PIXELS = tuple({**sizes, "height": 8 * sizes["height"] + 3, "width": 8 * sizes["width"]} for sizes in LATENTS)
PROMPTS: tuple[Sizes, ...] = tuple(
    {"batch": batch, "sequence": length} for batch, length in ((1, 77), (2, 77), (3, 20), (2, 1))
)
SIZES = {"unet": LATENTS, "vae_decoder": LATENTS, "vae_encoder": PIXELS}

# A twin keeps the depths that differ from stage to stage; what is deeper shows nothing new.
DEPTHS = {"sdxl-base-1.0": 3, "ssd-1b": 10}
TWINS = {name: twin_of(catalogue.load(name), depth=DEPTHS.get(name, 2)) for name in catalogue.names()}


def _unets() -> Iterator[Subject]:
    for name, twin in TWINS.items():
        yield Subject(
            name=f"{name} unet", component="unet", config=twin.models["unet"], time_ids=twin.time_ids
        )
    sd = TWINS["sd-1.5"].models["unet"]
    changes: Mapping[str, Mapping[str, Any]] = {
        "no middle": {"mid_block_type": None},
        "layers that differ": {"layers_per_block": [1, 2, 1, 2]},
        "another embedding": {"time_embedding_dim": 48, "flip_sin_to_cos": False, "freq_shift": 1},
    }
    for name, change in changes.items():
        yield Subject(name=f"unet with {name}", component="unet", config={**sd, **change})


def _vaes() -> Iterator[Subject]:
    vae = TWINS["sdxl-base-1.0"].models["vae"]
    changes: Mapping[str, Mapping[str, Any]] = {
        "vae": {},
        "vae without attention": {"mid_block_add_attention": False},
        "vae without quantization": {"use_quant_conv": False, "use_post_quant_conv": False},
    }
    for part in ("vae_decoder", "vae_encoder"):
        for name, change in changes.items():
            yield Subject(name=f"{part}: {name}", component=part, config={**vae, **change})
        yield Subject(name=f"{part}: vae, scaled", component=part, config=vae, scale=2.0**-7)


def _text_encoders() -> Iterator[Subject]:
    for name in ("sdxl-base-1.0", "sd-1.5", "sd-2.1", "sdxl-refiner-1.0"):
        for part, config in TWINS[name].models.items():
            if part.startswith("text_encoder"):
                yield Subject(name=f"{name} {part}", component=part, config=config)
                ending = {**config, "eos_token_id": 900, "bos_token_id": 899}
                yield Subject(name=f"{name} {part}, id of its end", component=part, config=ending)


SUBJECTS = (*_unets(), *_vaes(), *_text_encoders())


def _check(subject: Subject, target: Target, dtype: DType, sizes: Sequence[Sizes], *, wide: bool) -> None:
    graph = subject.author(target, dtype)
    assert {recipe.source for recipe in graph.recipes} == set(subject.tensors)
    if wide:
        run = wide_session(graph, subject.tensors).run
    else:
        run = partial(run_session, session(with_weights(graph, subject.tensors)))
    for case in sizes:
        feeds = subject.feeds(graph, case)
        expected = subject.expected(feeds)
        typed = {name: feeds[name].astype(kind.numpy_name) for name, kind, _ in graph.inputs}
        found = run(typed)
        errors = {name: relative_error(found[name], expected[name]) for name in expected}
        assert all(found[name].shape == expected[name].shape for name in expected)
        assert max(errors.values()) <= LARGEST_ERROR[dtype], (case, errors)


@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=lambda dtype: dtype.numpy_name)
@pytest.mark.parametrize("target", EXPORTED, ids=lambda target: target.value)
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_a_component_gives_the_reference_numbers(subject: Subject, target: Target, dtype: DType) -> None:
    _check(subject, target, dtype, SIZES.get(subject.component, PROMPTS), wide=False)


def _reference_epsilons(subject: Subject) -> dict[str, float]:
    """The epsilon of each of the component's norms, by the norm's place in the checkpoint."""
    place = component(subject.component)
    norms = {
        place.rename(f"{name}.weight"): module.eps
        for name, module in subject.model.named_modules()
        if hasattr(module, "eps")
    }
    return {weight.removesuffix(".weight"): eps for weight, eps in norms.items() if place.owns(weight)}


# An epsilon changes random activations too little for the numbers above to show it.
@pytest.mark.parametrize("target", EXPORTED, ids=lambda target: target.value)
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_every_norm_has_the_reference_epsilon(subject: Subject, target: Target) -> None:
    nodes = subject.author(target, DType.FLOAT32).model.graph
    found = {
        (node.name or "").rpartition("/")[0]: node.attributes["epsilon"].as_float()
        for node in nodes
        if "epsilon" in node.attributes
    }
    expected = _reference_epsilons(subject)

    assert found == pytest.approx({name: eps * subject.scale**2 for name, eps in expected.items()})


# Shipped widths at depth 1: the kernels that are compiled for some widths are met.


def _shipped(name: str, **changes: Any) -> Subject:
    pipeline = catalogue.load(name)
    config = {
        **pipeline.models["unet"],
        "layers_per_block": 1,
        "transformer_layers_per_block": 1,
        **changes,
    }
    return Subject(name=f"{name} at its widths", component="unet", config=config, time_ids=pipeline.time_ids)


WIDE = (
    # Without its middle, which is as wide as what surrounds it: that keeps the test below 4 GB.
    _shipped("sdxl-base-1.0", mid_block_type=None),
    # The first half of the refiner, whose widths are 384, 768 and 1536: the whole takes too much memory.
    _shipped(
        "sdxl-refiner-1.0",
        block_out_channels=[384, 768],
        attention_head_dim=[6, 12],
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
    ),
    # Without its lower half and middle, which are as wide as SDXL's.
    _shipped(
        "sd-1.5",
        block_out_channels=[320, 640],
        down_block_types=["CrossAttnDownBlock2D"] * 2,
        up_block_types=["CrossAttnUpBlock2D"] * 2,
        mid_block_type=None,
    ),
)


@pytest.mark.parametrize("subject", WIDE, ids=str)
def test_shipped_widths_give_the_reference_numbers(subject: Subject) -> None:
    for target in EXPORTED:
        _check(subject, target, DType.FLOAT32, LATENTS[:1], wide=True)
        gc.collect()
    subject.forget()


def test_shipped_widths_are_fused() -> None:
    lowered = WIDE[0].author(Target.CUDA, DType.FLOAT16).lowerings

    assert lowered["geglu"].keys() == {"bias_split_gelu"}
    assert lowered["group_norm"].keys() == {"fused_group_norm"}
    assert lowered["attention"].keys() == {"multi_head_attention"}
    assert WIDE[1].author(Target.CUDA, DType.FLOAT16).lowerings["geglu"].keys() == {"bias_split_gelu"}
