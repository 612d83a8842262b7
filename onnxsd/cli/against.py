"""What `verify --against diffusers` and `export --check reference` have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from onnxsd.artifact.folder import Folder
from onnxsd.artifact.manifest import CheckRecord
from onnxsd.engine.engine import Engine
from onnxsd.engine.pipeline import Pipeline
from onnxsd.errors import BadInputError
from onnxsd.export.plan import other_vae
from onnxsd.export.source import Source
from onnxsd.session import Choice
from onnxsd.verify import reference
from onnxsd.verify.reference_image import ImageRequest, compare_image
from onnxsd.verify.torch_models import Checkpoint, Part

Say = Callable[[str], None]


def checkpoint_of(source: Source, vae_folder: Path | None) -> Checkpoint:
    """The checkpoint as the reference reads it: the very files that an export takes."""
    parts = {
        name: Part(
            folder=source.folder / name,
            weights=source.weights(name),
            variant=source.selection.variants.get(name),
        )
        for name in source.components
        if source.weights(name)
    }
    if vae_folder is not None:
        folder, weights = other_vae(vae_folder)
        variant = "fp16" if any(".fp16." in path.name for path in weights) else None
        parts["vae"] = Part(folder=folder, weights=weights, variant=variant)
    return Checkpoint(folder=source.folder, parts=parts)


def vae_of(folder: Folder) -> Path | None:
    """The VAE that the export took in place of its checkpoint's own, which has to be there still."""
    if folder.manifest.vae is None:
        return None
    path = Path(folder.manifest.vae)
    if not path.is_dir():
        raise BadInputError(
            f"{folder.path} was made with the VAE of {path}, which is not there", hint="name it with --vae"
        )
    return path


def checks(folder: Folder, checkpoint: Checkpoint, choice: Choice, say: Say) -> Iterator[CheckRecord]:
    """A record for each component, and one for an image where the pipeline makes images of a prompt alone."""
    yield from reference.compare(folder, checkpoint, choice=choice, say=say)
    family = folder.family()
    if family is None or family.needs is not None:
        lacking = family.needs if family else "a pipeline that this version does not know"
        say(f"no image is compared: {folder.manifest.pipeline} needs {lacking}")
        return
    say("comparing one image with diffusers")
    engine = Engine(folder, choice)
    yield compare_image(folder, checkpoint, lambda request: _image(engine, request), computed_in=engine.dtype)


def _image(engine: Engine, request: ImageRequest) -> Any:
    """The export's image, (H, W, 3) in 0…1."""
    made = Pipeline(engine)(
        request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        latents=request.latents,
        seed=request.seed,
        output_type="np",
    )
    return made.images[0]
