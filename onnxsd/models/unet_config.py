"""What a UNet2DConditionModel's config.json says, as the sizes that its graph is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxsd.models.config import Configuration

# Every argument of diffusers 0.42's UNet2DConditionModel with its default.
DEFAULTS: Mapping[str, Any] = {
    "sample_size": None,
    "in_channels": 4,
    "out_channels": 4,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "down_block_types": (
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "DownBlock2D",
    ),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "only_cross_attention": False,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "dropout": 0.0,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "cross_attention_dim": 1280,
    "transformer_layers_per_block": 1,
    "reverse_transformer_layers_per_block": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "attention_head_dim": 8,
    "num_attention_heads": None,
    "dual_cross_attention": False,
    "use_linear_projection": False,
    "class_embed_type": None,
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
    "num_class_embeds": None,
    "upcast_attention": False,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "projection_class_embeddings_input_dim": None,
    "attention_type": "default",
    "class_embeddings_concat": False,
    "mid_block_only_cross_attention": None,
    "cross_attention_norm": None,
    "addition_embed_type_num_heads": 64,
}

# Values other than the default would change the graph in a way that is not authored here.
DEFAULT_ONLY = (
    "center_input_sample",
    "only_cross_attention",
    "downsample_padding",
    "mid_block_scale_factor",
    "act_fn",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "num_attention_heads",
    "dual_cross_attention",
    "class_embed_type",
    "num_class_embeds",
    "resnet_time_scale_shift",
    "resnet_skip_time_act",
    "resnet_out_scale_factor",
    "time_embedding_type",
    "time_embedding_act_fn",
    "timestep_post_act",
    "conv_in_kernel",
    "conv_out_kernel",
    "attention_type",
    "class_embeddings_concat",
    "cross_attention_norm",
)

DOWN_BLOCKS = {"DownBlock2D": False, "CrossAttnDownBlock2D": True}
UP_BLOCKS = {"UpBlock2D": False, "CrossAttnUpBlock2D": True}
MID_BLOCKS = {"UNetMidBlock2DCrossAttn": True, "UNetMidBlock2D": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One resolution of the UNet: a residual block a layer, each followed by a transformer of some depth."""

    channels: int
    heads: int
    # Transformer blocks after each residual block; None where no transformer follows. One of depth 0 still
    # has a norm and its projections.
    depths: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedCondition:
    """SDXL's `text_time` condition: some time ids, each as a sinusoid, beside a pooled text embedding."""

    time_ids: int
    time_width: int
    text_width: int

    @property
    def width(self) -> int:
        """Width of the whole condition."""
        return self.text_width + self.time_ids * self.time_width


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """The sizes of one UNet2DConditionModel."""

    in_channels: int
    out_channels: int
    down: tuple[Stage, ...]
    # None where the model has no middle block.
    mid: Stage | None
    up: tuple[Stage, ...]
    norm_num_groups: int
    norm_eps: float
    cross_attention_dim: int
    use_linear_projection: bool
    upcast_attention: bool
    flip_sin_to_cos: bool
    freq_shift: float
    time_embed_dim: int
    # The width of `timestep_cond` (LCM's guidance embedding), if the model has it.
    time_cond_proj_dim: int | None
    # SDXL's added condition, if the model has it.
    added: AddedCondition | None
    sample_size: int | None


def parse(content: Mapping[str, Any], *, time_ids: int = 6) -> UNetConfig:
    """The configuration in a config.json's content.

    Args:
        content: the JSON object, as diffusers' `save_pretrained` writes it.
        time_ids: how many time ids a request has, which only the pipeline knows: 6, or 5 where
            `requires_aesthetics_score` puts a score in the place of the target size.

    Raises:
        ConfigurationError: a value would change the graph and is not supported; it is named.
    """
    config = Configuration(content, DEFAULTS, of="UNet2DConditionModel")
    config.require_class("UNet2DConditionModel")
    config.refuse_other_than_defaults(DEFAULT_ONLY)
    channels = config.integers("block_out_channels")
    down = _stages(config, channels)
    return UNetConfig(
        in_channels=config.integer("in_channels"),
        out_channels=config.integer("out_channels"),
        down=down,
        mid=_mid(config, down[-1]),
        up=_up(config, down),
        norm_num_groups=config.integer("norm_num_groups"),
        norm_eps=config.number("norm_eps"),
        cross_attention_dim=_cross_attention_dim(config),
        use_linear_projection=bool(config["use_linear_projection"]),
        upcast_attention=bool(config["upcast_attention"]),
        flip_sin_to_cos=bool(config["flip_sin_to_cos"]),
        freq_shift=config.number("freq_shift"),
        time_embed_dim=config.optional_integer("time_embedding_dim") or channels[0] * 4,
        time_cond_proj_dim=config.optional_integer("time_cond_proj_dim"),
        added=_added(config, time_ids),
        sample_size=_first(config["sample_size"]),
    )


