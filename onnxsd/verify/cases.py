"""The sizes that a component is run at when it is checked: three sizes, two batches."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from onnxsd.models import clip, vae
from onnxsd.models.components import Blueprint

# Latents: a square, an oblong, and odd sizes, which a skip connection has to match.
LATENT_SIZES = ((8, 8), (16, 24), (9, 13))
BATCHES = (1, 2)
# One chunk of a prompt, and two.
SEQUENCES = (77, 154, 77)


def cases(blueprint: Blueprint) -> tuple[Mapping[str, int], ...]:
    """The values of the component's symbols, one mapping for each run."""
    name = blueprint.component.name
    if name.startswith("text_encoder"):
        longest = clip.parse(blueprint.config).max_positions
        sizes: list[dict[str, int]] = [{"sequence": length} for length in (longest, longest // 2, 3)]
    else:
        factor = vae.parse(blueprint.config).factor if name == "vae_encoder" else 1
        sizes = [{"height": height * factor, "width": width * factor} for height, width in LATENT_SIZES]
        if "sequence" in blueprint.component.symbols:
            sizes = [{**size, "sequence": length} for size, length in zip(sizes, SEQUENCES, strict=True)]
    return tuple({"batch": batch, **size} for batch, size in product(BATCHES, sizes))
