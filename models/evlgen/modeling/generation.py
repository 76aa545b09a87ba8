"""Decoding: greedy, beam search and sampling through transformers' `generate`, from prefix embeddings.

Prefixes of a batch have one length, unless prompts of different lengths follow the soft prompts: those are padded on
the left, where a mask hides the padding and positions start behind it, so that a batch of one equals a batch of many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteriaList,
)

from evlgen.errors import UsageError
from evlgen.modeling.language import FrozenLanguageModel


@dataclass
class CaptionOutput:
    """Generated captions; where K are asked for, B stands for B x K: those of an item follow each other, best first.

    Attributes:
        sequences: (B, T) token ids, padded after their end token with the end token.
        token_counts: (B,) tokens of each caption, end token included.
        log_probabilities: (B,) log-probability of the whole caption under the model, in nats; penalties of the search
            are no part of it.
        texts: the captions.
    """

    sequences: Tensor
    token_counts: Tensor
    log_probabilities: Tensor = field(default_factory=lambda: torch.zeros(0))
    texts: list[str] = field(default_factory=list)

    def token_ids(self) -> list[list[int]]:
        """Token ids of each caption without padding."""
        return [row[:n].tolist() for row, n in zip(self.sequences, self.token_counts.tolist(), strict=True)]


def append_prompts(
    language: FrozenLanguageModel, prefix_BPW: Tensor, prompts: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Prefixes with prompts behind them (B, T, W), padded on the left, and the mask (B, T) that is 0 in the padding.

    Args:
        language: whose embeddings prompts get.
        prefix_BPW: prefixes of one length.
        prompts: token ids, one list an item; it may be empty.
    """
    longest = max(len(ids) for ids in prompts)
    batch, prefix, width = prefix_BPW.shape
    joined = prefix_BPW.new_zeros(batch, prefix + longest, width)
    mask = torch.zeros(batch, prefix + longest, dtype=torch.int64, device=prefix_BPW.device)
    for b, ids in enumerate(prompts):
        start = longest - len(ids)
        joined[b, start : start + prefix] = prefix_BPW[b]
        if ids:
            embedded = language.embed(torch.tensor(ids, device=prefix_BPW.device))
            joined[b, start + prefix :] = embedded.to(joined.dtype)
        mask[b, start:] = 1
    return joined, mask


def _reporter(on_tokens: Callable[[int], None], items: int) -> Callable[..., Tensor]:
    """A criterion that stops nothing: it tells after every step that each of `items` captions has one more token."""

    def tell(input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        on_tokens(items)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    return tell


def _against_repeats(no_repeat_ngram: int, repetition_penalty: float) -> LogitsProcessorList:
    """What changes the scores of tokens that were written before.

    It is made here, not by `generate`: that is given embeddings, takes the padding in front of them for tokens of the
    caption, and leaves so many of its first tokens without a penalty.
    """
    found: list[Any] = []
    if repetition_penalty != 1.0:
        found.append(RepetitionPenaltyLogitsProcessor(repetition_penalty))
    if no_repeat_ngram:
        found.append(NoRepeatNGramLogitsProcessor(no_repeat_ngram))
    return LogitsProcessorList(found)


def generate_captions(
    language: FrozenLanguageModel,
    prefix_BPW: Tensor,
    *,
    num_beams: int,
    mask_BP: Tensor | None = None,
    max_new_tokens: int = 30,
    min_new_tokens: int = 0,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    length_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    repetition_penalty: float = 1.0,
    num_captions: int = 1,
    seed: int | None = None,
    on_tokens: Callable[[int], None] | None = None,
) -> CaptionOutput:
    """Continue prefixes (B, P, W); see `EVLGenForConditionalGeneration.generate` for the arguments.

    Args:
        language: the frozen language model.
        prefix_BPW: what stands before a caption.
        mask_BP: 0 in padding on the left, 1 elsewhere; None: there is no padding.

    Raises:
        UsageError: more captions an item than beams.
    """
    if num_captions > num_beams and not do_sample:
        raise UsageError(f"{num_captions} captions of one search need as many beams, not {num_beams}")
    end = language.end_token_id
    options: dict[str, Any] = {
        "num_beams": num_beams,
        "max_new_tokens": max_new_tokens,
        "min_new_tokens": min_new_tokens,
        "do_sample": do_sample,
        "repetition_penalty": 1.0,  # some models bring another one in their own generation settings; ours is below
        "num_return_sequences": num_captions,
        "eos_token_id": end,
        "pad_token_id": end,
        "bos_token_id": end,
    }
    if do_sample:
        options |= {"temperature": temperature, "top_p": top_p, "top_k": 0}
    if num_beams > 1:
        options |= {"length_penalty": length_penalty, "early_stopping": False}
    prefix = prefix_BPW.to(language.embedding_weight.dtype)
    if mask_BP is None:
        mask_BP = torch.ones(prefix.shape[:2], dtype=torch.int64, device=prefix.device)
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        sequences: Tensor = language.model.generate(
            inputs_embeds=prefix,
            attention_mask=mask_BP,
            stopping_criteria=StoppingCriteriaList([] if on_tokens is None else [_reporter(on_tokens, len(prefix))]),
            logits_processor=_against_repeats(no_repeat_ngram, repetition_penalty),
            **options,
        )
    is_end = sequences == end
    first_end = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, sequences.shape[1])
    return CaptionOutput(sequences.cpu(), first_end.cpu())
