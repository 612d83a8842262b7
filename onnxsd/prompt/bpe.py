"""The byte-pair vocabulary of a tokenizer folder: from tokenizer.json, or from vocab.json and merges.txt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsd.errors import BadInputError, ConfigurationError
from onnxsd.prompt.files import COPY_HINT, json_object, text_of

WORD_END = "</w>"  # CLIP marks the last piece of each word with it
# Tokens beyond the bytes that no merge makes: CLIP has its two markers, and people add a few words.
UNMADE_TOKENS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Bpe:
    """Token ids and their merges, most frequent first; `source` is the file that gave the ids."""

    source: Path
    ids: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]


def from_vocabulary_and_merges(folder: Path) -> Bpe:
    """The vocabulary of `vocab.json` with the merges of `merges.txt`."""
    source = folder / "vocab.json"
    ids = _checked_ids(source, json_object(source))
    merges = _merges_of_text(folder / "merges.txt")
    _check_merges(folder / "merges.txt", ids, merges)
    return Bpe(source=source, ids=ids, merges=merges)


def from_serialized(source: Path, content: Mapping[str, Any]) -> Bpe:
    """The vocabulary of a `tokenizer.json`, which must be CLIP's kind of model."""
    model = content.get("model")
    if not isinstance(model, dict):
        raise BadInputError(f"{source} has no model", hint=COPY_HINT)
    # Older files leave the type out; a BPE model shows itself by its merges.
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind != "BPE" or model.get("end_of_word_suffix") != WORD_END:
        raise ConfigurationError(
            f"{source} holds a {kind} model with end_of_word_suffix {model.get('end_of_word_suffix')!r}",
            hint=f"only CLIP's tokenizers are supported: BPE with {WORD_END!r}",
        )
    ids = _checked_ids(source, model.get("vocab"))
    merges = _merges_of_list(source, model.get("merges"))
    _check_merges(source, ids, merges)
    return Bpe(source=source, ids=ids, merges=merges)


def _checked_ids(source: Path, found: object) -> dict[str, int]:
    if not isinstance(found, dict) or not found:
        raise BadInputError(f"{source} holds no vocabulary", hint=COPY_HINT)
    for token, index in found.items():
        if type(index) is not int or not 0 <= index < 1 << 31:
            raise BadInputError(f"{source} gives the token {token!r} the id {index!r}", hint=COPY_HINT)
    if len(set(found.values())) < len(found):
        raise BadInputError(f"{source} gives several tokens the same id", hint=COPY_HINT)
    return found


def _merges_of_text(path: Path) -> tuple[tuple[str, str], ...]:
    merges = []
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if line.startswith("#version"):
            continue
        merges.append(_pair(f"{path}, line {number}", line.split(" ")))
    return tuple(merges)


def _merges_of_list(source: Path, found: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(found, list):
        raise BadInputError(f"{source} holds no list of merges", hint=COPY_HINT)
    return tuple(
        _pair(f"{source}, merge {number}", merge.split(" ") if isinstance(merge, str) else merge)
        for number, merge in enumerate(found, start=1)
    )


def _pair(where: str, parts: object) -> tuple[str, str]:
    if isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) and part for part in parts):
        return parts[0], parts[1]
    raise BadInputError(f"{where}: expected two tokens to merge, found {parts!r}", hint=COPY_HINT)


def _check_merges(path: Path, ids: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
    for left, right in merges:
        for token in (left, right, left + right):
            if token not in ids:
                raise BadInputError(
                    f"{path} merges {left!r} and {right!r}, but the vocabulary has no token {token!r}",
                    hint=f"its two halves are from different checkpoints; {COPY_HINT}",
                )
    made = {left + right for left, right in merges}
    unmade = [token for token in ids if len(token.removesuffix(WORD_END)) > 1 and token not in made]
    if len(unmade) > UNMADE_TOKENS_MAX:
        raise BadInputError(
            f"{path} has {len(merges)} merges that make none of {len(unmade)} tokens, such as {unmade[0]!r}",
            hint=f"the merges are cut short; {COPY_HINT}",
        )
