"""Low-rank changes to a denoiser's attention, and the two formats in which people share them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch.nn.utils import parametrize

RANK = 4
ADAPTED = re.compile(r"\.attn[12]\.(to_q|to_k|to_v|to_out\.0)$")


class LowRank(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Adds `up @ down` to a layer's weight; nothing at first, as `up` starts at zero (Hu et al. 2021)."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.down = torch.nn.Parameter(torch.randn(RANK, linear.in_features) / linear.in_features**0.5)
        self.up = torch.nn.Parameter(torch.zeros(linear.out_features, RANK))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The changed weight."""
        return weight + (self.up @ self.down).to(weight.dtype)


def adapt(unet: UNet2DConditionModel) -> dict[str, LowRank]:
    """Let the attention's projections learn a low-rank change, and nothing else learn."""
    unet.requires_grad_(False)
    added = {}
    for name, layer in list(unet.named_modules()):
        if ADAPTED.search(name):
            added[name] = LowRank(layer)
            parametrize.register_parametrization(layer, "weight", added[name])
    return added


def write(
    added: Mapping[str, LowRank], unet: UNet2DConditionModel, folder: Path, stem: str
) -> tuple[Path, ...]:
    """The change as diffusers writes it, and as kohya's trainer does, fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / f"{stem}.safetensors", folder / f"{stem}-kohya.safetensors")
    save_file(dict(_diffusers(added)), paths[0], metadata={"format": "pt"})
    save_file(dict(_kohya(added, unet)), paths[1], metadata={"ss_network_dim": str(RANK)})
    return paths


def _half(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().half().cpu().contiguous()


def _diffusers(added: Mapping[str, LowRank]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, one in added.items():
        yield f"unet.{name}.lora_A.weight", _half(one.down)
        yield f"unet.{name}.lora_B.weight", _half(one.up)


def _kohya(added: Mapping[str, LowRank], unet: UNet2DConditionModel) -> Iterator[tuple[str, torch.Tensor]]:
    """kohya's sd-scripts name SDXL's layers by the block numbers of Stability's own code, joined by `_`."""
    for name, one in added.items():
        key = "lora_unet_" + _sgm_name(name, unet.config.layers_per_block).replace(".", "_")
        yield f"{key}.lora_down.weight", _half(one.down)
        yield f"{key}.lora_up.weight", _half(one.up)
        yield f"{key}.alpha", torch.tensor(float(RANK), dtype=torch.float16)


def _sgm_name(name: str, layers: int) -> str:
    """`down_blocks.1.attentions.0.…` as `input_blocks.3.1.…`: a number for each layer and resampling."""
    found = re.match(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.(.*)", name)
    if found is None:
        return name.replace("mid_block.attentions.0", "middle_block.1")
    side, block, layer, rest = found[1], int(found[2]), int(found[3]), found[4]
    if side == "down":  # 0 is conv_in; each block has its layers and, but the last, a downsampler
        return f"input_blocks.{1 + block * (layers + 1) + layer}.1.{rest}"
    return f"output_blocks.{block * (layers + 1) + layer}.1.{rest}"
