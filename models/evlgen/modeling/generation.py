"""Decoding from prefix embeddings: greedy, beam search and sampling, with the captions of transformers' `generate`.

All of it runs behind a prefix that runs once (prefix_cache.py). What changes the scores of next tokens by the tokens so
far is transformers' own: its logits processors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from evlgen.modeling.beams import beam_captions
from evlgen.modeling.language_model import LanguageModel
from evlgen.modeling.sampling import sample_captions
from evlgen.modeling.tags import Tag


@dataclass
class CaptionOutput:
    """Generated captions; where K are asked for, B stands for B x K: those of an item follow each other, best first.

    Attributes:
        sequences: (B, T) token ids, padded after their end token with the end token.
        token_counts: (B,) tokens of each caption, end token included.
        log_probabilities: (B,) log-probability of the whole caption under the model, in nats; penalties of the search
            are no part of it.
        texts: the captions.
        tags: of every item, where the model has tags.
    """

    sequences: Tensor
    token_counts: Tensor
    log_probabilities: Tensor = field(default_factory=lambda: torch.zeros(0))
    texts: list[str] = field(default_factory=list)
    tags: list[list[Tag]] = field(default_factory=list)

    def token_ids(self) -> list[list[int]]:
        """Token ids of each caption without padding."""
        return [row[:n].tolist() for row, n in zip(self.sequences, self.token_counts.tolist(), strict=True)]


def generate_captions(
    language: LanguageModel,
    prefix_BPW: Tensor,
    options: DecodingOptions,
    *,
    prompts: Sequence[Sequence[int]] | None = None,
    on_tokens: Callable[[int], None] | None = None,
) -> CaptionOutput:
    """Continue prefixes (B, P, W).

    Args:
        language: the frozen language model.
        prefix_BPW: what stands before a caption.
        options: of the search, or of sampling.
        prompts: token ids that follow the prefix, one list an item.
        on_tokens: called after every step with the number of tokens that it wrote.

    Returns:
        Captions; log-probabilities of samples are those of the distribution they were drawn from.

    Raises:
        UsageError: more captions an item than beams.
    """
    count, sampled = options.num_captions, options.do_sample
    if count > options.num_beams and not sampled:
        raise UsageError(f"{count} captions of one search need as many beams, not {options.num_beams}")
    common: dict[str, Any] = {
        "prompts": prompts, "max_new_tokens": options.max_new_tokens, "processors": _processors(language, options),
        "on_tokens": on_tokens,
    }  # fmt: skip
    if sampled:
        found, _ = sample_captions(
            language, prefix_BPW, samples=count, min_new_tokens=options.min_new_tokens,
            temperature=options.temperature, top_p=options.top_p,
            seed=options.seed, **common,
        )  # fmt: skip
    else:
        found = beam_captions(
            language, prefix_BPW, beams=options.num_beams, length_penalty=options.length_penalty, **common
        )
    sequences, counts, log_p = (
        part[:, :count].flatten(0, 1) for part in (found.sequences, found.token_counts, found.log_probabilities)
    )
    return CaptionOutput(sequences, counts, log_p)


def _processors(language: LanguageModel, options: DecodingOptions) -> Any:
    """A LogitsProcessorList, which changes the scores of next tokens, in transformers' order; None: nothing does."""
    searched = options.min_new_tokens and not options.do_sample
    if not searched and options.repetition_penalty == 1.0 and not options.no_repeat_ngram:
        return None
    from transformers import (
        LogitsProcessorList,
        MinNewTokensLengthLogitsProcessor,
        NoRepeatNGramLogitsProcessor,
        RepetitionPenaltyLogitsProcessor,
    )

    found: list[Any] = []
    if searched:  # samples see to it themselves
        device = str(language.embedding_weight.device)
        found.append(MinNewTokensLengthLogitsProcessor(0, options.min_new_tokens, language.end_token_id, device=device))
    if options.repetition_penalty != 1.0:
        found.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
    if options.no_repeat_ngram:
        found.append(NoRepeatNGramLogitsProcessor(options.no_repeat_ngram))
    return LogitsProcessorList(found)
