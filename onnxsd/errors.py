"""What can go wrong, by class: each error says what was asked, what was found and what to do next."""

from __future__ import annotations


class OnnxsdError(Exception):
    """Base of every error that onnxsd raises on purpose; `exit_code` is what the command line exits with."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class NotReadyError(OnnxsdError):
    """Something that the task needs is not installed or not ready on this machine."""


class VerificationError(OnnxsdError):
    """A check of an export, a latent or an image failed."""


class UsageError(OnnxsdError):
    """The request contradicts itself or asks for something that does not exist."""

    exit_code = 2


class BadInputError(OnnxsdError):
    """A file or a model that cannot be used."""

    exit_code = 3


class ConfigurationError(BadInputError):
    """A config.json that is not JSON, or holds a value that would change the graph and is not supported."""


class WeightsError(BadInputError):
    """Weights that are truncated, missing, unexpected, or of a shape that does not fit."""


class ShapeError(BadInputError):
    """An operand whose shape does not fit the operation, found while a graph is being authored."""


class ProviderFallbackError(OnnxsdError):
    """The execution provider that was asked for is not the one that would run."""

    exit_code = 4


class DeviceMemoryError(OnnxsdError):
    """The device or the machine ran out of memory."""

    exit_code = 5


class ResourceError(OnnxsdError):
    """The disk, the network or a permission stood in the way."""

    exit_code = 6