def _stages(config: Configuration, channels: tuple[int, ...]) -> tuple[Stage, ...]:
    """The stages on the way down, from the highest resolution."""
    crossed = config.kinds("down_block_types", DOWN_BLOCKS, count=len(channels))
    layers = config.per_block("layers_per_block", len(channels))
    heads = config.per_block("attention_head_dim", len(channels))
    depths = config.per_block("transformer_layers_per_block", len(channels))
    for width, head_count in zip(channels, heads, strict=True):
        if not isinstance(head_count, int) or head_count < 1 or width % head_count:
            raise config.unsupported(
                "attention_head_dim", f"{width} channels do not divide into {head_count} heads"
            )
    return tuple(
        Stage(
            channels=width,
            heads=heads[i],
            depths=_depths(config, depths[i], layers[i]) if crossed[i] else (None,) * layers[i],
        )
        for i, width in enumerate(channels)
    )


def _mid(config: Configuration, last: Stage) -> Stage | None:
    kind = config["mid_block_type"]
    if kind is None:
        return None
    if kind not in MID_BLOCKS:
        raise config.unsupported("mid_block_type", f"known are {', '.join(MID_BLOCKS)}, null")
    if not MID_BLOCKS[kind]:
        # UNetMidBlock2D: diffusers builds it with no further layers and no attention.
        return Stage(channels=last.channels, heads=last.heads, depths=())
    count = len(config.integers("block_out_channels"))
    depth = config.per_block("transformer_layers_per_block", count)[-1]
    return Stage(channels=last.channels, heads=last.heads, depths=_depths(config, depth, 1))


def _up(config: Configuration, down: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages on the way up, from the lowest resolution; each has one layer more than on the way down."""
    crossed = config.kinds("up_block_types", UP_BLOCKS, count=len(down))
    key = "reverse_transformer_layers_per_block"
    if config[key] is not None:
        depths = config.per_block(key, len(down))
    else:
        depths = config.per_block("transformer_layers_per_block", len(down))[::-1]
    return tuple(
        Stage(
            channels=stage.channels,
            heads=stage.heads,
            depths=_depths(config, depths[i], len(stage.depths) + 1)
            if crossed[i]
            else (None,) * (len(stage.depths) + 1),
        )
        for i, stage in enumerate(reversed(down))
    )


def _depths(config: Configuration, depth: Any, layers: int) -> tuple[int, ...]:
    """Transformer depth after each layer: one number for all, or a list with one for each."""
    found = tuple(depth) if isinstance(depth, (list, tuple)) else (depth,) * layers
    if len(found) != layers or not all(isinstance(item, int) and item >= 0 for item in found):
        raise config.unsupported("transformer_layers_per_block", f"{layers} depths are needed, found {depth}")
    return found


def _cross_attention_dim(config: Configuration) -> int:
    widths = set(config.per_block("cross_attention_dim", len(config.integers("block_out_channels"))))
    if len(widths) != 1:
        raise config.unsupported("cross_attention_dim", "one width for all blocks is")
    return int(widths.pop())


def _added(config: Configuration, time_ids: int) -> AddedCondition | None:
    if config["addition_embed_type"] is None:
        return None
    config.choice("addition_embed_type", ("text_time",))
    width = config.integer("addition_time_embed_dim")
    total = config.integer("projection_class_embeddings_input_dim")
    if total <= time_ids * width:
        raise config.unsupported(
            "projection_class_embeddings_input_dim",
            f"{time_ids} time ids of {width} leave no room for the text",
        )
    return AddedCondition(time_ids=time_ids, time_width=width, text_width=total - time_ids * width)


def _first(value: Any) -> int | None:
    first = next(iter(value), None) if isinstance(value, (list, tuple)) else value
    return first if isinstance(first, int) else None
