"""Writes the tokenizer of a checkpoint made here: a vocabulary of our own in CLIP's file formats."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from onnxsd.errors import UsageError

START = "<|startoftext|>"
END = "<|endoftext|>"
WORD_END = "</w>"

# Words of prompts: with room for all merges each is one token. Each counts once; the order is free.
WORDS = """
a an the of in on at and or with without by from to into over under above below behind beside between
near through around against across inside outside front back left right top bottom middle center side
red orange yellow green blue purple pink brown black white gray gold silver bright dark light pale vivid
circle square triangle rectangle star ring cross diamond heart line dot spiral shape pattern stripe grid
one two three four five six seven eight nine ten many few several single double
small large big tiny huge tall short long wide narrow round flat sharp soft smooth rough old young new
ancient modern beautiful pretty lovely strange simple detailed realistic abstract colorful quiet empty
photo photograph picture image painting drawing sketch portrait landscape illustration poster render
watercolor oil ink pencil canvas paper film camera lens focus close view angle background foreground
art artist style studio lighting shadow reflection texture quality high low resolution sharp blurry
man woman person people child boy girl face eyes hair hand smile king queen knight wizard robot astronaut
cat dog horse bird fish bear wolf fox lion tiger elephant rabbit mouse owl eagle dragon unicorn butterfly
tree forest flower rose grass leaf garden mountain hill valley river lake ocean sea beach island desert
sky cloud sun moon stars night day morning evening sunset sunrise winter summer spring autumn snow rain
storm fog wind fire water ice earth stone rock sand glass metal wood gold silk cloth paint
city street road bridge house castle tower church temple room window door wall roof table chair lamp
book cup bottle bowl apple pear lemon bread cake coffee tea food car train ship boat plane bicycle wheel
clock mirror candle crown sword shield helmet coat dress hat scarf boots mask wings feather crystal
riding sitting standing walking running flying sleeping reading playing holding wearing looking floating
space planet galaxy future fantasy magic dream story scene world nature life love
"""


def write_tokenizer(
    folder: Path, *, vocab_size: int, pad_token: str, max_length: int = 77, words: str = WORDS
) -> None:
    """Writes vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json, as CLIP has them.

    vocab_size: the text encoder's; every id is below it, and there may be fewer tokens than that.
    pad_token: the end-of-text marker (SD 1.x, SDXL's first tokenizer) or "!" (SD 2.x, SDXL's second).
    words: those that become one token each, as far as there is room.
    """
    ids, merges = build_vocabulary(vocab_size, words)
    if pad_token not in ids:
        raise UsageError(
            f"asked to pad with {pad_token!r}, which the vocabulary lacks", hint=f"use {END} or !"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "vocab.json", json.dumps(ids, ensure_ascii=False))
    _write(
        folder / "merges.txt",
        "\n".join(["#version: 0.2", *(f"{left} {right}" for left, right in merges), ""]),
    )
    for name, content in (
        ("tokenizer_config.json", _config(pad_token, max_length)),
        ("special_tokens_map.json", _named_tokens(pad_token)),
    ):
        _write(folder / name, json.dumps(content, indent=2) + "\n")


def build_vocabulary(
    vocab_size: int, words: str = WORDS
) -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """Ids below `vocab_size` and the merges that make them, the same at every call.

    In CLIP's order: 256 bytes, 256 bytes that end a word, merges, start of text, end of text. End of text
    must have the largest id: text encoders with the older `eos_token_id` of 2 pool where the id is largest.
    """
    symbols = byte_symbols()
    tokens = [*symbols, *(symbol + WORD_END for symbol in symbols)]
    room = vocab_size - len(tokens) - 2
    if room < 0:
        raise UsageError(f"asked for {vocab_size} tokens; the bytes and markers alone need {len(tokens) + 2}")
    merges = _all_merges(words)[:room]
    tokens += [left + right for left, right in merges]
    tokens += [START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def byte_symbols() -> list[str]:
    """One printable character for each byte, in CLIP's order: printable Latin-1 first, then the rest.

    Bytes that are blank or invisible in Latin-1 get the characters from U+0100 on, as in GPT-2.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = 256 - len(visible)
    return [chr(code) for code in (*visible, *range(0x100, 0x100 + hidden))]


@cache
def _all_merges(words: str) -> tuple[tuple[str, str], ...]:
    """The merges that make each word one token: the most frequent pair first, of equals the lesser."""
    pieces = [(*word[:-1], word[-1] + WORD_END) for word in sorted(set(words.split()))]
    merges: list[tuple[str, str]] = []
    made: set[str] = set()
    while True:
        counts = Counter(pair for word in pieces for pair in pairwise(word))
        # Two merges may spell the same token (a+bc, ab+c); ids are per token, so the second is left out.
        fresh = {pair: count for pair, count in counts.items() if pair[0] + pair[1] not in made}
        if not fresh:
            return tuple(merges)
        best = min(fresh, key=lambda pair: (-fresh[pair], pair))
        pieces = [_merged(word, best) for word in pieces]
        merges.append(best)
        made.add(best[0] + best[1])


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """The word with each occurrence of the pair joined, from the left."""
    joined: list[str] = []
    for piece in word:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return tuple(joined)


def _named_tokens(pad_token: str) -> dict[str, Any]:
    marker = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return {
        "bos_token": {"content": START, **marker},
        "eos_token": {"content": END, **marker},
        "unk_token": {"content": END, **marker},
        "pad_token": pad_token,
    }


def _config(pad_token: str, max_length: int) -> dict[str, Any]:
    """tokenizer_config.json, in which a token with flags also names its class."""
    tokens = {
        name: {"__type": "AddedToken", **token} if isinstance(token, dict) else token
        for name, token in _named_tokens(pad_token).items()
    }
    return {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": max_length,
        "tokenizer_class": "CLIPTokenizer",
        **tokens,
    }


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
