"""Which files of a checkpoint an export needs: a pure function from a listing to a choice."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxsd.errors import BadInputError

# What save_pretrained calls the weights of each component: diffusers' models and transformers' differ.
WEIGHT_STEMS: Mapping[str, str] = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
TOKENIZERS = ("tokenizer", "tokenizer_2")
TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
SCHEDULER = "scheduler"
COMPONENTS = (*WEIGHT_STEMS, *TOKENIZERS, SCHEDULER)
# Parts of a pipeline that change no pixel of the model's own image: never fetched, never exported.
LEFT_OUT = frozenset({"safety_checker", "feature_extractor", "image_encoder", "watermark"})

_UNREADABLE_WEIGHTS = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx", ".onnx_data")
_VARIANT = r"[A-Za-z][A-Za-z0-9_]*"
# model.safetensors, model.fp16.safetensors, model.fp16-00001-of-00002.safetensors, and diffusers' older
# model-00001-of-00002.fp16.safetensors
_WEIGHTS = re.compile(
    rf"(?P<stem>\w+?)(?:\.(?P<variant>{_VARIANT}))?"
    rf"(?:-(?P<part>\d{{5}})-of-(?P<parts>\d{{5}})(?:\.(?P<late_variant>{_VARIANT}))?)?\.safetensors"
)
# model.safetensors.index.json, model.safetensors.index.fp16.json, older model.safetensors.fp16.index.json
_INDEX = re.compile(
    rf"(?P<stem>\w+?)\.safetensors(?:\.(?P<variant>(?!index\.){_VARIANT}))?\.index"
    rf"(?:\.(?P<late_variant>{_VARIANT}))?\.json"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file of a checkpoint: path from the root with `/`, size, and hash where the Hub says it."""

    name: str
    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The files to take, and what stands in the way of an export that takes them."""

    files: tuple[RemoteFile, ...]
    missing: tuple[str, ...]
    refused: tuple[str, ...]
    variants: Mapping[str, str | None]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and nothing was refused."""
        return not self.missing and not self.refused

    def faults(self) -> str:
        """What is missing or refused, in one line."""
        absent = (f"missing {name}" for name in self.missing)
        return "; ".join((*self.refused, *absent))


