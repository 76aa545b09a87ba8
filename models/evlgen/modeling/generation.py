"""Decoding: greedy, beam search and sampling through transformers' `generate`, from prefix embeddings.

All prefixes of a batch have one length, so nothing is padded on the left and a batch of one equals a batch of many.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from evlgen.modeling.language import FrozenLanguageModel


@dataclass
class CaptionOutput:
    """Generated captions.

    Attributes:
        sequences: (B, T) token ids, padded after their end token with the end token.
        token_counts: (B,) tokens of each caption, end token included.
        log_probabilities: (B,) log-probability of the whole caption under the model, in nats.
        texts: the captions.
    """

    sequences: Tensor
    token_counts: Tensor
    log_probabilities: Tensor = field(default_factory=lambda: torch.zeros(0))
    texts: list[str] = field(default_factory=list)

    def token_ids(self) -> list[list[int]]:
        """Token ids of each caption without padding."""
        return [row[:n].tolist() for row, n in zip(self.sequences, self.token_counts.tolist(), strict=True)]


def generate_captions(
    language: FrozenLanguageModel,
    prefix_BPW: Tensor,
    *,
    num_beams: int,
    max_new_tokens: int = 30,
    min_new_tokens: int = 0,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    length_penalty: float = 1.0,
    seed: int | None = None,
) -> CaptionOutput:
    """Continue prefixes (B, P, W); see `EVLGenForConditionalGeneration.generate` for the arguments."""
    end = language.end_token_id
    options: dict[str, Any] = {
        "num_beams": num_beams,
        "max_new_tokens": max_new_tokens,
        "min_new_tokens": min_new_tokens,
        "do_sample": do_sample,
        "repetition_penalty": 1.0,  # some models bring another one in their own generation settings
        "eos_token_id": end,
        "pad_token_id": end,
        "bos_token_id": end,
    }
    if do_sample:
        options |= {"temperature": temperature, "top_p": top_p, "top_k": 0}
    if num_beams > 1:
        options |= {"length_penalty": length_penalty, "early_stopping": False}
    prefix = prefix_BPW.to(language.embedding_weight.dtype)
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        sequences: Tensor = language.model.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(prefix.shape[:2], dtype=torch.int64, device=prefix.device),
            **options,
        )
    is_end = sequences == end
    first_end = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, sequences.shape[1])
    return CaptionOutput(sequences.cpu(), first_end.cpu())
