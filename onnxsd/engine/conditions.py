"""What a prompt becomes for the denoiser: hidden states, a pooled embedding, time ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsd.engine.engine import Engine, require_finite
from onnxsd.models import clip
from onnxsd.prompt.tokenizer import Tokenizer, Tokens

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the denoiser is told besides the latent and the timestep, float32, one row an image.

    hidden_states: (B, tokens, width); pooled: (B, width) and time_ids: (B, 5 or 6) for SDXL, else None.
    """

    hidden_states: Array
    pooled: Array | None = None
    time_ids: Array | None = None

    def feeds(self) -> dict[str, Array]:
        """By the names of the denoiser's inputs."""
        named = {
            "encoder_hidden_states": self.hidden_states,
            "text_embeds": self.pooled,
            "time_ids": self.time_ids,
        }
        return {name: value for name, value in named.items() if value is not None}

    def beside(self, other: Conditions) -> Conditions:
        """These rows, then the other's."""

        def both(mine: Array | None, theirs: Array | None) -> Array | None:
            return None if mine is None or theirs is None else np.concatenate([mine, theirs])

        return Conditions(
            hidden_states=np.concatenate([self.hidden_states, other.hidden_states]),
            pooled=both(self.pooled, other.pooled),
            time_ids=both(self.time_ids, other.time_ids),
        )

    def repeated(self, count: int) -> Conditions:
        """Every row `count` times: images of one prompt differ by their noise alone."""

        def rows(array: Array | None) -> Array | None:
            return None if array is None else np.repeat(array, count, axis=0)

        return Conditions(
            hidden_states=np.repeat(self.hidden_states, count, axis=0),
            pooled=rows(self.pooled),
            time_ids=rows(self.time_ids),
        )

    def without_text(self) -> Conditions:
        """The same with zeros in place of what the text gave (SDXL's `force_zeros_for_empty_prompt`)."""
        return Conditions(
            hidden_states=np.zeros_like(self.hidden_states),
            pooled=None if self.pooled is None else np.zeros_like(self.pooled),
            time_ids=self.time_ids,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """One text encoder with its tokenizer, by its names in the folder."""

    component: str
    tokenizer: Tokenizer
    config: clip.ClipTextConfig

    @property
    def last_but_one(self) -> str:
        """The output that transformers calls `hidden_states[-2]`."""
        return f"hidden_states.{self.config.layers - 1}"


class TextEncoding:
    """The text encoders of one pipeline."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.encoders = tuple(
            Encoder(
                component=name,
                tokenizer=Tokenizer.from_folder(
                    engine.folder.path / name.replace("text_encoder", "tokenizer")
                ),
                config=clip.parse(engine.folder.blueprint(name).config),
            )
            for name in ("text_encoder", "text_encoder_2")
            if engine.has(name)
        )

    def tokens(self, prompt: str) -> tuple[Tokens, ...]:
        """The prompt as each encoder takes it."""
        return tuple(
            encoder.tokenizer.encode(prompt, encoder.config.max_positions) for encoder in self.encoders
        )

    def encode(self, prompts: Sequence[str], time_ids: Sequence[float] | None) -> Conditions:
        """The conditions of prompts, one row each.

        Args:
            prompts: at least one.
            time_ids: SDXL's size conditions; None for a model without, whose last hidden state is taken.
        """
        if time_ids is None:
            (encoder,) = self.encoders
            return Conditions(hidden_states=self._run(encoder, prompts, "last_hidden_state")[0])
        *others, last = self.encoders
        states = [self._run(encoder, prompts, encoder.last_but_one)[0] for encoder in others]
        state, pooled = self._run(last, prompts, last.last_but_one, "text_embeds")
        return Conditions(
            hidden_states=np.concatenate([*states, state], axis=-1),
            pooled=pooled,
            time_ids=np.tile(np.array(time_ids, np.float32), (len(prompts), 1)),
        )

    def _run(self, encoder: Encoder, prompts: Sequence[str], *wanted: str) -> list[Array]:
        """The wanted outputs in float32."""
        length = encoder.config.max_positions
        ids = np.array([encoder.tokenizer.encode(prompt, length).ids for prompt in prompts], np.int64)
        sizes = {"batch": len(prompts), "sequence": length}
        outputs = self._engine.run(encoder.component, sizes, {"input_ids": ids}, *wanted)
        for output in outputs.values():
            require_finite(output, encoder.component)
        return [outputs[name].astype(np.float32) for name in wanted]
