"""Stable Diffusion on ONNX Runtime: the right wheel, a verified export, an image at the hardware's speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxsd.engine.pipeline import Pipeline

__all__ = ["Pipeline", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `Pipeline` only when it is asked for: `import onnxsd` loads neither numpy nor a runtime."""
    if name == "Pipeline":
        from onnxsd.engine.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module 'onnxsd' has no attribute {name!r}")
