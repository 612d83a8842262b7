"""UNet2DConditionModel, authored once for every target: SD 1.x and 2.x, SDXL, inpainting, SSD-1B, LCM."""

from __future__ import annotations

from onnxsd.models.blocks import Norm, Transformer, residual_block, spatial_transformer, timestep_mlp
from onnxsd.models.conditioning import Computed, Conditioning, Projections, author_projections
from onnxsd.models.unet_config import Stage, UNetConfig
from onnxsd.ops import Ops, Scope, Tensor
from onnxsd.ops.terms import Activation
from onnxsd.tensors import Dim, DType


def author(ops: Ops, config: UNetConfig, *, batch: Dim, height: Dim, width: Dim, sequence: Dim) -> None:
    """Author one call of the denoiser.

    Inputs: `sample` (batch, in_channels, height, width), `timestep` () float32, `encoder_hidden_states`
    (batch, sequence, cross_attention_dim); with an added condition `text_embeds` (batch, width) and
    `time_ids` (batch, 5 or 6) float32; with LCM's guidance embedding `timestep_cond` (batch, width).
    Output: `out_sample` (batch, out_channels, height, width).
    Any height and width: an odd size halves to ⌈n/2⌉, and the way up is cut to the skip connection's size.
    """
    sample = ops.input("sample", (batch, config.in_channels, height, width), spatial=True)
    timestep = ops.as_row(ops.input("timestep", (), dtype=DType.FLOAT32))
    context = ops.input("encoder_hidden_states", (batch, sequence, config.cross_attention_dim))
    conditioning = Computed(ops=ops, time=_time(ops, config, timestep, batch), context=context)
    ops.output("out_sample", author_body(ops, config, sample, conditioning))


def author_body(ops: Ops, config: UNetConfig, sample: Tensor, conditioning: Conditioning) -> Tensor:
    """Everything that sees the latent: sample (B, in_channels, H, W) → (B, out_channels, H, W)."""
    root = Scope()
    body = _Body(ops, config, conditioning)
    x = ops.conv(sample, root / "conv_in", out=config.down[0].channels)
    x, skips = body.down(x, root / "down_blocks")
    x = body.mid(x, root / "mid_block")
    x = body.up(x, skips, root / "up_blocks")
    x = ops.group_norm(
        x, root / "conv_norm_out", groups=config.norm_num_groups, eps=config.norm_eps, silu=True
    )
    return ops.conv(x, root / "conv_out", out=config.out_channels)


def author_conditions(
    ops: Ops, config: UNetConfig, wanted: Projections, *, calls: int, batch: Dim, sequence: Dim
) -> None:
    """Author what `wanted` of a body is computed before a loop of `calls` calls.

    Inputs as those of `author`, except that everything beside the text has a row for each call and batch
    entry, the rows of a call together: `timestep` (calls·batch,), `text_embeds`, `time_ids` (calls·batch, …).
    Outputs by the names of the projections.
    """
    rows = batch * calls
    timesteps = ops.input("timestep", (rows,), dtype=DType.FLOAT32)
    context = ops.input("encoder_hidden_states", (batch, sequence, config.cross_attention_dim))
    time = _time(ops, config, timesteps, rows)
    author_projections(ops, wanted, time=time, context=context, calls=calls, batch=batch)


def _time(ops: Ops, config: UNetConfig, timesteps: Tensor, rows: Dim) -> Tensor:
    """What every residual block takes of timesteps (1,) or (rows,) and added condition, after SiLU.

    (rows, time_embed_dim).
    """
    root, flip, shift = Scope(), config.flip_sin_to_cos, config.freq_shift
    first = config.down[0].channels
    waves = ops.sinusoid(timesteps, width=first, flip_sin_to_cos=flip, freq_shift=shift)
    if waves.shape[0] != rows:
        waves = ops.repeat_rows(waves, rows)
    condition = None
    if config.time_cond_proj_dim is not None:
        condition = ops.input("timestep_cond", (rows, config.time_cond_proj_dim))
    time = timestep_mlp(ops, waves, root / "time_embedding", out=config.time_embed_dim, condition=condition)
    added = config.added
    if added is not None:
        text = ops.input("text_embeds", (rows, added.text_width))
        ids = ops.input("time_ids", (rows, added.time_ids), dtype=DType.FLOAT32)
        id_waves = ops.sinusoid(ids, width=added.time_width, flip_sin_to_cos=flip, freq_shift=shift)
        both = ops.concat_features(text, ops.flatten_rows(id_waves))
        time = ops.add(time, timestep_mlp(ops, both, root / "add_embedding", out=config.time_embed_dim))
    return ops.activation(time, Activation.SILU)


class _Body:
    """The way down, the middle and the way up."""

    def __init__(self, ops: Ops, config: UNetConfig, conditioning: Conditioning) -> None:
        self._ops = ops
        self._config = config
        self._conditioning = conditioning
        self._norm = Norm(groups=config.norm_num_groups, eps=config.norm_eps)

    def down(self, x: Tensor, at: Scope) -> tuple[Tensor, list[Tensor]]:
        """The features at the lowest resolution, and every skip connection on the way there."""
        skips = [x]
        for index, stage in enumerate(self._config.down):
            block = at / index
            for layer, depth in enumerate(stage.depths):
                x = self._layer(x, block, layer, stage, depth)
                skips.append(x)
            if index < len(self._config.down) - 1:
                x = self._ops.conv(x, block / "downsamplers" / 0 / "conv", out=stage.channels, stride=2)
                skips.append(x)
        return x, skips

    def mid(self, x: Tensor, at: Scope) -> Tensor:
        stage = self._config.mid
        if stage is None:
            return x
        x = self._residual(x, at / "resnets" / 0, stage)
        for layer, depth in enumerate(stage.depths):
            if depth is not None:
                x = self._transformer(x, at / "attentions" / layer, stage, depth)
            x = self._residual(x, at / "resnets" / (layer + 1), stage)
        return x

    def up(self, x: Tensor, skips: list[Tensor], at: Scope) -> Tensor:
        for index, stage in enumerate(self._config.up):
            block = at / index
            for layer, depth in enumerate(stage.depths):
                x = self._ops.concat_channels(x, skips.pop())
                x = self._layer(x, block, layer, stage, depth)
            if index < len(self._config.up) - 1:
                x = self._ops.upsample(x, like=skips[-1])
                x = self._ops.conv(x, block / "upsamplers" / 0 / "conv", out=stage.channels)
        return x

    def _layer(self, x: Tensor, block: Scope, layer: int, stage: Stage, depth: int | None) -> Tensor:
        x = self._residual(x, block / "resnets" / layer, stage)
        return self._transformer(x, block / "attentions" / layer, stage, depth) if depth is not None else x

    def _residual(self, x: Tensor, at: Scope, stage: Stage) -> Tensor:
        row = self._conditioning.time_row(at / "time_emb_proj", stage.channels)
        return residual_block(self._ops, x, at, out=stage.channels, norm=self._norm, row=row)

    def _transformer(self, x: Tensor, at: Scope, stage: Stage, depth: int) -> Tensor:
        kind = Transformer(
            heads=stage.heads,
            depth=depth,
            groups=self._norm.groups,
            linear_projection=self._config.use_linear_projection,
            upcast=self._config.upcast_attention,
        )
        return spatial_transformer(self._ops, x, self._conditioning.from_text, at, kind=kind)
