"""Children that prepare and compare: how each is started, and what the bench asks of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsd.bench.child import Child, Command, Failed
from onnxsd.bench.gpu import ENVIRONMENT
from onnxsd.errors import (
    BadInputError,
    DeviceMemoryError,
    NotReadyError,
    OnnxsdError,
    ProviderFallbackError,
    ResourceError,
    UsageError,
)

_ERRORS = (UsageError, BadInputError, ProviderFallbackError, DeviceMemoryError, ResourceError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Helper:
    """A running helper."""

    child: Child
    timeout_s: float

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """What it answers to a command; `Failed` where it cannot."""
        return self.child.ask(command, timeout_s=self.timeout_s, **arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Helpers:
    """Starts helpers: their interpreters by name, this one where none was named, and where logs go."""

    provider: str
    device_id: int
    work: Path
    pythons: Mapping[str, str]
    timeout_s: float

    def python(self, name: str) -> str:
        """The interpreter of a contender or helper."""
        return self.pythons.get(name, sys.executable)

    @contextlib.contextmanager
    def start(self, module: str, **arguments: Any) -> Iterator[Helper]:
        """A helper that has loaded; it is ended with the block."""
        with self._child(module, self.python(module)) as child:
            helper = Helper(child=child, timeout_s=self.timeout_s)
            helper.ask("load", provider=self.provider, device_id=self.device_id, **arguments)
            yield helper

    def require(self, name: str, modules: tuple[str, ...]) -> None:
        """Refuse, with `Failed`, a contender whose interpreter cannot import these modules."""
        with self._child(f"{name}-import", self.python(name)) as child:
            child.ask("import", timeout_s=self.timeout_s, names=list(modules))

    @contextlib.contextmanager
    def _child(self, module: str, python: str) -> Iterator[Child]:
        log = self.work / f"{module}.log"
        child = Child(Command(module=module, log=log, python=python, environment=ENVIRONMENT))
        try:
            yield child
        except BaseException:
            child.kill()
            raise
        child.end()


def resolve_provider(requested: str, device_id: int, work: Path, timeout_s: float) -> tuple[str, str]:
    """The provider that is meant by `cuda`, `cpu` or `auto`, and why; proved in a child.

    Raises:
        OnnxsdError: as the engine refuses it.
    """
    helpers = Helpers(provider=requested, device_id=device_id, work=work, pythons={}, timeout_s=timeout_s)
    try:
        with helpers._child("provider", sys.executable) as child:
            answer = child.ask("load", timeout_s=timeout_s, provider=requested, device_id=device_id)
    except Failed as failed:
        raise error_of(failed) from failed
    return answer["provider"], answer["reason"]


def error_of(failed: Failed) -> OnnxsdError:
    """The error that a child's failure is for the one who asked for it."""
    kind = next((kind for kind in _ERRORS if kind.exit_code == failed.exit_code), NotReadyError)
    return kind(failed.text.partition(": ")[2] or failed.text)
