"""Installed packages by their metadata: which matter here, and which own the import name `onnxruntime`."""

from __future__ import annotations

import re
from importlib import metadata

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from onnxsd.machine.facts import Distribution, Unreadable

# Runtimes and what they load; what onnxsd[run] needs; the reference and what pins it.
_OF_INTEREST = re.compile(
    r"onnx.*|ort-.*|nvidia-.*|tensorrt.*|cuda-.*|torch|torchvision|triton|numpy|protobuf|ml-dtypes|safetensors|"
    r"tokenizers|pillow|platformdirs|huggingface-hub|diffusers|transformers|accelerate|optimum.*|peft|xformers"
)
_RUNTIME = re.compile(r"onnxruntime.*|ort-.*")


def distributions(unreadable: list[Unreadable]) -> tuple[Distribution, ...]:
    """The packages that matter here, by name; one with broken metadata goes to `unreadable` instead."""
    found: dict[str, Distribution] = {}
    for package in metadata.distributions():
        try:
            one = _read(package)
        except Exception as error:  # noqa: BLE001  (one broken package of many; it is recorded)
            unreadable.append(Unreadable(fact="distribution", reason=f"{package}: {error!r}"))
            continue
        if one is not None:
            found.setdefault(one.name, one)  # the first on the path is the one that is imported
    return tuple(sorted(found.values(), key=lambda one: one.name))


def _read(package: metadata.Distribution) -> Distribution | None:
    name = canonicalize_name(package.metadata["Name"] or "")
    if not _OF_INTEREST.fullmatch(name):
        return None
    try:
        version = Version(package.version)
    except InvalidVersion as error:
        raise ValueError(f"{name} says that its version is {package.version!r}") from error
    return Distribution(
        name=name, version=version, provides=_provides(package) if _RUNTIME.fullmatch(name) else ()
    )


def _provides(package: metadata.Distribution) -> tuple[str, ...]:
    """Top-level packages that a runtime's wheel installs; only runtimes contend for one name."""
    files = package.files or []
    names = {file.parts[0] for file in files if len(file.parts) == 2 and file.name == "__init__.py"}
    declared = (package.read_text("top_level.txt") or "").split()
    return tuple(sorted(names | set(declared)))
