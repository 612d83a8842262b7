"""The `onnxsd` command: it parses, calls one library function, renders and exits."""

from __future__ import annotations

from onnxsd.cli.main import main

__all__ = ["main"]
