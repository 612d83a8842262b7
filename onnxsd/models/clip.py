"""CLIPTextModel and CLIPTextModelWithProjection, authored once for every target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxsd.errors import ConfigurationError
from onnxsd.models.config import Configuration
from onnxsd.ops import Ops, Scope, Tensor
from onnxsd.ops.terms import Activation
from onnxsd.tensors import Dim, DType

# What transformers 5.23's CLIPTextConfig defaults to, of what the graph depends on. Everything else that
# save_pretrained writes (dropout, initializers, generation settings, dtype) is without effect on it.
DEFAULTS: Mapping[str, Any] = {
    "architectures": ("CLIPTextModel",),
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
ARCHITECTURES = {"CLIPTextModel": False, "CLIPTextModelWithProjection": True}
# Before transformers 4.31, configurations said 2 whatever the tokenizer had: the largest id is meant.
LEGACY_EOS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTextConfig:
    """The sizes of one CLIP text encoder."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    # Width of the projected pooled embedding; None for CLIPTextModel, which does not project.
    projection_dim: int | None
    layers: int
    heads: int
    max_positions: int
    activation: Activation
    layer_norm_eps: float
    # The end-of-text id; None where it is the largest id of the prompt.
    eos_token_id: int | None


def parse(content: Mapping[str, Any]) -> ClipTextConfig:
    """The configuration in a config.json's content.

    Raises:
        ConfigurationError: a value would change the graph and is not supported; it is named.
    """
    config = Configuration(content, DEFAULTS, of="CLIPTextModel")
    config.choice("model_type", ("clip_text_model",))
    eos = config["eos_token_id"]
    if not isinstance(eos, int):
        raise config.unsupported("eos_token_id", "one id is needed")
    parsed = ClipTextConfig(
        vocab_size=config.integer("vocab_size"),
        hidden_size=config.integer("hidden_size"),
        intermediate_size=config.integer("intermediate_size"),
        projection_dim=config.integer("projection_dim") if _projects(config) else None,
        layers=config.integer("num_hidden_layers"),
        heads=config.integer("num_attention_heads"),
        max_positions=config.integer("max_position_embeddings"),
        activation=Activation(config.choice("hidden_act", ("quick_gelu", "gelu"))),
        layer_norm_eps=config.number("layer_norm_eps"),
        eos_token_id=None if eos == LEGACY_EOS else eos,
    )
    if parsed.hidden_size % parsed.heads:
        raise config.unsupported("num_attention_heads", f"it must divide hidden_size {parsed.hidden_size}")
    return parsed


def _projects(config: Configuration) -> bool:
    architectures = config["architectures"]
    if not isinstance(architectures, (list, tuple)) or len(architectures) != 1:
        raise config.unsupported("architectures", "one class name is needed")
    if not isinstance(architectures[0], str) or architectures[0] not in ARCHITECTURES:
        raise config.unsupported("architectures", f"known are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architectures[0]]


def author(ops: Ops, config: ClipTextConfig, *, batch: Dim, sequence: Dim) -> None:
    """Author one encoding.

    Input: `input_ids` (batch, sequence) int64. Outputs, width being hidden_size: `last_hidden_state`
    (batch, sequence, width), after the final norm; the pooled output at the end-of-text token, which is
    `text_embeds` (batch, projection_dim) with a projection and `pooler_output` (batch, width) without; and
    `hidden_states.i` (batch, sequence, width) for each layer's input, so that the last of them is
    transformers' `hidden_states[-2]`. Their order is transformers', which other tools index by place: the
    projected embedding comes first, the pooled hidden state second.
    """
    if isinstance(sequence, int) and sequence > config.max_positions:
        raise ConfigurationError(
            f"a sequence of {sequence} tokens; the text encoder takes {config.max_positions}"
        )
    ids = ops.input("input_ids", (batch, sequence), dtype=DType.INT64)
    root = Scope("text_model")
    x = _embeddings(ops, config, ids, root / "embeddings")
    entered = []
    for index in range(config.layers):
        entered.append(x)
        x = _layer(ops, config, x, root / "encoder" / "layers" / index)
    last = ops.layer_norm(x, root / "final_layer_norm", eps=config.layer_norm_eps)
    pooled = _pooled(ops, config, ids, last)
    named = {"last_hidden_state": last, "pooler_output": pooled}
    if config.projection_dim is not None:
        embedding = ops.linear(pooled, Scope("text_projection"), out=config.projection_dim, bias=False)
        named = {"text_embeds": embedding, "last_hidden_state": last}
    for name, value in named.items():
        ops.output(name, value)
    for index, value in enumerate(entered):
        ops.output(f"hidden_states.{index}", value)


def _embeddings(ops: Ops, config: ClipTextConfig, ids: Tensor, at: Scope) -> Tensor:
    tokens = ops.embedding(ids, at / "token_embedding", rows=config.vocab_size, width=config.hidden_size)
    positions = ops.positions(
        ids.shape[1], at / "position_embedding", rows=config.max_positions, width=config.hidden_size
    )
    return ops.add_positions(tokens, positions)


def _layer(ops: Ops, config: ClipTextConfig, x: Tensor, at: Scope) -> Tensor:
    """Causal self-attention and a two-layer perceptron, each after a layer norm (CLIPEncoderLayer)."""
    width, eps = config.hidden_size, config.layer_norm_eps
    h = ops.layer_norm(x, at / "layer_norm1", eps=eps)
    attn = at / "self_attn"
    query, key, value = (ops.linear(h, attn / name, out=width) for name in ("q_proj", "k_proj", "v_proj"))
    h = ops.attention(query, key, value, attn, heads=config.heads, causal_up_to=config.max_positions)
    x = ops.add(ops.linear(h, attn / "out_proj", out=width), x)
    h = ops.layer_norm(x, at / "layer_norm2", eps=eps)
    h = ops.linear(h, at / "mlp" / "fc1", out=config.intermediate_size)
    h = ops.linear(ops.activation(h, config.activation), at / "mlp" / "fc2", out=width)
    return ops.add(h, x)


def _pooled(ops: Ops, config: ClipTextConfig, ids: Tensor, last: Tensor) -> Tensor:
    """The hidden state at the end-of-text token, (batch, width)."""
    eos = config.eos_token_id
    position = ops.first_largest(ids) if eos is None else ops.first_equal(ids, eos)
    return ops.at_position(last, position)
