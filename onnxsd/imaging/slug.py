"""A prompt as a part of a file name that every system takes."""

from __future__ import annotations

import itertools
import unicodedata

# Names that Windows keeps for devices, whatever the suffix.
_DEVICES = frozenset({"CON", "PRN", "AUX", "NUL"}) | {
    f"{port}{number}" for port, number in itertools.product(("COM", "LPT"), "0123456789¹²³")
}
_LIMIT_BYTES = 80  # file systems take 255 for the whole name, and a reader far less


def slug(prompt: str) -> str:
    """Letters, marks and digits of the prompt with `-` between them, at most 80 bytes of UTF-8.

    An empty one becomes `image`, and a Windows device name gets a `_`.
    """
    text = unicodedata.normalize("NFC", prompt)
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    name = _cut("-".join(kept.split())).rstrip("-")
    if not name:
        return "image"
    return f"{name}_" if name.upper() in _DEVICES else name


def _cut(text: str) -> str:
    """As much of the text as the limit holds, at a word's end where one is near."""
    if len(text.encode()) <= _LIMIT_BYTES:
        return text
    short = text.encode()[:_LIMIT_BYTES].decode("utf-8", "ignore")
    words, dash, _ = short.rpartition("-")
    return words if dash and len(words) > len(short) // 2 else short
