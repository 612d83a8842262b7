"""The `parameters` text that an image carries: how it was made, as AUTOMATIC1111 and others write it.

    a prompt, over as many lines as it has
    Negative prompt: what to avoid
    Steps: 30, Sampler: Euler a, CFG scale: 7.0, Seed: 1, Size: 1024x1024, Version: onnxsd 0.1.0

The last line is the settings; it starts with `Steps` and never breaks, for its values are JSON where they
hold a comma, a colon or a line break. A prompt may hold any text: where the lines alone would be read
otherwise, one more setting, `Prompt lines`, says how many of them are the prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import onnxsd
from onnxsd.errors import BadInputError, UsageError

_NEGATIVE = "Negative prompt:"
_PROMPT_LINES = "Prompt lines"
_SIZE = "Size"
# Field → its name in the text, in AUTOMATIC1111's order. Size stands for two fields.
_NAMES: Mapping[str, str] = {
    "steps": "Steps",
    "sampler": "Sampler",
    "noise_schedule": "Schedule type",
    "guidance_scale": "CFG scale",
    "seed": "Seed",
    "width": _SIZE,
    "model_hash": "Model hash",
    "model": "Model",
    "denoising_strength": "Denoising strength",
    "clip_skip": "Clip skip",
    "rng": "RNG",
}
_VERSION = "Version"
_RESERVED = frozenset({*_NAMES.values(), _PROMPT_LINES, _VERSION})
_READERS: Mapping[str, Callable[[str], Any]] = {
    "steps": int,
    "guidance_scale": float,
    "seed": int,
    "denoising_strength": float,
    "clip_skip": int,
}
_KEY = r'[^\s,:"][^,:"\n]*'
_PAIR = re.compile(rf'\s*(?P<key>{_KEY}):[ \t]*(?P<value>"(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRecord:
    """How one image was made. `None`: not known, as in images of other programs."""

    prompt: str
    negative_prompt: str = ""
    steps: int
    sampler: str | None = None
    noise_schedule: str | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    model_hash: str | None = None
    model: str | None = None
    denoising_strength: float | None = None
    clip_skip: int | None = None
    """As AUTOMATIC1111 counts: 2 is the last layer but one (diffusers' clip_skip=1)."""
    rng: str | None = None
    """Whose noise the seed means: `CPU` or `GPU`."""
    extra: tuple[tuple[str, str], ...] = ()
    """Settings that have no field here, in their order."""
    version: str | None = f"onnxsd {onnxsd.__version__}"

    def __post_init__(self) -> None:
        """Refuse what the text could not say."""
        keys = [key for key, _value in self.extra]
        for key in keys:
            if key in _RESERVED or keys.count(key) > 1 or not re.fullmatch(_KEY, key):
                raise UsageError(f"{key!r} cannot name an extra setting of an image")
        if (self.width is None) != (self.height is None):
            raise UsageError(f"an image has a width and a height; got {self.width} and {self.height}")


def format_parameters(record: GenerationRecord) -> str:
    """The text that an image of this record carries; `parse_parameters` gives the record back exactly."""
    body = _body(record)
    settings = _settings(record)
    if _split(body, None) != (record.prompt, record.negative_prompt):
        settings.append((_PROMPT_LINES, str(record.prompt.count("\n") + 1)))
    if record.version is not None:
        settings.append((_VERSION, record.version))
    return body + "\n" + ", ".join(f"{key}: {_quoted(value)}" for key, value in settings)


def parse_parameters(text: str) -> GenerationRecord:
    """The record that an image's `parameters` text tells, ours or another program's of the same custom."""
    body, _, last = text.rstrip("\n").rpartition("\n")
    if not last.startswith("Steps:"):
        raise BadInputError(
            "the image's text does not end in a line of settings that starts with `Steps:`",
            hint=f"its last line is {last[:60]!r}",
        )
    settings = _read_settings(last)
    prompt_lines = settings.pop(_PROMPT_LINES, None)
    prompt, negative = _split(body, None if prompt_lines is None else _read(_PROMPT_LINES, prompt_lines, int))
    width, height = _read(_SIZE, settings.pop(_SIZE), _read_size) if _SIZE in settings else (None, None)
    known = {
        field: _read(name, settings.pop(name), _READERS.get(field, str))
        for field, name in _NAMES.items()
        if name in settings
    }
    version = settings.pop(_VERSION, None)
    return GenerationRecord(
        prompt=prompt,
        negative_prompt=negative,
        width=width,
        height=height,
        version=version,
        extra=tuple(settings.items()),
        **known,
    )


def as_dict(record: GenerationRecord) -> dict[str, Any]:
    """The record for `--json`: what is known, by field name."""
    known = {field.name: getattr(record, field.name) for field in fields(record)}
    known["extra"] = dict(record.extra)
    return {name: value for name, value in known.items() if value is not None}


def _body(record: GenerationRecord) -> str:
    if not record.negative_prompt:
        return record.prompt
    return f"{record.prompt}\n{_NEGATIVE} {record.negative_prompt}"


def _split(body: str, prompt_lines: int | None) -> tuple[str, str]:
    """Prompt and negative prompt; without a count, the first line that starts as one begins the negative."""
    lines = body.split("\n")
    if prompt_lines is None:
        starts = (n for n, line in enumerate(lines) if line.startswith(_NEGATIVE))
        prompt_lines = next(starts, len(lines))
    prompt, negative = "\n".join(lines[:prompt_lines]), "\n".join(lines[prompt_lines:])
    return prompt, negative.removeprefix(_NEGATIVE).removeprefix(" ")


def _settings(record: GenerationRecord) -> list[tuple[str, str]]:
    pairs = [(name, getattr(record, field)) for field, name in _NAMES.items()]
    size = None if record.width is None else f"{record.width}x{record.height}"
    known = [(name, size if name == _SIZE else value) for name, value in pairs]
    return [(name, str(value)) for name, value in known if value is not None] + list(record.extra)


def _quoted(value: str) -> str:
    """The value as it stands, or as JSON where a reader would lose or misread a part of it."""
    plain = value and value == value.strip() and not re.search(r'[,:\n\r]|^"', value)
    return value if plain else json.dumps(value, ensure_ascii=False)


def _read_settings(line: str) -> dict[str, str]:
    """The line's pairs; of a key that comes twice, the first."""
    settings: dict[str, str] = {}
    for pair in _PAIR.finditer(line):
        settings.setdefault(pair["key"], _unquoted(pair["value"]))
    return settings


def _unquoted(value: str) -> str:
    value = value.strip()
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:  # another program's idea of quoting
        return value


def _read(name: str, value: str, reader: Callable[[str], Any]) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise BadInputError(f"the image's text says `{name}: {value}`, which cannot be read") from error


def _read_size(value: str) -> tuple[int, int]:
    width, x, height = value.partition("x")
    if not x:
        raise ValueError(value)
    return int(width), int(height)
