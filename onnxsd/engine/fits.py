"""Which sizes and batches would have fitted, for whoever is told that the GPU's memory ran out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice

from onnxsd.artifact.folder import Folder
from onnxsd.ops import Target
from onnxsd.ops.arena import arena_bytes
from onnxsd.prompt.tokenizer import CONTEXT_TOKENS

# Sizes that are tried, as shares of what was asked for.
SHARES = (7 / 8, 3 / 4, 5 / 8, 1 / 2, 3 / 8, 1 / 4, 1 / 8)
# From this many pixels a side on, sizes are tried that divide by 64: models are trained on those.
COARSE_FROM_PX, COARSE_STEP_PX = 512, 64
# Room for what no graph says: workspaces of cuBLAS, cuDNN and attention, and captured graphs. SDXL's UNet at
# 1024², batch 2, took 1.14 GB on an H200, of which ONNX Runtime's allocator (reusing and planning, as it does
# unless told otherwise) explains 1.07 GB by its rules.
WORKSPACE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """So many images of a size."""

    height: int
    width: int
    images: int

    @property
    def area(self) -> int:
        """Pixels of one image."""
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.images} image{'s' * (self.images > 1)} of {self.width}×{self.height}"


def largest_that_fits(
    folder: Folder,
    free_bytes: int,
    *,
    height: int,
    width: int,
    images: int,
    guided: bool,
    target: Target,
) -> str | None:
    """What would fit on a GPU, in words; None if nothing that was tried does.

    The same size with fewer images (else one image of a smaller size), and a smaller size of about the same
    shape with as many. It counts weights and activations of the denoiser and of the VAE decoder, which leave
    the GPU for one another: the decoder's activations from its graph at each size, for they do not grow in
    step with the area; the denoiser's from one graph at the size that was asked for, for they do.

    Args:
        folder: what was to run.
        free_bytes: what would be free on the device with nothing of the folder on it.
        height, width: pixels that were asked for.
        images: how many were asked for at once.
        guided: whether the denoiser has a row of the negative prompt for each of them too.
        target: the operators that it was to run in.
    """
    asked = Offer(height=height, width=width, images=images)
    factor = folder.manifest.latent.factor
    room = free_bytes - WORKSPACE_BYTES
    needed = _needs(folder, asked, target, rows_per_image=2 if guided else 1)

    def first(offers: Iterator[Offer]) -> tuple[Offer, ...]:
        return tuple(islice((offer for offer in offers if needed(offer) <= room), 1))

    together = first(_smaller(asked, factor))
    fitting = first(_fewer(asked))
    if not fitting and asked.images > 1:
        alone = first(_smaller(replace(asked, images=1), factor))
        largest = max((offer.area for offer in together), default=0)
        fitting = tuple(offer for offer in alone if offer.area > largest)
    fitting += together
    if not fitting:
        return None
    return f"{' or '.join(map(str, fitting))} should fit into the {free_bytes / 1e9:.1f} GB that can be had"


def _needs(folder: Folder, asked: Offer, target: Target, *, rows_per_image: int) -> Callable[[Offer], float]:
    """What an offer takes on the device, in bytes: of denoiser and decoder the one that takes more."""
    factor, dtype = folder.manifest.latent.factor, folder.manifest.precision
    decoder = folder.blueprint("vae_decoder")
    denoiser_weights, decoder_weights = (
        folder.manifest.component(name).data.size_bytes
        for name in (folder.manifest.latent.denoiser, "vae_decoder")
    )

    def latents(offer: Offer) -> dict[str, int]:
        return {"height": offer.height // factor, "width": offer.width // factor}

    # A longer context than one chunk of a prompt changes little.
    sizes = {"batch": rows_per_image * asked.images, "sequence": CONTEXT_TOKENS, **latents(asked)}
    denoiser = folder.blueprint(folder.manifest.latent.denoiser)
    denoiser_bytes = arena_bytes(denoiser.author(target, dtype, sizes))

    @cache
    def decoder_bytes(offer: Offer) -> int:
        # One image is decoded at a time, however many there are.
        return arena_bytes(decoder.author(target, dtype, {"batch": 1, **latents(offer)}))

    def needed(offer: Offer) -> float:
        share = offer.area * offer.images / (asked.area * asked.images)
        alone = replace(offer, images=1)
        return max(denoiser_weights + denoiser_bytes * share, decoder_weights + decoder_bytes(alone))

    return needed


def _fewer(asked: Offer) -> Iterator[Offer]:
    """The size that was asked for with fewer images, most first."""
    for images in range(asked.images - 1, 0, -1):
        yield replace(asked, images=images)


def _smaller(asked: Offer, factor: int) -> Iterator[Offer]:
    """As many images of smaller sizes, largest first."""
    coarse = min(asked.height, asked.width) >= COARSE_FROM_PX
    step = COARSE_STEP_PX if coarse and COARSE_STEP_PX % factor == 0 else factor
    for share in SHARES:
        height, width = (int(pixels * share) // step * step for pixels in (asked.height, asked.width))
        if height and width:
            yield replace(asked, height=height, width=width)
