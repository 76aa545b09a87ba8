"""Sampling captions for self-critical training: K samples and the greedy caption of a video behind one prefix.

The prefix runs once and is not copied (`SharedPrefix`). Captions that have ended cost nothing once the longest-lived
item has fewer left, and items without a caption to go on with leave the batch. Every caption has random numbers of its
own, drawn before the first step: what is sampled does not depend on when others end.

Shapes: B items, P prefix tokens, K samples, T tokens of the longest caption, W width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evlgen.errors import UsageError
from evlgen.modeling.distribution import SamplingDistribution, draw
from evlgen.modeling.language_model import LanguageModel
from evlgen.modeling.prefix_cache import SharedPrefix

LEAVE_AT = 0.125
"""Items leave the batch when they are this share of it: leaving copies the cache of those that stay."""


@dataclass
class SampledCaptions:
    """Captions of a batch, K of each item, on the CPU.

    Attributes:
        sequences: (B, K, T) token ids, padded with the end token.
        token_counts: (B, K) tokens of each caption, end token included.
        ended: (B, K) whether the end token was drawn; False where `max_new_tokens` cut the caption off.
        log_probabilities: (B, K) log-probability of the whole caption under the distribution it was drawn from, in
            nats, float32. A cut caption has no factor for an end token.
    """

    sequences: Tensor
    token_counts: Tensor
    ended: Tensor
    log_probabilities: Tensor

    def token_ids(self) -> list[list[list[int]]]:
        """Token ids of each item's captions without padding; what `pack_captions` takes."""
        rows = zip(self.sequences.tolist(), self.token_counts.tolist(), strict=True)
        return [[ids[:n] for ids, n in zip(item, counts, strict=True)] for item, counts in rows]


@torch.no_grad()
def sample_captions(
    language: LanguageModel,
    prefix_BPW: Tensor,
    *,
    samples: int,
    prompts: Sequence[Sequence[int]] | None = None,
    greedy: bool = False,
    max_new_tokens: int = 30,
    min_new_tokens: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int | Sequence[int] | None = None,
    processors: Any = None,
    on_tokens: Callable[[int], None] | None = None,
) -> tuple[SampledCaptions, SampledCaptions | None]:
    """Draw captions behind prefixes.

    Args:
        language: the frozen language model.
        prefix_BPW: what stands before a caption (`EVLGenForConditionalGeneration.prefix`).
        prompts: token ids that follow the prefix, one list an item.
        samples: K, captions drawn for each item, independently; 0 is allowed with `greedy`.
        greedy: also decode the most likely token at every step (temperature and nucleus do not change it).
        max_new_tokens: longest caption in tokens, end token included.
        min_new_tokens: shortest caption in tokens, end token not included, as in transformers.
        temperature: of the sampling distribution.
        top_p: nucleus of the sampling distribution.
        seed: makes sampling repeatable: one number for the same batch in the same order, or one an item, which then
            gets the same samples in whatever batch it is; None takes torch's global generator.
        processors: a LogitsProcessorList of transformers; it changes logits before temperature and nucleus do.
        on_tokens: told after every step how many items have one more token.

    Returns:
        The samples, and the greedy captions with K = 1, or None.

    Raises:
        UsageError: nothing to do, or a setting out of range.
    """
    if samples < 0 or samples + greedy < 1:
        raise UsageError(f"{samples} samples and no greedy caption", "ask for one sample or more, or for greedy")
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens is {max_new_tokens}, expected 1 or more")
    end, device = language.end_token_id, prefix_BPW.device
    distribution = SamplingDistribution(end, temperature, top_p, min_new_tokens)
    batch, width = len(prefix_BPW), samples + greedy
    uniform = torch.full((batch, width, max_new_tokens), -1.0, dtype=torch.float64)  # stays so for the greedy caption
    uniform[:, :samples] = _random_numbers((batch, samples, max_new_tokens), seed)
    uniform = uniform.to(device)

    sequences = torch.full((batch, width, max_new_tokens), end, device=device)
    log_p = torch.zeros(batch, width, dtype=torch.float64, device=device)
    counts = torch.full((batch, width), max_new_tokens, device=device)
    live = torch.ones(batch, width, dtype=torch.bool, device=device)

    shared = SharedPrefix(language, prefix_BPW, prompts)
    items = torch.arange(batch, device=device)  # which item a row of the block is
    slots = torch.arange(width, device=device).expand(batch, width)  # which caption a place of the block is
    logits = language.logits(shared.last_hidden_BW)[items.repeat_interleave(width)]
    for t in range(max_new_tokens):
        row, place = live[items.unsqueeze(1), slots].nonzero(as_tuple=True)
        item, slot = items[row], slots[row, place]
        if processors is not None:
            logits = processors(sequences[item, slot, :t], _full_precision(logits))
        if on_tokens is not None:
            on_tokens(len(items))
        offset = torch.full_like(item, t)
        restricted = distribution.restrict_(_full_precision(logits), offset)
        token, token_log_p = draw(restricted, uniform[item, slot, t])
        sequences[item, slot, t] = token
        log_p[item, slot] += token_log_p
        ended = token == end
        live[item[ended], slot[ended]] = False
        counts[item[ended], slot[ended]] = t + 1
        if t + 1 == max_new_tokens or not live.any():
            break
        items, slots = _compact(shared, live, items, slots)
        hidden = shared.step(sequences[items.unsqueeze(1), slots, t])
        logits = language.logits(hidden[live[items.unsqueeze(1), slots]])
    longest = int(counts.max())
    parts = (sequences[..., :longest].cpu(), counts.cpu(), ~live.cpu(), log_p.float().cpu())
    best = SampledCaptions(*(p[:, samples:] for p in parts)) if greedy else None
    return SampledCaptions(*(p[:, :samples] for p in parts)), best


def _random_numbers(shape: tuple[int, int, int], seed: int | Sequence[int] | None) -> Tensor:
    if seed is None or isinstance(seed, int):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return torch.rand(shape, dtype=torch.float64, generator=generator)
    assert len(seed) == shape[0], "one seed an item"
    return torch.stack(
        [torch.rand(shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in seed]
    )


def _compact(shared: SharedPrefix, live: Tensor, items: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out items that are done and as many places as no item needs."""
    left = live[items].any(1)
    if (~left).sum() >= LEAVE_AT * len(items):
        kept = left.nonzero().squeeze(1)
        shared.keep(kept)
        items, slots = items[kept], slots[kept]
    going = live[items.unsqueeze(1), slots]
    most = int(going.sum(1).max())
    if most < slots.shape[1] or len(shared.sees_BQC[0]) != slots.shape[1]:
        order = going.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        if shared.sees_BQC.shape[2]:
            shared.select(order)
        slots = slots.gather(1, order)
    return items, slots


def _full_precision(logits: Tensor) -> Tensor:
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
