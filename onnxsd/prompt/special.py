"""The special tokens of a tokenizer folder: start, end, padding, and what is matched before words are split.

The precedence is that of transformers 5's CLIPTokenizer: an `added_tokens_decoder` in
`tokenizer_config.json` speaks alone; without one, `special_tokens_map.json` overrides
`tokenizer_config.json` (SD 2.1 says "!" in the first and `<|endoftext|>` in the second),
and `added_tokens.json` and `tokenizer.json` add theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from onnxsd.errors import BadInputError
from onnxsd.prompt.files import COPY_HINT, optional_json_object

DEFAULTS: Mapping[str, str] = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}

# The order in which transformers adds them: where two have the same text, the later one's flags hold.
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """Texts of the special tokens.

    added: every token that is matched in a prompt before words are split, in the order to add them.
    declared_ids: the ids that the folder's files state for tokens of `added`.
    """

    start: str
    end: str
    unknown: str
    pad: str
    added: tuple[AddedToken, ...]
    declared_ids: Mapping[str, int]


def read_special_tokens(
    folder: Path, config: Mapping[str, Any], serialized: Mapping[str, Any] | None
) -> SpecialTokens:
    """The special tokens that the folder's files name together.

    config: tokenizer_config.json's content, empty if absent; serialized: tokenizer.json's, if there.
    """
    entries: dict[str, Any] = {**DEFAULTS, **config}
    if "added_tokens_decoder" in config:
        declared = _decoder_tokens(folder / "tokenizer_config.json", config["added_tokens_decoder"])
    else:
        entries |= _token_map(folder / "special_tokens_map.json")
        declared = _legacy_tokens(folder, entries) | _serialized_tokens(folder / "tokenizer.json", serialized)
    # The four in DEFAULTS are always asked for, so that null is refused.
    present = [name for name in NAMES if name in DEFAULTS or entries.get(name) is not None]
    named = {name: _word(folder, name, entries[name]) for name in present}
    return SpecialTokens(
        start=str(named["bos_token"]),
        end=str(named["eos_token"]),
        unknown=str(named["unk_token"]),
        pad=str(named["pad_token"]),
        added=_in_order(declared, list(named.values()), _extra(folder, entries)),
        declared_ids={token.content: index for index, token in declared.items()},
    )


def _word(source: Path, name: str, found: object) -> AddedToken | str:
    """A token as the files write it: a text alone, or an object with a text and flags."""
    if isinstance(found, AddedToken) or (isinstance(found, str) and found):
        return found
    if isinstance(found, dict):
        return _token(source, name, found)
    raise BadInputError(f"the tokenizer file {source} gives {name} as {found!r}", hint=COPY_HINT)


def _token(source: Path, name: str, found: object) -> AddedToken:
    if not isinstance(found, dict) or not isinstance(found.get("content"), str) or not found["content"]:
        raise BadInputError(f"the tokenizer file {source} gives {name} as {found!r}", hint=COPY_HINT)
    return AddedToken(found["content"], **{flag: bool(found[flag]) for flag in FLAGS if flag in found})


def _token_map(path: Path) -> dict[str, Any]:
    """The entries of special_tokens_map.json; a token that it describes is special whatever its flags."""
    entries = optional_json_object(path) or {}
    return {
        name: _token(path, name, found | {"special": True}) if isinstance(found, dict) else found
        for name, found in entries.items()
    }


def _decoder_tokens(source: Path, found: object) -> dict[int, AddedToken]:
    """`added_tokens_decoder`: an object from ids, as text, to tokens."""
    if not isinstance(found, dict) or not all(key.isdecimal() for key in found):
        raise BadInputError(
            f"{source} has an added_tokens_decoder that maps no ids: {found!r}", hint=COPY_HINT
        )
    return {int(key): _token(source, f"added token {key}", token) for key, token in found.items()}


def _legacy_tokens(folder: Path, entries: Mapping[str, Any]) -> dict[int, AddedToken]:
    """`added_tokens.json`: an object from texts to ids, as textual inversion once left it."""
    source = folder / "added_tokens.json"
    special = {str(_word(folder, name, entries[name])) for name in NAMES if entries.get(name)}
    special |= {str(word) for word in _extra(folder, entries)}
    tokens = {}
    for text, index in (optional_json_object(source) or {}).items():
        if type(index) is not int:
            raise BadInputError(f"{source} gives {text!r} the id {index!r}", hint=COPY_HINT)
        tokens[index] = AddedToken(text, normalized=text not in special, special=text in special)
    return tokens


def _serialized_tokens(source: Path, serialized: Mapping[str, Any] | None) -> dict[int, AddedToken]:
    """`added_tokens` of tokenizer.json: a list of tokens that carry their ids."""
    found = (serialized or {}).get("added_tokens") or []
    if not isinstance(found, list) or not all(
        isinstance(token, dict) and type(token.get("id")) is int for token in found
    ):
        raise BadInputError(f"{source} has added_tokens without ids: {found!r}", hint=COPY_HINT)
    return {token["id"]: _token(source, "an added token", token) for token in found}


def _extra(folder: Path, entries: Mapping[str, Any]) -> list[AddedToken | str]:
    """Special tokens without a role, under their present or their older name."""
    found = entries.get("extra_special_tokens") or entries.get("additional_special_tokens") or []
    words = found.values() if isinstance(found, dict) else found
    if not isinstance(words, Iterable) or isinstance(words, str):
        raise BadInputError(
            f"the tokenizer files in {folder} give extra special tokens as {found!r}", hint=COPY_HINT
        )
    return [_word(folder, "an extra special token", word) for word in words]


def _in_order(
    declared: Mapping[int, AddedToken], named: list[AddedToken | str], extra: list[AddedToken | str]
) -> tuple[AddedToken, ...]:
    """All tokens to add: the declared ones by id, then those that only have a name."""
    words: list[AddedToken | str] = [declared[index] for index in sorted(declared)]
    known = {str(word) for word in words}
    for word in (*named, *extra):
        # A text and a token with the same text are two entries: the later one's flags will hold.
        if str(word) not in known and word not in words:
            words.append(word)
    roles = {str(word) for word in named}
    return tuple(_as_token(word, special=str(word) in roles) for word in words)


def _as_token(word: AddedToken | str, *, special: bool) -> AddedToken:
    if isinstance(word, str):
        return AddedToken(word, special=True)
    return AddedToken(
        word.content,
        single_word=word.single_word,
        lstrip=word.lstrip,
        rstrip=word.rstrip,
        normalized=word.normalized,
        special=word.special or special,
    )
