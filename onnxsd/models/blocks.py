"""The blocks that UNet and VAE share or are made of, in diffusers' terms and with its weight names."""

from __future__ import annotations

from dataclasses import dataclass

from onnxsd.models.conditioning import Project
from onnxsd.ops import Ops, Scope, Tensor
from onnxsd.ops.terms import Activation

# The transformer's norms: GroupNorm at its entry, LayerNorm inside (diffusers' Transformer2DModel).
TRANSFORMER_NORM_EPS = 1e-6
LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """The group norm of a model: how many groups, and its epsilon."""

    groups: int
    eps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """What the transformers of one stage have in common."""

    heads: int
    depth: int
    groups: int
    linear_projection: bool
    upcast: bool


def residual_block(
    ops: Ops,
    x: Tensor,
    at: Scope,
    *,
    out: int,
    norm: Norm,
    row: Tensor | None = None,
    scale: float = 1.0,
    entry_scale: float = 1.0,
) -> Tensor:
    """GroupNorm–SiLU–convolution twice, around a shortcut (ResnetBlock2D).

    x: (B, C, H, W) → (B, out, H, W); row: the time's part, (B, out). `scale` is the VAE's: every tensor that
    a group norm follows is kept times `scale`, and the norms' epsilon times its square: no result changes.
    `entry_scale` is the scale that `x` comes in with.
    """
    h = ops.group_norm(x, at / "norm1", groups=norm.groups, eps=norm.eps * entry_scale**2, silu=True)
    h = ops.conv(h, at / "conv1", out=out, weight_scale=scale, bias_scale=scale)
    if row is not None:
        h = ops.add_channels(h, row)
    h = ops.group_norm(h, at / "norm2", groups=norm.groups, eps=norm.eps * scale**2, silu=True)
    h = ops.conv(h, at / "conv2", out=out, weight_scale=scale, bias_scale=scale)
    shortcut = x
    if x.shape[1] != out:
        shortcut = ops.conv(
            x, at / "conv_shortcut", out=out, kernel=1, padding=(0, 0, 0, 0), bias_scale=scale
        )
    return ops.add(h, shortcut)


def spatial_transformer(ops: Ops, x: Tensor, from_text: Project, at: Scope, *, kind: Transformer) -> Tensor:
    """Transformer blocks over the pixels of a feature map (Transformer2DModel).

    x: (B, C, H, W); `from_text` gives the keys and values of cross-attention, (B, S, C).
    """
    channels = _channels(x)
    h = ops.group_norm(x, at / "norm", groups=kind.groups, eps=TRANSFORMER_NORM_EPS)
    if kind.linear_projection:
        h = ops.linear(ops.tokens(h), at / "proj_in", out=channels)
    else:
        h = ops.tokens(ops.conv(h, at / "proj_in", out=channels, kernel=1, padding=(0, 0, 0, 0)))
    for index in range(kind.depth):
        h = _transformer_block(ops, h, from_text, at / "transformer_blocks" / index, kind)
    if kind.linear_projection:
        h = ops.feature_map(ops.linear(h, at / "proj_out", out=channels), like=x)
    else:
        h = ops.conv(
            ops.feature_map(h, like=x), at / "proj_out", out=channels, kernel=1, padding=(0, 0, 0, 0)
        )
    return ops.add(h, x)


def _transformer_block(ops: Ops, x: Tensor, from_text: Project, at: Scope, kind: Transformer) -> Tensor:
    """Self-attention, cross-attention and GEGLU, each after a layer norm (BasicTransformerBlock)."""
    width = _width(x)
    itself = ops.layer_norm(x, at / "norm1", eps=LAYER_NORM_EPS)

    def from_itself(place: Scope, out: int) -> Tensor:
        return ops.linear(itself, place, out=out, bias=False)

    x = ops.add(_attention(ops, itself, from_itself, at / "attn1", kind), x)
    h = ops.layer_norm(x, at / "norm2", eps=LAYER_NORM_EPS)
    x = ops.add(_attention(ops, h, from_text, at / "attn2", kind), x)
    h = ops.layer_norm(x, at / "norm3", eps=LAYER_NORM_EPS)
    h = ops.geglu(h, at / "ff" / "net" / 0 / "proj", out=4 * width)
    return ops.add(ops.linear(h, at / "ff" / "net" / 2, out=width), x)


def _attention(ops: Ops, x: Tensor, source: Project, at: Scope, kind: Transformer) -> Tensor:
    width = _width(x)
    query = ops.linear(x, at / "to_q", out=width, bias=False)
    key, value = source(at / "to_k", width), source(at / "to_v", width)
    mixed = ops.attention(query, key, value, at, heads=kind.heads, upcast=kind.upcast)
    return ops.linear(mixed, at / "to_out" / 0, out=width)


def timestep_mlp(ops: Ops, x: Tensor, at: Scope, *, out: int, condition: Tensor | None = None) -> Tensor:
    """Linear–SiLU–linear (TimestepEmbedding); `condition` (B, C_cond) is projected onto `x` first."""
    if condition is not None:
        x = ops.add(ops.linear(condition, at / "cond_proj", out=_width(x), bias=False), x)
    h = ops.activation(ops.linear(x, at / "linear_1", out=out), Activation.SILU)
    return ops.linear(h, at / "linear_2", out=out)


def _channels(x: Tensor) -> int:
    channels = x.shape[1]
    assert isinstance(channels, int)
    return channels


def _width(x: Tensor) -> int:
    width = x.shape[-1]
    assert isinstance(width, int)
    return width
