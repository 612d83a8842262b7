"""One image through Optimum, in an interpreter that has it and not onnxsd: FOLDER LATENTS.npy IMAGE.npy."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: Path, latents: Path, image: Path) -> None:
    """Load the folder as Optimum's users do, make one image from the latents, save it as (H, W, 3) in 0…1."""
    import numpy as np
    import torch
    from optimum import onnxruntime

    kind = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
    pipeline = getattr(onnxruntime, f"ORT{kind}").from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    start = torch.from_numpy(np.load(latents))
    settings = json.loads(sys.stdin.read())
    images = pipeline(latents=start, output_type="np", **settings).images
    np.save(image, images[0].astype(np.float32))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
