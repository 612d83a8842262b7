"""AutoencoderKL's encoder and decoder, authored once for every target, safe in fp16.

SDXL's stock VAE overflows in fp16 (`force_upcast`). Group norm does not see a scale, so everything between
two norms can be kept times s without changing a result: the first convolution, both convolutions of a
residual block, the attention's output, and the biases of shortcuts and samplers are multiplied by s, each
norm's epsilon by s². With s a power of two the multiplication itself is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxsd.models.blocks import Norm, residual_block
from onnxsd.models.config import Configuration
from onnxsd.ops import Ops, Scope, Tensor
from onnxsd.ops.terms import SAME
from onnxsd.tensors import Dim

# Every argument of diffusers 0.42's AutoencoderKL with its default.
DEFAULTS: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",),
    "up_block_types": ("UpDecoderBlock2D",),
    "block_out_channels": (64,),
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 32,
    "scaling_factor": 0.18215,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "force_upcast": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
DEFAULT_ONLY = ("act_fn", "shift_factor", "latents_mean", "latents_std")
# diffusers builds every norm of this autoencoder with this epsilon.
NORM_EPS = 1e-6
NONE = (0, 0, 0, 0)
# diffusers pads the encoder's strided convolutions by one at the right and at the bottom only.
RIGHT_AND_BOTTOM = (0, 0, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeConfig:
    """The sizes of one AutoencoderKL."""

    in_channels: int
    out_channels: int
    latent_channels: int
    channels: tuple[int, ...]
    layers_per_block: int
    norm_num_groups: int
    scaling_factor: float
    force_upcast: bool
    use_quant_conv: bool
    use_post_quant_conv: bool
    mid_block_add_attention: bool

    @property
    def factor(self) -> int:
        """Pixels of one latent, along each side."""
        return int(2 ** (len(self.channels) - 1))


def parse(content: Mapping[str, Any]) -> VaeConfig:
    """The configuration in a config.json's content.

    Raises:
        ConfigurationError: a value would change the graph and is not supported; it is named.
    """
    config = Configuration(content, DEFAULTS, of="AutoencoderKL")
    config.require_class("AutoencoderKL")
    config.refuse_other_than_defaults(DEFAULT_ONLY)
    channels = config.integers("block_out_channels")
    config.kinds("down_block_types", {"DownEncoderBlock2D": True}, count=len(channels))
    config.kinds("up_block_types", {"UpDecoderBlock2D": True}, count=len(channels))
    return VaeConfig(
        in_channels=config.integer("in_channels"),
        out_channels=config.integer("out_channels"),
        latent_channels=config.integer("latent_channels"),
        channels=channels,
        layers_per_block=config.integer("layers_per_block"),
        norm_num_groups=config.integer("norm_num_groups"),
        scaling_factor=config.number("scaling_factor"),
        force_upcast=bool(config["force_upcast"]),
        use_quant_conv=bool(config["use_quant_conv"]),
        use_post_quant_conv=bool(config["use_post_quant_conv"]),
        mid_block_add_attention=bool(config["mid_block_add_attention"]),
    )


def author_decoder(
    ops: Ops, config: VaeConfig, *, batch: Dim, height: Dim, width: Dim, scale: float = 1.0
) -> None:
    """Author the decoder: `latent_sample` (batch, latent_channels, height, width) → `sample` in pixels.

    `scale` is what the residual stream is kept times (see the module).
    """
    latents = ops.input("latent_sample", (batch, config.latent_channels, height, width), spatial=True)
    ops.output("sample", decode(ops, config, latents, scale=scale))


def decode(ops: Ops, config: VaeConfig, x: Tensor, *, scale: float = 1.0) -> Tensor:
    """The decoder's body: latents (B, latent_channels, H, W) → pixels (B, out_channels, f·H, f·W)."""
    part = _Part(ops, config, scale)
    if config.use_post_quant_conv:
        x = ops.conv(x, Scope("post_quant_conv"), out=config.latent_channels, kernel=1, padding=NONE)
    at = Scope("decoder")
    x = part.first_conv(x, at / "conv_in", out=config.channels[-1])
    x = part.mid(x, at / "mid_block")
    for index, channels in enumerate(reversed(config.channels)):
        block = at / "up_blocks" / index
        for layer in range(config.layers_per_block + 1):
            x = part.residual(x, block / "resnets" / layer, out=channels)
        if index < len(config.channels) - 1:
            x = ops.conv(ops.upsample(x), block / "upsamplers" / 0 / "conv", out=channels, bias_scale=scale)
    return part.last_conv(x, at, out=config.out_channels)


