"""The tokenizers of `shapes`: CLIP's format over the grammar's own words, each of which is one token."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnxsd.prompt.tokenizer import CONTEXT_TOKENS, Tokenizer
from onnxsd.prompt.vocabulary import END, build_vocabulary, write_tokenizer
from shapes import phrases
from shapes.ways import Ways

# SDXL's first tokenizer pads with the end-of-text marker, its second with "!", whose id is 0.
PAD_TOKENS = {"tokenizer": END, "tokenizer_2": "!"}
ROOM = 1 << 16  # more than the words need; the vocabulary ends with its last merge

MARK = "red"  # any word of the grammar

_FIELD = re.compile(r"\{\w+\}")
_WORD = re.compile(r"[a-z]+")


def write_tokenizers(folder: Path, names: Sequence[str] = tuple(PAD_TOKENS)) -> None:
    """Writes tokenizer/ and tokenizer_2/ of a checkpoint, or only those that are named."""
    for name in names:
        write_tokenizer(folder / name, vocab_size=ROOM, pad_token=PAD_TOKENS[name], words=words())


def vocab_size() -> int:
    """How many tokens there are: the text encoders' `vocab_size`."""
    return len(build_vocabulary(ROOM, words())[0])


def words() -> str:
    """Every word that a caption may hold, in alphabetical order, between blanks."""
    found = {"an"}
    for text in _texts():
        found.update(_WORD.findall(_FIELD.sub(" ", text.lower())))
    return " ".join(sorted(found))


def token_ids(texts: Sequence[str], *, pad_token: str = END) -> npt.NDArray[np.int64]:
    """What the tokenizer makes of each text, (N, 77): much faster over many texts of few words."""
    tokenizer = _tokenizer(pad_token)
    ids = np.full((len(texts), CONTEXT_TOKENS), tokenizer.pad_id, dtype=np.int64)
    for row, text in zip(ids, texts, strict=True):
        kept: list[int] = []
        for piece in text.split():
            kept += _piece_ids(piece, pad_token)
        kept = kept[: CONTEXT_TOKENS - 2]
        row[: len(kept) + 2] = [tokenizer.start_id, *kept, tokenizer.end_id]
    return ids


@cache
def _tokenizer(pad_token: str) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), vocab_size=ROOM, pad_token=pad_token, words=words())
        return Tokenizer.from_folder(Path(folder))


@cache
def _piece_ids(piece: str, pad_token: str) -> tuple[int, ...]:
    """The tokens of one piece of text without blanks; no token reaches across a blank."""
    tokenizer = _tokenizer(pad_token)
    most = 2 * len(piece.encode()) + 8  # a token holds at least a byte; composing characters adds a few
    # A last word of our own marks where the piece ends: padding may look like a token of the piece.
    mark = tokenizer.encode(MARK).ids[1]
    ids = tokenizer.encode(f"{piece} {MARK}", most).ids
    return ids[1 : len(ids) - 1 - ids[::-1].index(mark)]


def _texts() -> Iterator[str]:
    """Every text in the tables of phrases."""
    for name, table in vars(phrases).items():
        if isinstance(table, Ways):
            yield from table.texts
        elif name.isupper() and isinstance(table, dict):
            for entry in table.values():
                yield from entry.texts
