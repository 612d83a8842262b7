"""Whoever runs out of memory is told what would fit."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path

import pytest
from checkpoints import SDXL, Workshop

from onnxsd.artifact.folder import Folder
from onnxsd.engine.fits import WORKSPACE_BYTES, largest_that_fits
from onnxsd.models import catalogue
from onnxsd.ops import Target
from onnxsd.ops.arena import arena_bytes
from onnxsd.tensors import DType

GB = 10**9
what_fits = functools.partial(largest_that_fits, target=Target.CUDA)
OFFER = re.compile(r"(\d+) images? of (\d+)×(\d+)")


@pytest.fixture
def sdxl(workshop: Workshop, tmp_path: Path) -> Folder:
    """An export whose configurations are SDXL's own: what fits is asked of no weights."""
    tiny = workshop.export(SDXL, precision=DType.FLOAT16)
    manifest = dataclasses.replace(tiny.manifest, precision=DType.FLOAT16)
    for name, part in (("unet", "unet"), ("vae_decoder", "vae")):
        path = tmp_path / manifest.component(name).config.path
        path.parent.mkdir()
        path.write_text(json.dumps(catalogue.load(SDXL).models[part]), encoding="utf-8")
    return Folder(path=tmp_path, manifest=manifest)


def needed(
    folder: Folder,
    *,
    images: int,
    width: int,
    height: int,
    rows_per_image: int = 2,
    target: Target = Target.CUDA,
) -> int:
    """What an offer takes by graphs authored at its very sizes."""
    latents = {"height": height // 8, "width": width // 8}
    unet = {"batch": images * rows_per_image, "sequence": 77, **latents}
    graphs = (
        folder.blueprint("unet").author(target, DType.FLOAT16, unet),
        folder.blueprint("vae_decoder").author(target, DType.FLOAT16, {"batch": 1, **latents}),
    )
    weights = (folder.manifest.component(name).data.size_bytes for name in ("unet", "vae_decoder"))
    return max(map(sum, zip(map(arena_bytes, graphs), weights, strict=True))) + WORKSPACE_BYTES


def offers(text: str | None) -> list[dict[str, int]]:
    found = OFFER.findall(text or "")
    return [{"images": int(images), "width": int(w), "height": int(h)} for images, w, h in found]


@pytest.mark.parametrize("target", [Target.CUDA, Target.OWN])
@pytest.mark.parametrize("free_gb", [1.2, 2.0, 2.6, 3.0, 3.2])
def test_what_is_offered_fits(sdxl: Folder, free_gb: float, target: Target) -> None:
    free = int(free_gb * GB)
    text = what_fits(sdxl, free, height=1024, width=1024, images=4, guided=True, target=target)

    assert offers(text)
    assert f"{free_gb:.1f} GB" in (text or "")
    for offer in offers(text):
        # The denoiser's share is scaled by area; a kilobyte stands for what does not depend on it.
        assert needed(sdxl, **offer, target=target) <= free * 1.01, offer


def test_fewer_images_or_a_smaller_size(sdxl: Folder) -> None:
    free = needed(sdxl, images=16, width=1024, height=1024) - 1
    text = what_fits(sdxl, free, height=1024, width=1024, images=16, guided=True)

    assert text is not None
    assert text.startswith("15 images of 1024×1024 or 16 images of 896×896 should fit into the ")


def test_a_smaller_size_that_takes_more_is_not_offered(sdxl: Folder) -> None:
    free = needed(sdxl, images=1, width=1024, height=1024) - 1
    text = what_fits(sdxl, free, height=1024, width=1024, images=1, guided=True)

    # The decoder's chunks at 896² are just too small to be cut (LARGEST_WASTE_BYTES).
    assert needed(sdxl, images=1, width=896, height=896) > free
    assert offers(text) == [{"images": 1, "width": 768, "height": 768}]


def test_without_guidance_a_row_is_an_image(sdxl: Folder) -> None:
    free = needed(sdxl, images=32, width=1024, height=1024, rows_per_image=1) - 1
    text = what_fits(sdxl, free, height=1024, width=1024, images=32, guided=False)

    assert offers(text)[0] == {"images": 31, "width": 1024, "height": 1024}


def test_one_image_keeps_its_shape(sdxl: Folder) -> None:
    free = needed(sdxl, images=1, width=1536, height=1024) - 1
    (offer,) = offers(what_fits(sdxl, free, height=1024, width=1536, images=1, guided=True))

    assert offer["images"] == 1
    assert offer["width"] * 2 == offer["height"] * 3
    assert offer["width"] < 1536


def test_a_single_smaller_image_where_not_even_one_fits(sdxl: Folder) -> None:
    free = needed(sdxl, images=1, width=512, height=512)
    text = what_fits(sdxl, free, height=1024, width=1024, images=16, guided=True)

    assert offers(text) == [
        {"images": 1, "width": 512, "height": 512},
        {"images": 16, "width": 256, "height": 256},
    ]


@pytest.mark.parametrize("free", [0, WORKSPACE_BYTES, WORKSPACE_BYTES + (20 << 20)])
def test_nothing_is_offered_where_nothing_fits(sdxl: Folder, free: int) -> None:
    assert what_fits(sdxl, free, height=1024, width=1024, images=1, guided=True) is None


def with_weights(folder: Folder, name: str, size_bytes: int) -> Folder:
    """The folder with a component said to have so many bytes of weights."""
    components = tuple(
        dataclasses.replace(entry, data=dataclasses.replace(entry.data, size_bytes=size_bytes))
        if entry.name == name
        else entry
        for entry in folder.manifest.components
    )
    return dataclasses.replace(folder, manifest=dataclasses.replace(folder.manifest, components=components))


def test_weights_take_their_part_and_those_that_take_turns_not_both(sdxl: Folder) -> None:
    ask = {"height": 1024, "width": 1024, "images": 1, "guided": True}
    both = with_weights(with_weights(sdxl, "unet", 5 * GB), "vae_decoder", 4 * GB)
    free = needed(both, images=1, width=768, height=768)

    assert 5 * GB < free < 6 * GB
    assert offers(what_fits(both, free, **ask)) == [  # type: ignore[arg-type]
        {"images": 1, "width": 768, "height": 768}
    ]
    assert what_fits(both, 5 * GB, **ask) is None  # type: ignore[arg-type]


def test_more_memory_never_offers_less(sdxl: Folder) -> None:
    areas = []
    for free in range(1 * GB, 4 * GB, GB // 2):
        found = offers(what_fits(sdxl, free, height=1024, width=1024, images=1, guided=True))
        areas.append(max((offer["width"] * offer["height"] for offer in found), default=0))

    assert areas == sorted(areas)
    assert areas[0] < areas[-1] < 1024 * 1024


def test_small_models_are_offered_small_sizes(workshop: Workshop) -> None:
    folder = workshop.export(SDXL)
    found = offers(what_fits(folder, GB, height=120, width=128, images=1, guided=True))

    assert found == [{"images": 1, "width": 112, "height": 104}]