@dataclass(frozen=True, slots=True, kw_only=True)
class _WeightSet:
    """The weights of one component in one variant: a single file, or numbered parts with an index."""

    single: RemoteFile | None = None
    index: RemoteFile | None = None
    parts: tuple[RemoteFile, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """The single file where there is one, for it needs no index; else the index and its parts."""
        if self.single:
            return (self.single,)
        return ((self.index,) if self.index else ()) + self.parts


def select_files(
    listing: Sequence[RemoteFile], variant: str | None, components: Sequence[str]
) -> tuple[RemoteFile, ...]:
    """The files of `listing` that an export reads, each component's weights in exactly one form.

    Args:
        variant: taken where a component has it; the weights without a variant otherwise.
        components: names from model_index.json, see `components_of`.
    """
    selection = choose(listing, variant, components)
    if not selection.complete:
        raise BadInputError(f"the checkpoint cannot be exported: {selection.faults()}")
    return selection.files


def choose(listing: Sequence[RemoteFile], variant: str | None, components: Sequence[str]) -> Selection:
    """What `select_files` takes, with what is missing, for callers that say it in their own words."""
    files: list[RemoteFile] = []
    missing: list[str] = []
    refused: list[str] = []
    variants: dict[str, str | None] = {}
    for name in ("model_index.json", *_settings_of(components)):
        _take(listing, name, files, missing)
    for component in components:
        inside = {f.name.rpartition("/")[2]: f for f in listing if f.name.rpartition("/")[0] == component}
        if component in TOKENIZERS:
            files += [inside[name] for name in TOKENIZER_FILES if name in inside]
            missing += [f"{component}/{name}" for name in _tokenizer_gaps(inside)]
        elif component in WEIGHT_STEMS:
            sets = _weight_sets(component, inside)
            taken = variant if variant in sets else None
            if taken in sets:
                files += sets[taken].files
                missing += sets[taken].missing
                variants[component] = taken
            elif reason := _why_refused(component, inside, sets):
                refused.append(reason)
            else:
                missing.append(weights_name(component, variant))
    return Selection(files=tuple(files), missing=tuple(missing), refused=tuple(refused), variants=variants)


def check_variant(selection: Selection, asked: str, label: str, say: Callable[[str], None]) -> None:
    """Refuse a variant that no component has; say which components lack it."""
    lacking = [name for name, taken in selection.variants.items() if taken != asked]
    if len(lacking) == len(selection.variants):
        raise BadInputError(
            f"asked for --variant {asked}, but no component of {label} has such weights",
            hint="leave --variant out to take the weights that are there",
        )
    if lacking:
        say(f"{', '.join(lacking)} of {label}: no {asked} weights, taking the ones without a variant")


def components_of(model_index: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts of a pipeline that are exported, from the content of its model_index.json."""
    present = {
        name
        for name, value in model_index.items()
        if isinstance(value, (list, tuple)) and len(value) == 2 and value[1] is not None
    }
    label = model_index.get("_class_name", "a pipeline without _class_name")
    if lacking := [name for name in ("unet", "vae") if name not in present]:
        raise BadInputError(
            f"model_index.json describes {label} without {' and '.join(lacking)}",
            hint="onnxsd exports Stable Diffusion 1.x, 2.x and XL: a UNet, a VAE and CLIP text encoders",
        )
    if unknown := sorted(present - set(COMPONENTS) - LEFT_OUT):
        raise BadInputError(
            f"model_index.json describes {label} with {', '.join(unknown)}, which onnxsd does not know",
            hint=f"it exports {', '.join(COMPONENTS)}; without the rest the images would differ",
        )
    return tuple(name for name in COMPONENTS if name in present)


def expected_names(components: Sequence[str], variant: str | None) -> tuple[str, ...]:
    """The files that such a checkpoint usually has, for messages when there is no listing."""
    names = ["model_index.json", *_settings_of(components)]
    for component in components:
        if component in TOKENIZERS:
            names += [f"{component}/{name}" for name in ("vocab.json", "merges.txt", *TOKENIZER_FILES[3:5])]
        elif component in WEIGHT_STEMS:
            names.append(weights_name(component, variant))
    return tuple(names)


def weights_name(component: str, variant: str | None) -> str:
    """The usual path of a component's weights: `unet/diffusion_pytorch_model.fp16.safetensors`."""
    return f"{component}/{WEIGHT_STEMS[component]}{'.' + variant if variant else ''}.safetensors"


def _settings_of(components: Sequence[str]) -> list[str]:
    configs = [f"{component}/config.json" for component in components if component in WEIGHT_STEMS]
    return configs + ([f"{SCHEDULER}/scheduler_config.json"] if SCHEDULER in components else [])


def _take(listing: Sequence[RemoteFile], name: str, files: list[RemoteFile], missing: list[str]) -> None:
    found = next((file for file in listing if file.name == name), None)
    if found:
        files.append(found)
    else:
        missing.append(name)


def _tokenizer_gaps(inside: Mapping[str, RemoteFile]) -> list[str]:
    """What keeps a tokenizer from being read: it needs tokenizer.json, or vocab.json with merges.txt."""
    if "tokenizer.json" in inside:
        return []
    return [name for name in ("vocab.json", "merges.txt") if name not in inside]


def _weight_sets(component: str, inside: Mapping[str, RemoteFile]) -> dict[str | None, _WeightSet]:
    """Every safetensors form of the component's weights, by variant."""
    stem = WEIGHT_STEMS[component]
    singles: dict[str | None, RemoteFile] = {}
    indexes: dict[str | None, RemoteFile] = {}
    parts: dict[str | None, list[re.Match[str]]] = {}
    for name in inside:
        weights, index = _WEIGHTS.fullmatch(name), _INDEX.fullmatch(name)
        if weights and weights["stem"] == stem:
            variant = weights["variant"] or weights["late_variant"]
            if weights["part"]:
                parts.setdefault(variant, []).append(weights)
            else:
                singles[variant] = inside[name]
        elif index and index["stem"] == stem:
            indexes[index["variant"] or index["late_variant"]] = inside[name]
    return {
        variant: _weight_set(
            component, inside, singles.get(variant), indexes.get(variant), parts.get(variant, [])
        )
        for variant in {**singles, **indexes, **parts}
    }


def _weight_set(
    component: str,
    inside: Mapping[str, RemoteFile],
    single: RemoteFile | None,
    index: RemoteFile | None,
    parts: Sequence[re.Match[str]],
) -> _WeightSet:
    if single:
        return _WeightSet(single=single)
    if not parts:
        return _WeightSet(index=index, missing=(f"the parts that {index.name} names",) if index else ())
    present = {int(part["part"]): part for part in parts}
    some = parts[0]
    absent = [n for n in range(1, int(some["parts"]) + 1) if n not in present]
    missing = [f"{component}/{_renumbered(some, n)}" for n in absent]
    if not index:
        missing.append(f"the index of {component}/{some.string}")
    return _WeightSet(
        index=index,
        parts=tuple(inside[present[n].string] for n in sorted(present)),
        missing=tuple(missing),
    )


def _renumbered(part: re.Match[str], number: int) -> str:
    """The file name of another part of the same weights."""
    return f"{part.string[: part.start('part')]}{number:05d}{part.string[part.end('part') :]}"


def _why_refused(
    component: str, inside: Mapping[str, RemoteFile], sets: Mapping[str | None, _WeightSet]
) -> str | None:
    """Why the weights that are there are not taken; `None` where there are none."""
    if sets:
        names = ", ".join(sorted(name for name in sets if name))
        return f"{component} has weights only as variant {names}: ask for one with --variant"
    if found := sorted(name for name in inside if name.endswith(_UNREADABLE_WEIGHTS)):
        return (
            f"{component} has no .safetensors weights, only {', '.join(found)}: load the checkpoint with "
            "diffusers and write it with save_pretrained(FOLDER, safe_serialization=True)"
        )
    return None
