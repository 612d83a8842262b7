"""Exports a checkpoint as `onnxsd export` does, in a process whose peak memory is the export's own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from onnxsd.bench.contenders.contender import Answer


def load(**_: Any) -> tuple[Export, Answer]:
    """What exports; it loads nothing yet."""
    return Export(), {}


class Export:
    """One export, with the checks that it has by default."""

    def export(self, *, model: str, out: str, target: str, precision: str, provider: str) -> Answer:
        """`seconds` and the folder; it is not remembered as the user's last export."""
        from onnxsd.export.export import Silent, export
        from onnxsd.export.source import resolve
        from onnxsd.ops import Target
        from onnxsd.session import resolve as provider_of
        from onnxsd.tensors import DType

        started = time.perf_counter()
        dtype = {"fp16": DType.FLOAT16, "fp32": DType.FLOAT32}[precision]
        folder = export(
            resolve(model, precision=dtype, offline=True),
            Path(out),
            target=Target(target),
            precision=dtype,
            choice=provider_of(provider),
            report=Silent(),
        )
        return {"seconds": time.perf_counter() - started, "folder": str(folder.path)}

    def forget(self) -> None:
        """Nothing stays after a failure."""
