"""Reading config.json as diffusers and transformers write it; what changes the graph never passes unseen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxsd.errors import ConfigurationError, ResourceError


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path} does not exist", hint="the folder needs diffusers' layout"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} is not JSON: {error}", hint="download or copy the file again"
        ) from error
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds a {type(content).__name__}, not a JSON object")
    return content


class Configuration:
    """One component's config.json: values by key, a missing key meaning the class's default."""

    def __init__(self, content: Mapping[str, Any], defaults: Mapping[str, Any], *, of: str) -> None:
        self._content = content
        self._defaults = defaults
        self.of = of

    def __getitem__(self, key: str) -> Any:
        return self._content.get(key, self._defaults[key])

    def require_class(self, name: str) -> None:
        """Refuse a configuration of another class; one that names none is taken at its place."""
        if self._content.get("_class_name", name) != name:
            raise ConfigurationError(
                f"_class_name is {json.dumps(self._content['_class_name'])}, where a {name} is needed",
                hint="only the classes that docs/design.md names have an authored graph",
            )

    def refuse_other_than_defaults(self, keys: tuple[str, ...]) -> None:
        """Refuse a value that would change the graph in a way that is not supported."""
        for key in keys:
            if not _same(self[key], self._defaults[key]):
                raise self.unsupported(key, f"only {json.dumps(self._defaults[key])} is")

    def integer(self, key: str) -> int:
        """A positive integer."""
        value = self[key]
        if not _is_positive(value):
            raise self.unsupported(key, "a positive integer is needed")
        return int(value)

    def number(self, key: str) -> float:
        """A finite number."""
        value = self[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.unsupported(key, "a number is needed")
        return float(value)

    def optional_integer(self, key: str) -> int | None:
        """A positive integer, or None."""
        return None if self[key] is None else self.integer(key)

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of positive integers, at least one."""
        value = self[key]
        if not isinstance(value, (list, tuple)) or not value or not all(_is_positive(item) for item in value):
            raise self.unsupported(key, "a list of positive integers is needed")
        return tuple(value)

    def per_block(self, key: str, count: int) -> tuple[Any, ...]:
        """One value for each of `count` blocks: a list of that length, or one number for all."""
        value = self[key]
        if _is_positive(value):
            return (value,) * count
        if isinstance(value, (list, tuple)) and len(value) == count:
            return tuple(value)
        raise self.unsupported(key, f"a positive integer or a list of {count} is needed")

    def kinds(self, key: str, known: Mapping[str, bool], *, count: int) -> tuple[bool, ...]:
        """What `known` says of each of `count` block types."""
        value = self[key]
        if not isinstance(value, (list, tuple)) or len(value) != count:
            raise self.unsupported(key, f"a list of {count} block types is needed")
        for kind in value:
            if not isinstance(kind, str) or kind not in known:
                raise self.unsupported(key, f"known are {', '.join(known)}")
        return tuple(known[kind] for kind in value)

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        """One of the given words."""
        value = self[key]
        if value not in allowed:
            raise self.unsupported(key, f"known are {', '.join(allowed)}")
        return str(value)

    def unsupported(self, key: str, instead: str) -> ConfigurationError:
        """The error for a value that this version has no graph for."""
        return ConfigurationError(f"{self.of}: {key} = {json.dumps(self[key])} is not supported: {instead}")


def _same(value: Any, default: Any) -> bool:
    """Equal as configurations are: 1 and 1.0, a tuple and its list, an all-equal list and its element."""
    if isinstance(value, (list, tuple)) and not isinstance(default, (list, tuple)):
        return all(_same(item, default) for item in value)
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return len(value) == len(default) and all(map(_same, value, default))
    return bool(value == default) and isinstance(value, bool) is isinstance(default, bool)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
