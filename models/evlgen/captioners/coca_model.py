"""CoCa of open_clip as a model of transformers, so that its `generate` searches: features of clips in, logits out.

Its decoder keeps nothing between steps: every token runs all of the caption again, at most 76 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class CoCaConfig(PreTrainedConfig):  # type: ignore[misc]
    """What `generate` asks of a model."""

    model_type = "coca"


class CoCaTokenizer:
    """open_clip's tokenizer with what captioners ask of one."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.tokenizer = self
        self.begin_id, self.end_id = tokenizer.sot_token_id, tokenizer.eot_token_id

    def begun(self, prompt: str) -> list[int]:
        """The tokens that a caption goes on from."""
        return [self.begin_id, *self._tokenizer.encode(prompt)]

    def batch_decode(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = True) -> list[str]:
        """The text of each row, without the tokens that begin and end captions."""
        specials = {self.begin_id, self.end_id, 0}
        return [self._tokenizer.decode([token for token in row if token not in specials]) for row in rows]


class CoCaWriter(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Writes captions behind features of clips.

    Args:
        coca: of open_clip.
        words: its tokenizer.
        mean: pool every frame by itself and take the mean over frames, instead of pooling all frames together.
    """

    config_class = CoCaConfig
    main_input_name = "input_ids"
    _is_stateful = False

    def __init__(self, coca: Any, words: CoCaTokenizer, *, mean: bool) -> None:
        super().__init__(CoCaConfig(is_encoder_decoder=False))
        self.coca, self.mean = coca, mean
        self.generation_config = GenerationConfig(
            bos_token_id=words.begin_id, eos_token_id=words.end_id, pad_token_id=coca.pad_id, use_cache=False
        )
        self._frames = 1
        coca.visual.attn_pool.register_forward_pre_hook(self._together)

    def _together(self, module: Any, tokens: tuple[Tensor]) -> tuple[Tensor]:
        """(B F, N, D) tokens of frames as (B, F N, D) tokens of clips, unless frames are pooled apart."""
        return tokens if self.mean else (tokens[0].reshape(-1, self._frames * tokens[0].shape[1], tokens[0].shape[2]),)

    def look(self, pixels: Tensor, frames: int) -> Tensor:
        """(B, Q, D) features of clips from (B F, 3, H, W) pixels, frames of a clip one after the other."""
        self._frames = frames
        with torch.inference_mode():
            tokens: Tensor = self.coca.visual(pixels.to(self.device, self.dtype))[1]
        return tokens.reshape(-1, frames, *tokens.shape[1:]).mean(1) if self.mean else tokens

    def forward(self, input_ids: Tensor, features: Tensor, **others: Any) -> CausalLMOutput:
        """Logits (B, T, V) of the next token behind every token of (B, T)."""
        _, embedded = self.coca.text(input_ids)
        return CausalLMOutput(logits=self.coca.text_decoder(features, embedded))

    def prepare_inputs_for_generation(self, input_ids: Tensor, features: Tensor, **others: Any) -> dict[str, Tensor]:
        """What `forward` takes: nothing is kept between steps."""
        return {"input_ids": input_ids, "features": features}