def author_encoder(
    ops: Ops, config: VaeConfig, *, batch: Dim, height: Dim, width: Dim, scale: float = 1.0
) -> None:
    """Author the encoder: `sample` (batch, in_channels, height, width) in pixels → `latent_parameters`.

    The output holds mean and log-variance: (batch, 2·latent_channels, ⌊height/factor⌋, ⌊width/factor⌋).
    """
    part = _Part(ops, config, scale)
    x = ops.input("sample", (batch, config.in_channels, height, width), spatial=True)
    at = Scope("encoder")
    x = part.first_conv(x, at / "conv_in", out=config.channels[0])
    for index, channels in enumerate(config.channels):
        block = at / "down_blocks" / index
        for layer in range(config.layers_per_block):
            x = part.residual(x, block / "resnets" / layer, out=channels)
        if index < len(config.channels) - 1:
            x = ops.conv(
                x, block / "downsamplers" / 0 / "conv", out=channels, stride=2, padding=RIGHT_AND_BOTTOM,
                bias_scale=scale,
            )  # fmt: skip
    x = part.mid(x, at / "mid_block")
    moments = 2 * config.latent_channels
    x = part.last_conv(x, at, out=moments)
    if config.use_quant_conv:
        x = ops.conv(x, Scope("quant_conv"), out=moments, kernel=1, padding=NONE)
    ops.output("latent_parameters", x)


class _Part:
    """What encoder and decoder have in common, at one scale of the residual stream."""

    def __init__(self, ops: Ops, config: VaeConfig, scale: float) -> None:
        self._ops = ops
        self._config = config
        self._scale = scale
        self._norm = Norm(groups=config.norm_num_groups, eps=NORM_EPS)

    def first_conv(self, x: Tensor, at: Scope, *, out: int) -> Tensor:
        return self._ops.conv(x, at, out=out, padding=SAME, weight_scale=self._scale, bias_scale=self._scale)

    def residual(self, x: Tensor, at: Scope, *, out: int) -> Tensor:
        return residual_block(
            self._ops, x, at, out=out, norm=self._norm, scale=self._scale, entry_scale=self._scale
        )

    def mid(self, x: Tensor, at: Scope) -> Tensor:
        channels = x.shape[1]
        assert isinstance(channels, int)
        x = self.residual(x, at / "resnets" / 0, out=channels)
        if self._config.mid_block_add_attention:
            x = self._attention(x, at / "attentions" / 0, channels)
        return self.residual(x, at / "resnets" / 1, out=channels)

    def last_conv(self, x: Tensor, at: Scope, *, out: int) -> Tensor:
        """Norm, SiLU and the last convolution, where the scale ends."""
        h = self._group_norm(x, at / "conv_norm_out", silu=True)
        return self._ops.conv(h, at / "conv_out", out=out)

    def _attention(self, x: Tensor, at: Scope, channels: int) -> Tensor:
        """One head over all pixels, around a residual."""
        ops = self._ops
        h = ops.tokens(self._group_norm(x, at / "group_norm"))
        query, key, value = (ops.linear(h, at / name, out=channels) for name in ("to_q", "to_k", "to_v"))
        mixed = ops.attention(query, key, value, at, heads=1)
        h = ops.linear(
            mixed, at / "to_out" / 0, out=channels, weight_scale=self._scale, bias_scale=self._scale
        )
        return ops.add(ops.feature_map(h, like=x), x)

    def _group_norm(self, x: Tensor, at: Scope, *, silu: bool = False) -> Tensor:
        eps = self._norm.eps * self._scale**2
        return self._ops.group_norm(x, at, groups=self._norm.groups, eps=eps, silu=silu)
