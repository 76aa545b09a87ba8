"""Captions by transformers' own `generate`, for benchmarks to measure our decoding against.

It runs the prefix of an item once for every beam, and every beam of a batch until the last one has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.prefix_cache import append_prompts
from evlgen.modeling.tags import Tag


@torch.no_grad()
def transformers_captions(
    model: EVLGenForConditionalGeneration,
    soft_prompts_BQW: Tensor,
    tags: Sequence[Sequence[Tag]] | None = None,
    *,
    num_beams: int = 1,
    **options: Any,
) -> list[list[int]]:
    """Token ids of one caption an item, without padding.

    Args:
        model: its language model writes.
        soft_prompts_BQW: of the items.
        tags: of the items; None: none are read.
        num_beams: 1 is greedy, or sampling.
        options: of `generate`.
    """
    language = model.language
    prefix, seen = language.split(model.prefix(soft_prompts_BQW))
    prefix = prefix.to(language.embedding_weight.dtype)
    mask = torch.ones(prefix.shape[:2], dtype=torch.int64)
    prompts = model.tag_prompts(tags or [])
    if any(prompts):
        prefix, mask = append_prompts(language, prefix, prompts)
    end = language.end_token_id
    if seen is not None:  # `generate` repeats what it is given, and knows nothing of what layers look at
        seen = seen[torch.arange(len(prefix)).repeat_interleave(num_beams)]
    with language.looking_at(seen):
        sequences: Tensor = language.model.generate(
            inputs_embeds=prefix, attention_mask=mask, num_beams=num_beams,
            **{"do_sample": False, "max_new_tokens": 30, "top_k": 0 if options.get("do_sample") else None} | options,
            repetition_penalty=1.0, eos_token_id=end, pad_token_id=end, bos_token_id=end,
        )  # fmt: skip
    return [ids[: ids.index(end) + 1] if end in ids else ids for ids in sequences.tolist()]
