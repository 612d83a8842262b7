"""Prompts to token ids, as the checkpoint's own tokenizer folder says.

Equal to transformers 5's CLIPTokenizer, which builds the same pipeline on the same library: NFC, whitespace
folded, lower case, CLIP's pieces, byte-level BPE with `</w>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from onnxsd.errors import BadInputError, ConfigurationError, UsageError
from onnxsd.prompt.bpe import WORD_END, Bpe, from_serialized, from_vocabulary_and_merges
from onnxsd.prompt.files import COPY_HINT, optional_json_object
from onnxsd.prompt.special import SpecialTokens, read_special_tokens

CONTEXT_TOKENS = 77  # CLIP's text position embeddings: the length where a configuration names none
UNLIMITED_TOKENS = 1 << 20  # transformers writes 10**30 as model_max_length where it knows no limit

# The pieces that CLIP splits a prompt into: its markers, English contractions, words, digits, the rest.
PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """One prompt as a text encoder takes it.

    ids: start, prompt, end, padding; always the length that was asked for.
    end_position: where the first end-of-text token stands; the pooled output is taken there.
    truncated: the end of the prompt that did not fit, exactly as written; None if all of it did.
    """

    ids: tuple[int, ...]
    end_position: int
    truncated: str | None

    @property
    def warning(self) -> str | None:
        """What to tell the user if part of the prompt was cut, else None."""
        if self.truncated is None:
            return None
        return f"the prompt is longer than {len(self.ids)} tokens; cut: “{self.truncated.rstrip()}”"


class Tokenizer:
    """One checkpoint's tokenizer.

    vocab_size: every id is below it; start_id, end_id, pad_id: the tokens around a prompt;
    max_length: tokens in a row, the checkpoint's model_max_length.
    """

    def __init__(self, *, bpe: Bpe, special: SpecialTokens, max_length: int, split_special: bool) -> None:
        self._backend = _backend(bpe, special)
        self._backend.encode_special_tokens = split_special
        self.start_id = self._id_of(special.start, bpe)
        self.end_id = self._id_of(special.end, bpe)
        self.pad_id = self._id_of(special.pad, bpe)
        self.vocab_size = 1 + max(self._backend.get_vocab(with_added_tokens=True).values())
        self.max_length = max_length

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """The tokenizer of a checkpoint's folder: tokenizer.json, or else vocab.json and merges.txt."""
        if not folder.is_dir():
            raise BadInputError(f"asked for the tokenizer in {folder}, which is not a folder", hint=COPY_HINT)
        config = optional_json_object(folder / "tokenizer_config.json") or {}
        serialized = optional_json_object(folder / "tokenizer.json")
        _refuse_left(folder, config, serialized or {})
        return cls(
            bpe=from_vocabulary_and_merges(folder)
            if serialized is None
            else from_serialized(folder / "tokenizer.json", serialized),
            special=read_special_tokens(folder, config, serialized),
            max_length=_max_length(folder / "tokenizer_config.json", config),
            split_special=config.get("split_special_tokens") is True,
        )

    def encode(self, text: str, max_length: int | None = None) -> Tokens:
        """The prompt's tokens, cut or padded to `max_length`, or else to the checkpoint's own length."""
        length = self.max_length if max_length is None else max_length
        if length < 2:
            raise UsageError(f"asked for {length} tokens; start and end of the text need 2")
        encoding = self._backend.encode(_utf8(text), add_special_tokens=False)
        kept = encoding.ids[: length - 2]
        ids = [self.start_id, *kept, self.end_id]
        ids += [self.pad_id] * (length - len(ids))
        cut = encoding.offsets[len(kept) :]
        return Tokens(
            ids=tuple(ids),
            end_position=ids.index(self.end_id),
            # Offsets count characters of the prompt as it was written, before any normalization.
            truncated=text[cut[0][0] :] if cut else None,
        )

    def encode_batch(self, texts: Sequence[str], max_length: int | None = None) -> tuple[Tokens, ...]:
        """Each prompt's tokens, all of one length."""
        if isinstance(texts, str):
            raise UsageError("encode_batch takes a sequence of prompts, and was given one prompt")
        # One by one: the library's own batches start threads, and then warn when the process forks.
        return tuple(self.encode(text, max_length) for text in texts)

    def _id_of(self, token: str, bpe: Bpe) -> int:
        index = self._backend.token_to_id(token)
        if index is None:
            raise BadInputError(f"{bpe.source} has no token {token!r}", hint=COPY_HINT)
        return index


def _backend(bpe: Bpe, special: SpecialTokens) -> Backend:
    """The library's tokenizer with CLIP's pipeline around the vocabulary; special tokens are added."""
    _check_ids(bpe, special)
    backend = Backend(
        models.BPE(
            vocab=dict(bpe.ids),
            merges=list(bpe.merges),
            unk_token=special.unknown,
            end_of_word_suffix=WORD_END,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.add_tokens(list(special.added))
    for text, index in special.declared_ids.items():
        if backend.token_to_id(text) != index:
            raise BadInputError(
                f"{bpe.source}: the added token {text!r} should have the id {index}, "
                f"but gets {backend.token_to_id(text)}",
                hint=COPY_HINT,
            )
    return backend


def _check_ids(bpe: Bpe, special: SpecialTokens) -> None:
    """Refuses a special token that no file gives an id: a made-up one lies past the encoder's embeddings."""
    for token in special.added:
        if token.content not in bpe.ids and token.content not in special.declared_ids:
            raise BadInputError(
                f"{bpe.source} has no token {token.content!r}, which the tokenizer's configuration names",
                hint=COPY_HINT,
            )


def _refuse_left(folder: Path, config: Mapping[str, Any], serialized: Mapping[str, Any]) -> None:
    sides = {
        f"{key} in tokenizer_config.json": config.get(key) for key in ("padding_side", "truncation_side")
    }
    for key in ("padding", "truncation"):
        value = serialized.get(key)
        sides[f"{key} in tokenizer.json"] = value.get("direction") if isinstance(value, dict) else None
    for name, side in sides.items():
        if side is not None and str(side).lower() != "right":
            raise ConfigurationError(
                f"{folder}: {name} is {side!r}", hint="CLIP pads and cuts a prompt on the right; set it so"
            )


def _max_length(path: Path, config: Mapping[str, Any]) -> int:
    found = config.get("model_max_length", config.get("max_len"))
    if found is None:
        return CONTEXT_TOKENS
    if isinstance(found, bool) or not isinstance(found, int | float) or not found >= 2:
        raise ConfigurationError(f"{path} has model_max_length {found!r}", hint="CLIP's is 77")
    return CONTEXT_TOKENS if found > UNLIMITED_TOKENS else int(found)


def _utf8(text: str) -> str:
    """The same text, if it can be written as UTF-8: half of a surrogate pair cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadInputError(
            f"the prompt has half of a surrogate pair, {text[error.start]!r}, at character {error.start}",
            hint="it comes from a broken conversion of text; type that character again or leave it out",
        ) from error
    return text
